// Passes messages between a client and a server one by one, so that an editor may change each: for what stands in for a
// peer that is not as it should be. Who only wants to see them pass takes a Forwarder.
//
// A message is passed once all of it is there, descriptors with it. Bytes that make no message are passed as they come.
// The twin socket of a connection is not this one's: it goes from peer to peer.
//
// Thread-safety: run() from one thread, stop() from any.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include <gangway/error.h>
#include <gangway/fd.h>

#include "vfio_user/negotiation.h"
#include "vfio_user/protocol.h"

namespace gangway::vfio_user {

struct RelayedMessage {
  // Of these bytes and in this order it leaves; that `header.size` fits them is the editor's to keep, or not.
  Header header;
  std::vector<std::byte> body;
  std::vector<Fd> fds;
  // HeaderAlone: the body leaves a while after the header was read.
  enum class Leaves : std::uint8_t { Whole, HeaderAlone, NotAtAll } leaves = Leaves::Whole;

  [[nodiscard]] bool is(Command command) const { return header.command == static_cast<std::uint16_t>(command); }
  [[nodiscard]] bool is_command() const { return (header.flags & kTypeMask) == kTypeCommand; }
  [[nodiscard]] bool is_success() const {
    return (header.flags & kTypeMask) == kTypeReply && (header.flags & kError) == 0;
  }
  [[nodiscard]] bool is_failure() const {
    return (header.flags & kTypeMask) == kTypeReply && (header.flags & kError) != 0;
  }
  // The body, and the size that goes with it.
  void replace_body(std::vector<std::byte> with) {
    body = std::move(with);
    header.size = static_cast<std::uint32_t>(sizeof header + body.size());
  }
};

// What a client says of itself in VERSION, as `change` leaves it; another message stays as it is.
void change_capabilities(RelayedMessage& message, const std::function<void(Capabilities&)>& change);

// Each direction by a thread of its own, and both at once.
class MessageEditor {
 public:
  virtual ~MessageEditor() = default;
  virtual void to_server(RelayedMessage& /*message*/) {}
  virtual void to_client(RelayedMessage& /*message*/) {}
  // False: a client whose header comes in pieces is given up.
  [[nodiscard]] virtual bool takes_split_headers() const { return true; }
};

class MessageRelay {
 public:
  // The sockets are the caller's and outlive it.
  MessageRelay(int client, int server, MessageEditor& editor) : client_(client), server_(server), editor_(editor) {}

  // Until both have ended, or stop().
  void run();
  void stop();

 private:
  using Edit = void (MessageEditor::*)(RelayedMessage&);

  void pass(int from, int to, Edit edit, bool split_headers);
  [[nodiscard]] Result<void> pass_message(int from, int to, Edit edit, bool split_headers, RelayedMessage& message);
  [[nodiscard]] static Result<void> pass_raw(int from, int to);

  const int client_;
  const int server_;
  MessageEditor& editor_;
};

}  // namespace gangway::vfio_user
