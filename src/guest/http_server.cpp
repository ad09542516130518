#include "guest/http_server.h"

#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <fmt/format.h>

#include "base/log.h"
#include "guest/http_message.h"

namespace gangway::guest {
namespace {

constexpr timeval kPatience{.tv_sec = 10, .tv_usec = 0};  // with a client that neither sends nor takes

std::string_view reason(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 400:
      return "Bad Request";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 409:
      return "Conflict";
    case 503:
      return "Service Unavailable";
    default:
      return "Error";
  }
}

std::string head_of(const HttpResponse& response, std::string_view body_header) {
  return fmt::format("HTTP/1.1 {} {}\r\nContent-Type: {}\r\n{}\r\nConnection: close\r\n\r\n", response.status,
                     reason(response.status), response.content_type, body_header);
}

HttpResponse plain(int status, std::string text) {
  return {.status = status, .content_type = "text/plain", .body = std::move(text) + "\n"};
}

Result<HttpRequest> read_request(int socket) {
  HttpReader reader(socket);
  auto head = reader.read_head();
  if (!head) return std::unexpected(head.error());
  const std::string& line = head->first_line;
  const auto first = line.find(' ');
  const auto second = line.find(' ', first == std::string::npos ? first : first + 1);
  if (second == std::string::npos || !line.substr(second + 1).starts_with("HTTP/1.")) {
    return fail(EBADMSG, "not an HTTP/1 request");
  }
  const auto size = body_size(*head);
  if (!size) return std::unexpected(size.error());
  auto body = reader.read_body(*size);
  if (!body) return std::unexpected(body.error());
  return HttpRequest{line.substr(0, first), line.substr(first + 1, second - first - 1), std::move(*body)};
}

}  // namespace

Result<std::unique_ptr<HttpServer>> HttpServer::listen(const std::filesystem::path& socket, Handler handler) {
  auto listener = listen_unix(socket);
  if (!listener) return std::unexpected(listener.error());
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(*listener), std::move(handler)));
}

HttpServer::HttpServer(UnixListener listener, Handler handler)
    : listener_(std::move(listener)), handler_(std::move(handler)) {
  acceptor_ = std::thread([this] { accept_all(); });
}

HttpServer::~HttpServer() {
  {
    const std::scoped_lock lock(mutex_);
    stopping_ = true;
    // Ends reading; an answer that is being written is written.
    for (const Connection& connection : connections_) ::shutdown(connection.socket.get(), SHUT_RD);
  }
  ::shutdown(listener_.socket.get(), SHUT_RDWR);  // ends accept()
  acceptor_.join();
  for (Connection& connection : connections_) connection.thread.join();
}

void HttpServer::accept_all() {
  while (true) {
    Fd socket(::accept4(listener_.socket.get(), nullptr, nullptr, SOCK_CLOEXEC));
    const int error = errno;
    join_finished();
    const std::scoped_lock lock(mutex_);
    if (stopping_) return;
    if (!socket) {
      if (error == EINTR || error == ECONNABORTED) continue;
      return log::error("the control socket takes no more requests: {}", fail_errno("accept", error).error().message);
    }
    ::setsockopt(socket.get(), SOL_SOCKET, SO_RCVTIMEO, &kPatience, sizeof kPatience);
    ::setsockopt(socket.get(), SOL_SOCKET, SO_SNDTIMEO, &kPatience, sizeof kPatience);
    if (connections_.size() >= kMaxConnections) {
      answer(socket.get(), plain(503, "too many requests at once"));
      continue;
    }
    Connection& connection = connections_.emplace_back();
    connection.socket = std::move(socket);
    connection.thread = std::thread([this, &connection] {
      serve(connection.socket.get());
      ::shutdown(connection.socket.get(), SHUT_RDWR);
      const std::scoped_lock done_lock(mutex_);
      connection.done = true;
    });
  }
}

void HttpServer::join_finished() {
  std::list<Connection> finished;
  {
    const std::scoped_lock lock(mutex_);
    for (auto connection = connections_.begin(); connection != connections_.end();) {
      const auto next = std::next(connection);
      if (connection->done) finished.splice(finished.end(), connections_, connection);
      connection = next;
    }
  }
  for (Connection& connection : finished) connection.thread.join();
}

void HttpServer::serve(int socket) {
  const auto request = read_request(socket);
  if (!request) return answer(socket, plain(400, request.error().message));
  answer(socket, handler_(*request));
}

void HttpServer::answer(int socket, const HttpResponse& response) {
  // A client that is gone needs no answer, so what writing says matters only to a stream.
  if (!response.stream) {
    const auto sent =
        write_all(socket, head_of(response, fmt::format("Content-Length: {}", response.body.size())) + response.body);
    if (!sent) log::debug("control: {}", sent.error().message);
    return;
  }
  if (!write_all(socket, head_of(response, "Transfer-Encoding: chunked"))) return;
  response.stream([socket](std::string_view part) {
    return part.empty() || write_all(socket, fmt::format("{:x}\r\n{}\r\n", part.size(), part)).has_value();
  });
  if (auto sent = write_all(socket, "0\r\n\r\n"); !sent) log::debug("control: {}", sent.error().message);
}

}  // namespace gangway::guest
