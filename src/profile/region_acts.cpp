#include "profile/region_acts.h"

#include <algorithm>
#include <bit>

#include <fmt/core.h>

#include <gangway/migration_region.h>

#include "base/bytes.h"

namespace gangway::profile {
namespace {

using namespace migration_region;

template <class T>
Result<T> get(DeviceHandle& device, std::uint32_t region, std::uint64_t offset) {
  T value{};
  if (Result<void> read = device.read(region, offset, std::as_writable_bytes(std::span(&value, 1))); !read) {
    return std::unexpected(read.error());
  }
  return value;
}

template <class T>
Result<void> put(DeviceHandle& device, std::uint32_t region, std::uint64_t offset, T value) {
  return device.write(region, offset, bytes_of(value));
}

std::uint32_t number(DeviceState state) { return static_cast<std::uint32_t>(state); }

// The next access: up to 8 bytes a power of two at its natural alignment, as drivers that take no others want it.
std::size_t next_access(std::uint64_t offset, std::size_t left, std::size_t most) {
  constexpr std::size_t kWord = 8;
  std::size_t size = std::min(left, most);
  if (most > kWord) return size;
  size = std::bit_floor(size);
  while (offset % size != 0) size /= 2;
  return size;
}

template <class Byte, class Access>
Result<void> in_accesses(std::uint64_t offset, std::span<Byte> bytes, std::size_t most, Access access) {
  while (!bytes.empty()) {
    const std::size_t size = next_access(offset, bytes.size(), most);
    if (Result<void> done = access(offset, bytes.first(size)); !done) return done;
    offset += size;
    bytes = bytes.subspan(size);
  }
  return {};
}

}  // namespace

Result<std::optional<MigrationRegion>> MigrationRegion::find(DeviceHandle& device, Revision revision) {
  const Result<DeviceHandle::Info> info = device.info();
  if (!info) return std::unexpected(info.error());
  for (std::uint32_t index = 0; index < info->regions; ++index) {
    const Result<DeviceHandle::Region> region = device.region(index);
    if (!region || region->type != kType || region->subtype != subtype(revision)) continue;
    return MigrationRegion{.index = index, .size = region->size};
  }
  return std::nullopt;
}

Result<std::uint32_t> MigrationRegion::device_state(DeviceHandle& device) const {
  return get<std::uint32_t>(device, index, kDeviceState);
}

Result<void> MigrationRegion::set_device_state(DeviceHandle& device, std::uint32_t value) const {
  return put(device, index, kDeviceState, value);
}

Result<void> MigrationRegion::set_bits(DeviceHandle& device, std::uint32_t bits) const {
  const Result<std::uint32_t> before = device_state(device);
  if (!before) return std::unexpected(before.error());
  return put(device, index, kDeviceState, (*before & ~kStateBits) | bits);
}

Result<std::uint64_t> MigrationRegion::pending_bytes(DeviceHandle& device) const {
  return get<std::uint64_t>(device, index, kPendingBytes);
}

Result<conformance::Bytes> MigrationRegion::chunk(DeviceHandle& device, std::size_t access) const {
  const Result<std::uint64_t> offset = get<std::uint64_t>(device, index, kDataOffset);
  if (!offset) return std::unexpected(offset.error());
  const Result<std::uint64_t> bytes = get<std::uint64_t>(device, index, kDataSize);
  if (!bytes) return std::unexpected(bytes.error());
  if (*bytes == 0 || *offset > size || *bytes > size - *offset) {
    return fail(EPROTO, fmt::format("a chunk of {} bytes at {:#x} of a region of {:#x}", *bytes, *offset, size),
                "V1-SAVE");
  }
  conformance::Bytes data(*bytes);
  const Result<void> read =
      in_accesses(*offset, std::span(data), access,
                  [&](std::uint64_t at, std::span<std::byte> part) { return device.read(index, at, part); });
  if (!read) return std::unexpected(read.error());
  return data;
}

Result<void> MigrationRegion::load(DeviceHandle& device, std::span<const std::byte> chunk, std::size_t access) const {
  while (!chunk.empty()) {
    const Result<std::uint64_t> offset = get<std::uint64_t>(device, index, kDataOffset);
    if (!offset) return std::unexpected(offset.error());
    if (*offset >= size) {
      return fail(EPROTO, fmt::format("data belongs at {:#x} of a region of {:#x}", *offset, size), "V1-LOAD");
    }
    const auto part = chunk.first(std::min<std::uint64_t>(chunk.size(), size - *offset));
    const Result<void> written =
        in_accesses(*offset, part, access,
                    [&](std::uint64_t at, std::span<const std::byte> bytes) { return device.write(index, at, bytes); });
    if (!written) return written;
    if (Result<void> committed = put(device, index, kDataSize, std::uint64_t{part.size()}); !committed)
      return committed;
    chunk = chunk.subspan(part.size());
  }
  return {};
}

Result<MigrationFlags> flags_by_region(DeviceHandle& device, const MigrationRegion& region, Revision revision) {
  if (revision == Revision::V1) return MigrationFlags{.p2p = false, .pre_copy = true};
  const auto has = [&](DeviceState state) -> Result<bool> {
    const Result<void> set = region.set_device_state(device, number(state));
    if (!set && set.error().code != EINVAL) return std::unexpected(set.error());
    if (!set) return false;  // FSM-INVALID
    if (Result<void> back = region.set_device_state(device, number(DeviceState::Running)); !back) {
      return std::unexpected(back.error());
    }
    return true;
  };
  const Result<bool> p2p = has(DeviceState::RunningP2p);
  if (!p2p) return std::unexpected(p2p.error());
  const Result<bool> pre_copy = has(DeviceState::PreCopy);
  if (!pre_copy) return std::unexpected(pre_copy.error());
  return MigrationFlags{.p2p = *p2p, .pre_copy = *pre_copy};
}

std::optional<DeviceState> region_state(Revision revision, std::uint32_t device_state) {
  if (revision == Revision::RegionV2) {
    if (device_state < kDeviceStates) return static_cast<DeviceState>(device_state);
    return std::nullopt;
  }
  if ((device_state & kStateBits) == v1_bits(DeviceState::Error)) return DeviceState::Error;
  return v1_state(device_state);
}

}  // namespace gangway::profile
