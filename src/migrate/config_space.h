// Carries a device's PCI config space over, through its handle, as a VMM does.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include <gangway/device_handle.h>
#include <gangway/error.h>

namespace gangway::migrate {

// Region 7 as it reads, at most 4 KiB; empty for a device that has none.
Result<std::vector<std::byte>> save_config(DeviceHandle& device);

// Writes what differs, in the order in which a guest would: BARs with decoding off, then capabilities with their
// control words last, then COMMAND. May be repeated with a newer copy. `saved` comes from a peer: EINVAL when it is
// that of another device or its capabilities lie elsewhere.
Result<void> restore_config(DeviceHandle& device, std::span<const std::byte> saved);

}  // namespace gangway::migrate
