#include "handle/region_capabilities.h"

#include <fmt/format.h>

#include "base/bytes.h"

namespace gangway::vfio {
namespace {

std::unexpected<Error> malformed(const RegionInfo& info, std::uint32_t at) {
  return fail(EPROTO, fmt::format("region {}: malformed capability at {}", info.index, at));
}

}  // namespace

Result<DeviceHandle::Region> to_region(const RegionInfo& info, std::span<const std::byte> capabilities,
                                       std::shared_ptr<const Fd> file) {
  DeviceHandle::Region region{.size = info.size,
                              .read = (info.flags & kRegionRead) != 0,
                              .write = (info.flags & kRegionWrite) != 0,
                              .mmap = (info.flags & kRegionMmap) != 0 && file != nullptr,
                              .mmap_offset = info.offset,
                              .file = std::move(file)};
  if ((info.flags & kRegionCaps) == 0) return region;
  // Offsets count from the start of the structure and only ever grow, so the walk ends.
  for (std::uint32_t at = info.cap_offset; at != 0;) {
    if (at < sizeof info) return malformed(info, at);
    const std::size_t offset = at - sizeof info;
    const std::optional<CapHeader> header = load_at<CapHeader>(capabilities, offset);
    if (!header || (header->next != 0 && header->next <= at)) return malformed(info, at);
    if (header->id == kCapSparseMmap) {
      const auto sparse = load_at<CapSparseMmap>(capabilities, offset);
      if (!sparse || (capabilities.size() - offset - sizeof *sparse) / sizeof(SparseArea) < sparse->areas) {
        return malformed(info, at);
      }
      for (std::uint32_t i = 0; i < sparse->areas; ++i) {
        const auto area = *load_at<SparseArea>(capabilities, offset + sizeof *sparse + i * sizeof(SparseArea));
        if (area.offset > info.size || area.size > info.size - area.offset) return malformed(info, at);
        region.areas.push_back({area.offset, area.size});
      }
    } else if (header->id == kCapType) {
      const auto type = load_at<CapType>(capabilities, offset);
      if (!type) return malformed(info, at);
      region.type = type->type;
      region.subtype = type->subtype;
    }
    at = header->next;
  }
  return region;
}

}  // namespace gangway::vfio
