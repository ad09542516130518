// The acts of a client of v1 or region-v2 on the migration region, as such clients make them: a field in one access,
// the data in accesses that are as small as the client's.
//
// MigrationRegionClient is our own client; these are the steps of others, one by one.
//
// Thread-safety: values; what acts on a device is bound by its handle.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include <gangway/contract.h>
#include <gangway/device_handle.h>

#include "conformance/stream.h"

namespace gangway::profile {

struct MigrationRegion {
  std::uint32_t index = 0;
  std::uint64_t size = 0;

  // nullopt: the device has none of that revision (V1-HIDDEN, R2-FOUND).
  static Result<std::optional<MigrationRegion>> find(DeviceHandle& device, Revision revision);

  [[nodiscard]] Result<std::uint32_t> device_state(DeviceHandle& device) const;
  [[nodiscard]] Result<void> set_device_state(DeviceHandle& device, std::uint32_t value) const;
  // Reads it and writes it with the lowest three bits replaced (V1-STATES).
  [[nodiscard]] Result<void> set_bits(DeviceHandle& device, std::uint32_t bits) const;
  [[nodiscard]] Result<std::uint64_t> pending_bytes(DeviceHandle& device) const;
  // EPROTO for one that is empty or does not lie in the region.
  [[nodiscard]] Result<conformance::Bytes> chunk(DeviceHandle& device, std::size_t access) const;
  // In several parts where the region has no room for all of it.
  [[nodiscard]] Result<void> load(DeviceHandle& device, std::span<const std::byte> chunk, std::size_t access) const;
};

// What a device that is driven by its region has. v1 knows no P2P and lets every device be put into pre-copy; region-v2
// has no flags either, so the states are tried. The device runs before and afterwards. Errors: it cannot be asked.
[[nodiscard]] Result<MigrationFlags> flags_by_region(DeviceHandle& device, const MigrationRegion& region,
                                                     Revision revision);

// What a value of device_state means; nullopt: no state.
[[nodiscard]] std::optional<DeviceState> region_state(Revision revision, std::uint32_t device_state);

}  // namespace gangway::profile
