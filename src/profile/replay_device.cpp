// Acts that are the device's own: what it is, its regions, its interrupts, the memory that it reaches.
#include <sys/eventfd.h>

#include <algorithm>
#include <array>

#include <fmt/core.h>

#include "profile/replay_connection.h"

namespace gangway::profile {
namespace {

constexpr std::uint32_t kReset = 1U << 0;  // VFIO_DEVICE_FLAGS_*
constexpr std::uint32_t kPci = 1U << 1;
constexpr std::uint32_t kReadable = 1U << 0;  // VFIO_REGION_INFO_FLAG_*
constexpr std::uint32_t kWriteable = 1U << 1;
constexpr std::uint32_t kConfig = to_number(RegionIndex::Config);
constexpr std::uint64_t kStatus = 0x06;  // PCI_STATUS: the moment's
constexpr std::uint32_t kMostInterrupts = 4096;

// VFIO_IRQ_SET_*
constexpr std::uint32_t kDataNone = 1U << 0;
constexpr std::uint32_t kDataBool = 1U << 1;
constexpr std::uint32_t kMask = 1U << 3;
constexpr std::uint32_t kUnmask = 1U << 4;

Result<IrqSet> request_of(const record::SetIrqs& recorded) {
  IrqSet request{.type = static_cast<IrqType>(recorded.type),
                 .action = (recorded.flags & kMask) != 0     ? IrqAction::Mask
                           : (recorded.flags & kUnmask) != 0 ? IrqAction::Unmask
                                                             : IrqAction::Trigger,
                 .data = (recorded.flags & kDataNone) != 0   ? IrqSet::Data::None
                         : (recorded.flags & kDataBool) != 0 ? IrqSet::Data::Bool
                                                             : IrqSet::Data::Eventfd,
                 .start = recorded.start,
                 .count = recorded.count,
                 .bools = recorded.bools};
  for (std::uint32_t i = 0; i < recorded.descriptors && i < recorded.count; ++i) {
    Fd& event = request.eventfds.emplace_back(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!event) return fail_errno("make an eventfd");
  }
  return request;
}

// The first byte that is another, or none.
std::optional<std::size_t> difference(std::uint64_t offset, std::span<const std::byte> recorded,
                                      std::span<const std::byte> came) {
  for (std::size_t i = 0; i < std::min(recorded.size(), came.size()); ++i) {
    const std::uint64_t at = offset + i;
    if (recorded[i] != came[i] && at != kStatus && at != kStatus + 1) return i;
  }
  return std::nullopt;
}

template <class T>
std::pair<std::string, std::string> values(std::string_view what, T recorded, T came) {
  return {fmt::format("{} {:#x}", what, recorded), fmt::format("{} {:#x}", what, came)};
}

}  // namespace

std::optional<ReplayConnection::Came> ReplayConnection::perform(const record::GetInfo& recorded) {
  Came came;
  const auto info = subject_.ask<DeviceHandle::Info>("info", [](DeviceHandle& device) { return device.info(); });
  if (!info) {
    came.error = info.error();
    return came;
  }
  const std::uint32_t flags = (info->reset ? kReset : 0) | (info->pci ? kPci : 0);
  if (flags != (recorded.flags & (kReset | kPci))) {
    came.other = values("flags", recorded.flags & (kReset | kPci), flags);
  } else if (info->regions != recorded.regions) {
    came.other = values("regions", recorded.regions, info->regions);
  } else if (info->irqs != recorded.irqs) {
    came.other = values("interrupts", recorded.irqs, info->irqs);
  }
  return came;
}

std::optional<ReplayConnection::Came> ReplayConnection::perform(const record::GetRegion& recorded) {
  Came came;
  const auto region = subject_.ask<DeviceHandle::Region>(
      fmt::format("region {}", recorded.region),
      [index = recorded.region](DeviceHandle& device) { return device.region(index); });
  if (!region) {
    came.error = region.error();
    return came;
  }
  const std::uint32_t flags = (region->read ? kReadable : 0) | (region->write ? kWriteable : 0);
  if (region->size != recorded.size) {
    came.other = values("size", recorded.size, region->size);
  } else if (flags != (recorded.flags & (kReadable | kWriteable))) {
    came.other = values("flags", recorded.flags & (kReadable | kWriteable), flags);
  }
  return came;
}

std::optional<ReplayConnection::Came> ReplayConnection::perform(const record::GetIrq& recorded) {
  Came came;
  const auto irq = subject_.ask<IrqInfo>(fmt::format("irq {}", recorded.type),
                                         [index = recorded.type](DeviceHandle& device) { return device.irq(index); });
  if (!irq) {
    came.error = irq.error();
  } else if (irq->count != recorded.count) {
    came.other = values("count", recorded.count, irq->count);
  } else if (irq->flags != recorded.flags) {
    came.other = values("flags", recorded.flags, irq->flags);
  }
  return came;
}

// Registers are the moment's; configuration is what it is.
std::optional<ReplayConnection::Came> ReplayConnection::perform(const record::ReadRegion& recorded) {
  if (recorded.size > kLargestAccess) return std::nullopt;
  Came came;
  conformance::Bytes bytes(recorded.size);
  const Result<void> read = subject_.read_region(recorded.region, recorded.offset, bytes);
  if (!read) {
    came.error = read.error();
    return came;
  }
  if (recorded.region != kConfig || recorded.data.size() != bytes.size() || now_->act->error != 0) return came;
  if (const auto at = difference(recorded.offset, recorded.data, bytes)) {
    came.other = values(fmt::format("config space at {:#x}:", recorded.offset + *at),
                        std::to_integer<unsigned>(recorded.data[*at]), std::to_integer<unsigned>(bytes[*at]));
  }
  return came;
}

std::optional<ReplayConnection::Came> ReplayConnection::perform(const record::WriteRegion& recorded) {
  if (recorded.data.size() != recorded.size || recorded.size == 0) return std::nullopt;
  Came came;
  if (Result<void> written = subject_.write_region(recorded.region, recorded.offset, recorded.data); !written) {
    came.error = written.error();
  }
  return came;
}

std::optional<ReplayConnection::Came> ReplayConnection::perform(const record::SetIrqs& recorded) {
  if (recorded.type >= kIrqTypes || recorded.count > kMostInterrupts) return std::nullopt;
  Came came;
  const Result<void> set =
      subject_.perform(fmt::format("irqs {}", recorded.type), [recorded](DeviceHandle& device) -> Result<void> {
        Result<IrqSet> request = request_of(recorded);
        if (!request) return std::unexpected(request.error());
        return device.set_irqs(*std::move(request));
      });
  if (!set) came.error = set.error();
  return came;
}

// The memory is ours, and stays as long as anybody may use it.
std::optional<ReplayConnection::Came> ReplayConnection::perform(const record::MapDma& recorded) {
  const DmaPermissions permissions{.read = (recorded.flags & 1U) != 0, .write = (recorded.flags & 2U) != 0};
  const Result<DeviceHandle::DmaMap> map = memory_->add(recorded.range, permissions, recorded.with_memory);
  if (!map) return std::nullopt;
  Came came;
  const Result<void> mapped =
      subject_.perform("map", [map = *map, memory = memory_](DeviceHandle& device) { return device.dma_map(map); });
  if (!mapped) {
    came.error = mapped.error();
    if (!subject_.lost()) memory_->remove(recorded.range);
  }
  return came;
}

std::optional<ReplayConnection::Came> ReplayConnection::perform(const record::UnmapDma& recorded) {
  constexpr std::uint32_t kAll = 1U << 1;
  const std::vector<IovaRange> ranges =
      (recorded.flags & kAll) != 0 ? memory_->ranges() : std::vector<IovaRange>{recorded.range};
  Came came;
  for (const IovaRange& range : ranges) {
    const Result<void> unmapped =
        subject_.perform("unmap", [range, memory = memory_](DeviceHandle& device) { return device.dma_unmap(range); });
    if (!unmapped) {
      came.error = unmapped.error();
      return came;
    }
    memory_->remove(range);
  }
  return came;
}

}  // namespace gangway::profile
