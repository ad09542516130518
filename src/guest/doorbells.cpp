#include "guest/doorbells.h"

#include <atomic>

#include <fmt/format.h>

#include <gangway/types.h>

#include "base/log.h"
#include "guest/memory.h"
#include "guest/nvme.h"

namespace gangway::guest {
namespace {

constexpr std::uint32_t kBar0 = to_number(RegionIndex::Bar0);

// The area that holds all of [start, start + size), if there is one.
std::optional<MappableArea> find_area(const DeviceHandle::Region& region, std::uint64_t start, std::uint64_t size) {
  if (!region.mmap || region.file == nullptr) return std::nullopt;
  if (region.areas.empty()) return MappableArea{.offset = 0, .size = region.size};
  for (const MappableArea& area : region.areas) {
    if (area.offset <= start && area.size >= size && start - area.offset <= area.size - size) return area;
  }
  return std::nullopt;
}

}  // namespace

Result<Doorbells> Doorbells::find(DeviceHandle& device, std::uint32_t queues, std::uint32_t stride) {
  const auto region = device.region(kBar0);
  if (!region) return fail_within("the doorbells' region", region.error());
  const std::uint64_t size = std::uint64_t{2} * queues * stride;
  if (region->size < nvme::kDoorbells + size) {
    return fail(EINVAL, fmt::format("BAR 0 of {:#x} bytes does not hold the doorbells of {} queue pairs", region->size,
                                    queues));
  }
  Doorbells doorbells(device, stride);
  const auto area = find_area(*region, nvme::kDoorbells, size);
  if (!area || area->offset % kPageSize != 0 || area->size % kPageSize != 0) return doorbells;
  auto mapping = Mapping::map(region->file->get(), region->mmap_offset + area->offset, area->size);
  if (!mapping) {
    log::debug("{}: doorbells by region writes, since mapping them failed: {}", device.target(),
               mapping.error().message);
    return doorbells;
  }
  doorbells.mapping_ = std::move(*mapping);
  doorbells.into_mapping_ = nvme::kDoorbells - area->offset;
  return doorbells;
}

Result<void> Doorbells::ring(std::uint32_t number, std::uint32_t value) {
  const std::uint64_t offset = std::uint64_t{number} * stride_;
  if (mapped()) {
    auto* doorbell = reinterpret_cast<std::uint32_t*>(mapping_.bytes().data() + into_mapping_ + offset);
    std::atomic_ref(*doorbell).store(value, std::memory_order_release);
    return {};
  }
  // What the doorbell announces must be in memory before the message is.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  return device_->write(kBar0, nvme::kDoorbells + offset, std::as_bytes(std::span(&value, 1)));
}

}  // namespace gangway::guest
