#include "devices/nvme/host_memory.h"

namespace gangway::nvme {

Status copy_to_host(DmaSpace& dma, std::span<const DataSegment> to, std::span<const std::byte> data) {
  for (const DataSegment& segment : to) {
    if (!dma.write(segment.iova, data.first(segment.length))) return Status::DataTransferError;
    data = data.subspan(segment.length);
  }
  return Status::Success;
}

Status copy_from_host(DmaSpace& dma, std::span<const DataSegment> from, std::span<std::byte> data) {
  for (const DataSegment& segment : from) {
    if (!dma.read(segment.iova, data.first(segment.length))) return Status::DataTransferError;
    data = data.subspan(segment.length);
  }
  return Status::Success;
}

Status HostMemory::write(const Command& command, std::span<const std::byte> data) {
  const auto to = segments(command, static_cast<std::uint32_t>(data.size()));
  return to ? copy_to_host(*dma_, *to, data) : to.error();
}

Status HostMemory::read(const Command& command, std::span<std::byte> data) {
  const auto from = segments(command, static_cast<std::uint32_t>(data.size()));
  return from ? copy_from_host(*dma_, *from, data) : from.error();
}

}  // namespace gangway::nvme
