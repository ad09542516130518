// HTTP/1.1 messages, as much of it as a control socket needs: a head and a body of known length, or in chunks.
// Source: RFC 9112. Thread-safety: a reader belongs to one thread.
#pragma once

#include <cstddef>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include <gangway/error.h>

namespace gangway::guest {

struct HttpHead {
  std::string first_line;                      // without line end
  std::map<std::string, std::string> headers;  // names in lower case
};

// Reads messages from a stream socket. Everything a peer sends is bounded: EMSGSIZE beyond, EBADMSG for what is no
// HTTP, ENOTCONN when the stream ends before the message does.
class HttpReader {
 public:
  static constexpr std::size_t kMaxHead = 16U << 10;
  static constexpr std::size_t kMaxBody = 1U << 20;

  explicit HttpReader(int socket) : socket_(socket) {}

  Result<HttpHead> read_head();
  // `size` bytes.
  Result<std::string> read_body(std::size_t size);
  // One chunk of a chunked body; empty: it was the last.
  Result<std::string> read_chunk();
  // What comes until the stream ends.
  Result<std::string> read_rest();

 private:
  Result<std::string> read_line(std::size_t limit);
  Result<bool> read_more();  // false: the stream ended

  int socket_;
  std::string buffer_;
};

// The declared length of the body; 0 without one. EBADMSG for what is no number, EMSGSIZE beyond kMaxBody.
Result<std::size_t> body_size(const HttpHead& head);

// All of it, or the error of the socket.
Result<void> write_all(int socket, std::string_view bytes);

}  // namespace gangway::guest
