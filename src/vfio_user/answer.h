// The reply to a command, in pieces that are sent as one message. Reused from message to message.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include <gangway/dma_log.h>
#include <gangway/fd.h>

#include "vfio_user/buffer.h"
#include "vfio_user/channel.h"

namespace gangway::vfio_user {

class Answer {
 public:
  // Empty, for the next command.
  void clear() {
    pieces_.clear();
    fds_.clear();
    owned_fds_.clear();
    report_ = {};
    owner_.reset();
    used_ = 0;
  }

  // `size` bytes of the reply to be filled in. Valid until clear().
  std::span<std::byte> room(std::size_t size) {
    Buffer& buffer = buffers_[used_++];
    pieces_.push_back(buffer.resize(size));
    return buffer.bytes();
  }
  template <class T>
  void put(const T& value) {
    std::ranges::copy(std::as_bytes(std::span(&value, 1)), room(sizeof value).begin());
  }
  // Bytes that stay where they are until the reply was sent.
  void refer(std::span<const std::byte> bytes) { pieces_.push_back(bytes); }
  // As long as the answer is kept, so is what its pieces lie in.
  void keep(std::shared_ptr<const void> owner) { owner_ = std::move(owner); }
  void put_zeros(std::size_t size);
  // A dirty bitmap of `size` bytes; what is clean between its extents costs only the sending.
  void put_bitmap(DirtyReport report, std::size_t size);

  void send_fd(int borrowed) { fds_.push_back(borrowed); }
  void send_fd(Fd owned) {
    fds_.push_back(owned.get());
    owned_fds_.push_back(std::move(owned));
  }

  [[nodiscard]] Outgoing outgoing() const { return {pieces_, fds_}; }

 private:
  static constexpr std::size_t kBuffers = 4;  // more than any reply has
  std::array<Buffer, kBuffers> buffers_;
  std::size_t used_ = 0;
  std::vector<std::span<const std::byte>> pieces_;
  std::vector<int> fds_;
  std::vector<Fd> owned_fds_;
  DirtyReport report_;
  std::shared_ptr<const void> owner_;
};

}  // namespace gangway::vfio_user
