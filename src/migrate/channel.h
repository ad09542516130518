// A connection between the two ends of a migration: typed, checked messages over TCP or a UNIX socket.
//
// A message is a header (type, flags, length, checksum), that many bytes, and for memory the pages themselves, which
// travel from where they lie to where they belong without a copy in between. Nothing that a peer says is believed
// before it was checked: lengths are bounded before they are read, checksums are compared before anything is used.
//
// Layout: docs/migration.md. Thread-safety: one receiver at a time; sends, whole messages each, and interrupt() from
// any thread.
#pragma once

#include <sys/uio.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include <gangway/error.h>
#include <gangway/fd.h>

#include "migrate/message.h"

namespace gangway::migrate {

class Channel {
 public:
  // On a connected, blocking stream socket. A send or receive without progress for `stall` is ETIMEDOUT.
  static Result<Channel> adopt(Fd socket, std::chrono::milliseconds stall);

  // A new limit for what is sent and received from now on.
  Result<void> limit(std::chrono::milliseconds stall);

  // Says who we are, in the fixed form that every revision understands.
  Result<void> send_hello(const Hello& hello);
  // EPROTO for a peer that is no gangway; EPROTONOSUPPORT for one of another revision.
  Result<Hello> receive_hello();

  Result<void> send(MessageType type, std::span<const std::byte> payload);
  // The payload in two parts, sent as one message.
  Result<void> send(MessageType type, std::span<const std::byte> head, std::span<const std::byte> body);
  // A message, then `data` as it lies, in one go. The entries of `data` are consumed.
  Result<void> send_with_data(MessageType type, std::span<const std::byte> payload, std::span<iovec> data);

  struct Message {
    MessageType type{};
    std::vector<std::byte> payload;
  };
  // The next message; a payload longer than its type allows, an unknown type or a wrong checksum is EPROTO. The payload
  // is read into `reuse`'s storage when given.
  Result<Message> receive(std::vector<std::byte> reuse = {});
  // Data that follows a message, into place. The entries are consumed.
  Result<void> receive_data(std::span<iovec> data);

  // True when a message, or the end of the connection, waits to be received.
  [[nodiscard]] bool readable(std::chrono::milliseconds wait = std::chrono::milliseconds(0)) const;

  // Says that nothing more will be sent, and lets go of what the peer still sends, for a second at most: a connection
  // closed with data unread would take our last words with it.
  void finish();

  // Makes every send and receive, present and future, fail.
  void interrupt();
  // Receiving only: what we have to say still goes out.
  void interrupt_receiving();

 private:
  explicit Channel(Fd socket) : socket_(std::move(socket)) {}
  Result<void> send_all(std::span<iovec> parts);
  Result<void> receive_all(std::span<std::byte> out);

  Fd socket_;
  std::unique_ptr<std::mutex> sending_ = std::make_unique<std::mutex>();  // on the heap: a channel moves
  bool out_of_step_ = false;                                              // a send ended within a message
};

}  // namespace gangway::migrate
