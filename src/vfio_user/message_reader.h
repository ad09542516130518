// Cuts the byte stream of a socket into messages.
//
// Header and body may arrive split at any byte, and many messages in one read (WIR-FRAME). Small messages are read
// ahead of, a body that is not there yet is read straight to where its owner wants it. Descriptors belong to the
// message that holds the last byte of the read they came with: the kernel ends a read after the write that carried
// them. Of those the first kMaxMsgFds are kept, which is how many the peer was told; the others are closed.
//
// Thread-safety: one thread at a time.
#pragma once

#include <array>
#include <cstddef>
#include <limits>
#include <span>
#include <vector>

#include <gangway/error.h>
#include <gangway/fd.h>

#include "vfio_user/protocol.h"
#include "vfio_user/socket.h"

namespace gangway::vfio_user {

class MessageReader {
 public:
  // Where a body goes: into `head` first, the rest into `data`, of which one read brings at most `piece` bytes. As long
  // as the body.
  struct Body {
    std::span<std::byte> head;
    std::span<std::byte> data;
    std::size_t piece = std::numeric_limits<std::size_t>::max();
    [[nodiscard]] std::size_t size() const { return head.size() + data.size(); }
  };

  enum class Progress {
    NeedsBytes,  // call receive()
    Header,      // header() is whole and its size at least its own: call place()
    Message,     // header() and the body are whole; take_descriptors() has what came with them
  };
  // EPROTO for a size smaller than the header.
  Result<Progress> advance();
  void place(Body body) { body_ = body; }

  // One read. Its errors are those of vfio_user::receive.
  Result<void> receive(int socket, Wait wait, Descriptors descriptors);

  [[nodiscard]] const Header& header() const { return header_; }
  // Bytes of the body's `data` that are still to come.
  [[nodiscard]] std::size_t data_to_come() const { return body_.data.size(); }
  [[nodiscard]] std::vector<Fd> take_descriptors();
  // A message has begun and is not whole.
  [[nodiscard]] bool in_message() const { return header_got_ != 0; }

 private:
  [[nodiscard]] std::span<const std::byte> ahead() const { return {ahead_.data() + begin_, end_ - begin_}; }
  void copy_ahead(std::span<std::byte>& into);
  void claim_descriptors();

  static constexpr std::size_t kAhead = 8192;

  Header header_;
  std::size_t header_got_ = 0;
  bool header_reported_ = false;
  Body body_;                  // what is still to come
  std::vector<Fd> fds_;        // of the message in progress, or of the last whole one
  std::vector<Fd> unclaimed_;  // came with the last read
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
  std::array<std::byte, kAhead> ahead_;
};

}  // namespace gangway::vfio_user
