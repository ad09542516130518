// Speaks vfio-user byte by byte, to see what DeviceHandle hides: the shape of replies, what becomes of odd messages.
//
// Errors are ECONNRESET when the server closed the connection, ETIMEDOUT when it is silent.
//
// Thread-safety: one thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <gangway/error.h>
#include <gangway/fd.h>

#include "conformance/stream.h"
#include "vfio_user/protocol.h"

namespace gangway::conformance {

class WirePeer {
 public:
  static Result<WirePeer> connect(const std::string& socket, std::chrono::milliseconds limit);
  // `json` is what VERSION says of the client; nothing is sent for an empty one.
  Result<void> negotiate(std::string_view json);

  struct Reply {
    vfio_user::Header header;
    Bytes body;
    std::vector<Fd> fds;
    bool whole = false;  // all of it was there when the header was

    [[nodiscard]] bool failed() const { return (header.flags & vfio_user::kError) != 0; }
  };
  Result<void> send(std::span<const std::byte> bytes, std::span<const int> fds = {});
  // Until the server has read all that was sent, or does not for a moment: it may wait for more.
  void await_read();
  // The next reply; commands of the server are answered with an error.
  Result<Reply> receive();
  Result<Reply> call(vfio_user::Command command, std::span<const std::byte> body, std::span<const int> fds = {},
                     std::uint32_t flags = 0);

  // The id of the last message that was made.
  [[nodiscard]] std::uint16_t last_id() const { return last_id_; }
  [[nodiscard]] Bytes message(std::uint16_t command, std::span<const std::byte> body, std::uint32_t flags = 0);
  void close() { socket_.reset(); }
  [[nodiscard]] int socket() const { return socket_.get(); }

  // The process at the other end, as the kernel knows it; 0 if it does not.
  [[nodiscard]] int server_pid() const;

 private:
  WirePeer(Fd socket, std::chrono::milliseconds limit) : socket_(std::move(socket)), limit_(limit) {}
  Result<void> read_exactly(std::span<std::byte> out, std::vector<Fd>& fds);

  Fd socket_;
  std::chrono::milliseconds limit_;
  std::uint16_t last_id_ = 0;
};

}  // namespace gangway::conformance
