#include "vfio_user/server_loop.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>

#include "base/log.h"

namespace gangway {
namespace {

constexpr int kPauseMs = 100;

Result<int> socket_option(const Fd& socket, int option) {
  int value = 0;
  socklen_t size = sizeof value;
  if (::getsockopt(socket.get(), SOL_SOCKET, option, &value, &size) != 0) return fail_errno("adopt a socket");
  return value;
}

// A client that keeps to the protocol may end at any time; the rest is said aloud.
bool is_plain_end(const Error& error) {
  return error.code == ECONNRESET || error.code == EPIPE || error.code == ECANCELED;
}

}  // namespace

Result<std::unique_ptr<Server::Loop>> Server::Loop::create(Fd socket, SocketFile file, Endpoint& endpoint,
                                                           ServerOptions options) {
  const Result<int> domain = socket_option(socket, SO_DOMAIN);
  if (!domain) return std::unexpected(domain.error());
  if (*domain != AF_UNIX) return fail(EINVAL, "a server needs a UNIX socket");
  const Result<int> listening = socket_option(socket, SO_ACCEPTCONN);
  if (!listening) return std::unexpected(listening.error());

  std::unique_ptr<Loop> loop(new Loop);
  loop->stop_event_ = Fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!loop->stop_event_) return fail_errno("make an eventfd");
  loop->socket_ = std::move(socket);
  loop->listening_ = *listening != 0;
  if (loop->listening_) ::fcntl(loop->socket_.get(), F_SETFL, O_NONBLOCK);
  loop->name_ = file.path().empty() ? "device" : file.path().string();
  loop->file_ = std::move(file);
  loop->endpoint_ = &endpoint;
  loop->options_ = options;
  return loop;
}

Server::Loop::~Loop() { stop(); }

Result<void> Server::Loop::start() {
  const std::scoped_lock lock(mutex_);
  if (stopping_ || thread_.joinable()) return fail(EALREADY, "the server was started before");
  ended_ = false;
  thread_ = std::thread([this] { run(); });
  return {};
}

void Server::Loop::stop() {
  std::thread thread;
  {
    const std::scoped_lock lock(mutex_);
    stopping_ = true;
    const std::uint64_t one = 1;
    (void)!::write(stop_event_.get(), &one, sizeof one);
    if (connection_ != nullptr) connection_->close(Error{ECANCELED, "the server stops", {}});
    thread = std::move(thread_);
  }
  if (thread.joinable()) thread.join();
  wait();
  file_.remove();
}

void Server::Loop::wait() {
  std::unique_lock lock(mutex_);
  ended_changed_.wait(lock, [this] { return ended_; });
}

Server::Statistics Server::Loop::statistics() const {
  return {.clients = counters_.clients.load(),
          .messages = counters_.messages.load(),
          .refused = counters_.refused.load(),
          .closed = counters_.closed.load()};
}

void Server::Loop::run() {
  if (listening_) {
    while (std::optional<Fd> client = accept_client()) serve(*std::move(client));
  } else {
    serve(std::move(socket_));
  }
  const std::scoped_lock lock(mutex_);
  ended_ = true;
  ended_changed_.notify_all();
}

std::optional<Fd> Server::Loop::accept_client() {
  for (;;) {
    std::array<pollfd, 2> events{{{socket_.get(), POLLIN, 0}, {stop_event_.get(), POLLIN, 0}}};
    ::poll(events.data(), events.size(), -1);
    if (events[1].revents != 0) return std::nullopt;
    if (events[0].revents == 0) continue;
    Fd client(::accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (client) return client;
    if (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED) continue;
    log::warn("accept a client: {}; trying again", strerrordesc_np(errno));
    if (!pause()) return std::nullopt;
  }
}

bool Server::Loop::pause() {
  pollfd stop{stop_event_.get(), POLLIN, 0};
  return ::poll(&stop, 1, kPauseMs) == 0;
}

void Server::Loop::serve(Fd socket) {
  watch_.client_came();
  vfio_user::Connection connection(std::move(socket), name_, *endpoint_, options_, counters_, watch_);
  {
    const std::scoped_lock lock(mutex_);
    if (stopping_) return;
    connection_ = &connection;
  }
  const Error reason = connection.run();
  {
    const std::scoped_lock lock(mutex_);
    connection_ = nullptr;
  }
  if (is_plain_end(reason)) {
    log::debug("client gone: {}", reason.message);
  } else {
    counters_.closed.fetch_add(1);
    log::warn("connection closed: {}", reason.message);
  }
  if (const Result<void> gone = endpoint_->client_gone(); !gone) {
    log::error("free the device for the next client: {}", gone.error().message);
  }
}

}  // namespace gangway
