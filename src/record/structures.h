// The structures that vfio-user and the kernel have in common, as acts. Each takes bytes as far as they are there.
//
// Pure.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <span>
#include <vector>

#include "record/act.h"

namespace gangway::record {

using Bytes = std::span<const std::byte>;

inline Bytes behind(Bytes bytes, std::size_t offset) { return bytes.subspan(std::min(offset, bytes.size())); }
inline std::vector<std::byte> copy_of(Bytes bytes) { return {bytes.begin(), bytes.end()}; }

// A structure as far as it is there; zero beyond.
template <class T>
T structure(Bytes bytes, std::size_t offset = 0) {
  T value{};
  const Bytes there = behind(bytes, offset);
  if (!there.empty()) std::memcpy(static_cast<void*>(&value), there.data(), std::min(sizeof value, there.size()));
  return value;
}

// struct vfio_region_info with its capabilities.
GetRegion region_of(Bytes asked, Bytes answered);

// struct vfio_irq_set.
SetIrqs irqs_of(Bytes asked);

// struct vfio_device_feature and what follows. `pointed` has what the kernel's structures point to and vfio-user's are
// followed by.
Doing feature_of(Bytes asked, Bytes answered, Bytes pointed, const Payload& bitmap);

}  // namespace gangway::record
