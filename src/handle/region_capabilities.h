// What a client reads out of a region's description.
#pragma once

#include <cstddef>
#include <memory>
#include <span>

#include <gangway/device_handle.h>
#include <gangway/error.h>

#include "handle/vfio.h"

namespace gangway::vfio {

// `capabilities` is what followed the structure. EPROTO for a list that leaves it, or does not end.
Result<DeviceHandle::Region> to_region(const RegionInfo& info, std::span<const std::byte> capabilities,
                                       std::shared_ptr<const Fd> file);

}  // namespace gangway::vfio
