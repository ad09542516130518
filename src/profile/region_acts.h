// The acts of a v1 client on the migration region, as such clients make them: a field in one access, the data in
// accesses that are as small as the client's.
//
// MigrationRegionClient is our own client; these are the steps of others, one by one.
//
// Thread-safety: values; what acts on a device is bound by its handle.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include <gangway/device_handle.h>

#include "conformance/stream.h"

namespace gangway::profile {

struct MigrationRegion {
  std::uint32_t index = 0;
  std::uint64_t size = 0;

  // nullopt: the device has none of v1 (V1-HIDDEN).
  static Result<std::optional<MigrationRegion>> find(DeviceHandle& device);

  [[nodiscard]] Result<std::uint32_t> device_state(DeviceHandle& device) const;
  // Reads it and writes it with the lowest three bits replaced (V1-STATES).
  [[nodiscard]] Result<void> set_bits(DeviceHandle& device, std::uint32_t bits) const;
  [[nodiscard]] Result<std::uint64_t> pending_bytes(DeviceHandle& device) const;
  // EPROTO for one that is empty or does not lie in the region.
  [[nodiscard]] Result<conformance::Bytes> chunk(DeviceHandle& device, std::size_t access) const;
  // In several parts where the region has no room for all of it.
  [[nodiscard]] Result<void> load(DeviceHandle& device, std::span<const std::byte> chunk, std::size_t access) const;
};

}  // namespace gangway::profile
