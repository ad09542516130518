#include "guest/http_client.h"

#include <charconv>
#include <chrono>

#include <fmt/format.h>

#include "base/unix_socket.h"
#include "guest/http_message.h"

namespace gangway::guest {
namespace {

constexpr std::chrono::seconds kPatience{5};  // until the guest takes the connection

Result<int> status_of(const std::string& line) {
  int status = 0;
  if (line.starts_with("HTTP/1.") && line.size() >= 12) {
    std::from_chars(line.data() + 9, line.data() + 12, status);
  }
  if (status < 100) return fail(EBADMSG, "the reply is not HTTP");
  return status;
}

Result<std::string> read_chunks(HttpReader& reader, const std::function<void(std::string_view)>& on_part) {
  std::string body;
  while (true) {
    auto chunk = reader.read_chunk();
    if (!chunk) return chunk;
    if (chunk->empty()) return body;
    if (on_part) {
      on_part(*chunk);
    } else {
      body += *chunk;
    }
    if (body.size() > HttpReader::kMaxBody) return fail(EMSGSIZE, "the reply is too long");
  }
}

Result<std::string> read_reply_body(HttpReader& reader, const HttpHead& head,
                                    const std::function<void(std::string_view)>& on_part) {
  const auto encoding = head.headers.find("transfer-encoding");
  if (encoding != head.headers.end() && encoding->second == "chunked") return read_chunks(reader, on_part);
  if (!head.headers.contains("content-length")) return reader.read_rest();
  const auto size = body_size(head);
  if (!size) return std::unexpected(size.error());
  return reader.read_body(*size);
}

}  // namespace

Result<HttpReply> http_call(const std::filesystem::path& socket, std::string_view method, std::string_view path,
                            std::string_view body, const std::function<void(std::string_view)>& on_part) {
  const auto connection = connect_unix(socket, kPatience);
  if (!connection) return std::unexpected(connection.error());
  const std::string request =
      fmt::format("{} {} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{}", method,
                  path, body.size(), body);
  if (auto sent = write_all(connection->get(), request); !sent) return std::unexpected(sent.error());
  HttpReader reader(connection->get());
  const auto head = reader.read_head();
  if (!head) return std::unexpected(head.error());
  const auto status = status_of(head->first_line);
  if (!status) return std::unexpected(status.error());
  auto content = read_reply_body(reader, *head, on_part);
  if (!content) return std::unexpected(content.error());
  return HttpReply{*status, std::move(*content)};
}

}  // namespace gangway::guest
