// A client that does as it is told: sends any bytes with any descriptors cut anywhere, and reads what comes back with
// suspicion.
//
// What a test cannot go on without throws std::runtime_error, which GoogleTest reports as its failure: a server that is
// silent beyond a generous limit, a reply that is malformed or to nothing that was asked. A server that closes the
// connection is no such case: it is an answer.
//
// Thread-safety: one thread sends and one receives; otherwise one thread.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <initializer_list>
#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include <gangway/fd.h>

#include "integration/hostile/wire.h"

namespace gangway::hostile {

struct Message {
  Header header;
  Bytes body;
  std::vector<Fd> fds;
  // Everything was there when the header was (WIR-REPLY).
  bool arrived_whole = false;

  [[nodiscard]] bool is_reply() const { return (header.flags & 0xf) == kTypeReply; }
  [[nodiscard]] bool failed() const { return (header.flags & kErrorBit) != 0; }
  // 0 for success.
  [[nodiscard]] int error() const { return failed() ? static_cast<int>(header.error) : 0; }
};

class RawPeer {
 public:
  static constexpr std::string_view kCapabilities =
      R"({"capabilities":{"max_msg_fds":8,"max_data_xfer_size":1048576,"pgsizes":4096,"write_multiple":true}})";

  explicit RawPeer(const std::filesystem::path& socket);
  // On a connected socket: a twin socket's other end.
  explicit RawPeer(Fd socket) : socket_(std::move(socket)) {}

  // --- bytes ---

  using Descriptors = std::vector<int>;
  // All of them, the descriptors with the first. False when the server has closed the connection.
  bool send(std::span<const std::byte> bytes, const Descriptors& fds = {});
  // Until the server has read everything that was sent, or has closed the connection.
  void await_taken();
  // The server sees the end of the stream behind what was sent.
  void finish_sending();
  void close() { socket_.reset(); }
  [[nodiscard]] int socket() const { return socket_.get(); }
  // Bytes to read within the time.
  [[nodiscard]] bool readable(std::chrono::milliseconds within);

  // --- messages ---

  [[nodiscard]] std::uint16_t next_id() { return ++last_id_; }
  // Sends a command, returns its id.
  std::uint16_t post(std::uint16_t command, std::span<const std::byte> body, const Descriptors& fds = {},
                     std::uint32_t flags = 0);
  // The next message; nullopt at the end of the stream, wherever it lies.
  std::optional<Message> receive();
  // The next reply; the server's commands before it go to on_command.
  std::optional<Message> receive_reply();
  // Posts and waits; throws when the server closes or answers something else.
  Message request(std::uint16_t command, std::span<const std::byte> body, const Descriptors& fds = {});
  // Answers a command of the server.
  bool reply(const Message& command, std::span<const std::byte> body, std::uint32_t flags = kTypeReply,
             std::uint32_t error = 0);
  // Reads and drops until the server has closed the connection.
  void await_close();

  // Returns the server's reply.
  Message negotiate(std::string_view json = kCapabilities);

  // What to do with a command of the server; by default a surprise, which throws.
  std::function<void(const Message&)> on_command;

 private:
  [[nodiscard]] std::size_t receive_some(std::span<std::byte> into, std::vector<Fd>& fds);
  bool receive_all(std::span<std::byte> into, std::vector<Fd>& fds);

  Fd socket_;
  std::uint16_t last_id_ = 0x4000;
};

}  // namespace gangway::hostile
