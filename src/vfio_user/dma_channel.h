// Reaches client memory by DMA_READ and DMA_WRITE messages.
//
// Thread-safety: everything may be called from any thread.
#pragma once

#include <cstdint>

#include <gangway/dma.h>

#include "vfio_user/channel.h"

namespace gangway::vfio_user {

class DmaChannel : public DmaMessenger {
 public:
  // `channel` carries the messages; `connection` ends when that fails (it may be the same). One message transfers at
  // most `max_transfer` bytes, which the client chose; 0 means that it takes none.
  DmaChannel(Channel& channel, Channel& connection, std::uint32_t max_transfer)
      : channel_(channel), connection_(connection), max_transfer_(max_transfer) {}

  Result<void> dma_read(Iova iova, std::span<std::byte> out) override;
  Result<void> dma_write(Iova iova, std::span<const std::byte> in) override;

 private:
  Result<void> read_piece(Iova iova, std::span<std::byte> out);
  Result<void> write_piece(Iova iova, std::span<const std::byte> in);
  std::unexpected<Error> fail_with(Error error);
  std::unexpected<Error> end_connection(std::string reason);

  Channel& channel_;
  Channel& connection_;
  const std::uint32_t max_transfer_;
};

}  // namespace gangway::vfio_user
