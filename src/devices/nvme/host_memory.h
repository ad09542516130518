// Moves a command's data between the controller and the host by copying, along its PRPs.
//
// Thread-safety: the I/O thread's own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <span>

#include <gangway/dma.h>

#include "devices/nvme/prp.h"
#include "devices/nvme/spec.h"
#include "devices/nvme/status.h"

namespace gangway::nvme {

class HostMemory {
 public:
  void attach(DmaSpace& dma) { dma_ = &dma; }
  [[nodiscard]] DmaSpace& dma() const { return *dma_; }
  // Bytes; from CC.MPS when the controller is enabled.
  void set_page_size(std::uint32_t bytes) { page_size_ = bytes; }
  [[nodiscard]] std::uint32_t page_size() const { return page_size_; }

  // Valid until the next call of this or the two below.
  std::expected<std::span<const DataSegment>, Status> segments(const Command& command, std::uint32_t length) {
    return walker_.walk(*dma_, command.prp1, command.prp2, length, page_size_);
  }

  [[nodiscard]] Status write(const Command& command, std::span<const std::byte> data);
  [[nodiscard]] Status read(const Command& command, std::span<std::byte> data);

 private:
  DmaSpace* dma_ = nullptr;
  std::uint32_t page_size_ = 4096;
  PrpWalker walker_;
};

// Copies along segments that are known already. DataTransferError when the host's memory cannot be reached.
[[nodiscard]] Status copy_to_host(DmaSpace& dma, std::span<const DataSegment> to, std::span<const std::byte> data);
[[nodiscard]] Status copy_from_host(DmaSpace& dma, std::span<const DataSegment> from, std::span<std::byte> data);

}  // namespace gangway::nvme
