// Reaches client memory by DMA_READ and DMA_WRITE messages.
//
// Thread-safety: everything may be called from any thread.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

#include <gangway/dma.h>

#include "vfio_user/channel.h"
#include "vfio_user/turns.h"

namespace gangway::vfio_user {

class DmaChannel : public DmaMessenger {
 public:
  // How the client lays out the messages.
  enum class Layout : std::uint8_t {
    Specified,
    Packed,   // as QEMU does; see kPackedDmaHead
    Unknown,  // one of the two: to be found out
  };

  struct Options {
    std::uint32_t max_transfer = 0;  // bytes in a message at most, which the client chose; 0: it takes none
    Layout layout = Layout::Specified;
    Turns* turns = nullptr;  // kept to, if the client reads one message at a time
  };
  // `channel` carries the messages; `connection` ends when that fails (it may be the same).
  DmaChannel(Channel& channel, Channel& connection, const Options& options)
      : channel_(channel),
        connection_(connection),
        max_transfer_(options.max_transfer),
        turns_(options.turns),
        layout_(options.layout) {}

  Result<void> dma_read(Iova iova, std::span<std::byte> out) override;
  Result<void> dma_write(Iova iova, std::span<const std::byte> in) override;
  void begin_grace() override { channel_.limit_calls(kGrace); }
  void end_grace() override { channel_.unlimit_calls(); }

 private:
  // A client that can answer does so long before. One that cannot is not to be kept from its own time limit: 5 s with
  // QEMU.
  static constexpr std::chrono::milliseconds kGrace{1000};

  Result<Layout> layout(Iova iova);
  Result<void> read_piece(Iova iova, std::span<std::byte> out);
  Result<void> write_piece(Iova iova, std::span<const std::byte> in);
  std::unexpected<Error> fail_with(Error error);
  std::unexpected<Error> end_connection(std::string reason);

  Channel& channel_;
  Channel& connection_;
  const std::uint32_t max_transfer_;
  Turns* const turns_;
  std::atomic<Layout> layout_;  // found out by two threads at once, it is the same
};

}  // namespace gangway::vfio_user
