// What regions a device's info amounts to, checked for consistency.
// Thread-safety: stateless.
#pragma once

#include <cstdint>
#include <vector>

#include <gangway/device.h>
#include <gangway/endpoint.h>
#include <gangway/error.h>

namespace gangway {

// Bytes of a region that belong to MSI-X.
struct MsixExtent {
  RegionIndex region = RegionIndex::Bar0;
  std::uint64_t offset = 0;
  std::uint64_t size = 0;

  [[nodiscard]] bool overlaps(RegionIndex other, std::uint64_t at, std::uint64_t bytes) const {
    return region == other && at < offset + size && offset < at + bytes;
  }
};
[[nodiscard]] MsixExtent table_extent(const MsixSpec& spec);
[[nodiscard]] MsixExtent pba_extent(const MsixSpec& spec);

// One for each index up to the highest. `info.pci` could be laid out. EINVAL with the reason.
Result<std::vector<RegionInfo>> describe_regions(const DeviceInfo& info);

}  // namespace gangway
