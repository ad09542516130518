#include "guest/http_message.h"

#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>

#include <fmt/format.h>

namespace gangway::guest {
namespace {

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kBlank = " \t\r\n";
  const auto first = text.find_first_not_of(kBlank);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kBlank) - first + 1);
}

std::string lower(std::string_view text) {
  std::string result(text);
  std::ranges::transform(result, result.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return result;
}

std::optional<std::size_t> parse_number(std::string_view text, int base) {
  std::size_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (error != std::errc{} || end != text.data() + text.size() || text.empty()) return std::nullopt;
  return value;
}

}  // namespace

Result<bool> HttpReader::read_more() {
  std::array<char, 4096> piece;
  while (true) {
    const ssize_t size = ::recv(socket_, piece.data(), piece.size(), 0);
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) return fail_errno("read from the control socket");
    buffer_.append(piece.data(), static_cast<std::size_t>(size));
    return size > 0;
  }
}

Result<std::string> HttpReader::read_line(std::size_t limit) {
  while (true) {
    if (const auto end = buffer_.find('\n'); end != std::string::npos) {
      if (end > limit) return fail(EMSGSIZE, fmt::format("a line of more than {} bytes", limit));
      std::string line(trimmed(std::string_view(buffer_).substr(0, end)));
      buffer_.erase(0, end + 1);
      return line;
    }
    if (buffer_.size() > limit) return fail(EMSGSIZE, fmt::format("a line of more than {} bytes", limit));
    const auto more = read_more();
    if (!more) return std::unexpected(more.error());
    if (!*more) return fail(ENOTCONN, "the connection ended within a message");
  }
}

Result<HttpHead> HttpReader::read_head() {
  HttpHead head;
  std::size_t size = 0;
  for (bool first = true;; first = false) {
    auto line = read_line(kMaxHead - size);
    if (!line) return std::unexpected(line.error());
    size += line->size() + 2;
    if (size >= kMaxHead) return fail(EMSGSIZE, fmt::format("a head of more than {} bytes", kMaxHead));
    if (first) {
      head.first_line = std::move(*line);
      continue;
    }
    if (line->empty()) return head;
    const auto colon = line->find(':');
    if (colon == std::string::npos) return fail(EBADMSG, "a header without a colon");
    head.headers[lower(line->substr(0, colon))] = trimmed(std::string_view(*line).substr(colon + 1));
  }
}

Result<std::string> HttpReader::read_body(std::size_t size) {
  while (buffer_.size() < size) {
    const auto more = read_more();
    if (!more) return std::unexpected(more.error());
    if (!*more) return fail(ENOTCONN, "the connection ended within a message");
  }
  std::string body = buffer_.substr(0, size);
  buffer_.erase(0, size);
  return body;
}

Result<std::string> HttpReader::read_chunk() {
  const auto line = read_line(64);
  if (!line) return std::unexpected(line.error());
  const auto size = parse_number(*line, 16);
  if (!size) return fail(EBADMSG, "a chunk without a size");
  if (*size > kMaxBody) return fail(EMSGSIZE, fmt::format("a chunk of more than {} bytes", kMaxBody));
  auto chunk = read_body(*size);
  if (!chunk) return chunk;
  if (auto end = read_line(64); !end) return std::unexpected(end.error());
  return chunk;
}

Result<std::string> HttpReader::read_rest() {
  while (buffer_.size() <= kMaxBody) {
    const auto more = read_more();
    if (!more) return std::unexpected(more.error());
    if (!*more) return std::exchange(buffer_, {});
  }
  return fail(EMSGSIZE, fmt::format("a body of more than {} bytes", kMaxBody));
}

Result<std::size_t> body_size(const HttpHead& head) {
  const auto header = head.headers.find("content-length");
  if (header == head.headers.end()) return 0;
  const auto size = parse_number(header->second, 10);
  if (!size) return fail(EBADMSG, fmt::format("a body of '{}' bytes", header->second));
  if (*size > HttpReader::kMaxBody) {
    return fail(EMSGSIZE, fmt::format("a body of {} bytes; at most {} are taken", *size, HttpReader::kMaxBody));
  }
  return *size;
}

Result<void> write_all(int socket, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t size = ::send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) return fail_errno("write to the control socket");
    bytes.remove_prefix(static_cast<std::size_t>(size));
  }
  return {};
}

}  // namespace gangway::guest
