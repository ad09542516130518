#include "conformance/abilities.h"

#include <array>
#include <utility>

#include <fmt/core.h>

#include <gangway/migration_region.h>

#include "base/bytes.h"

namespace gangway::conformance {
namespace {

constexpr std::uint32_t kOfUser = kWorkload | kDma | kInterrupts | kPeer | kChange;

constexpr std::array<std::pair<Need, std::string_view>, 21> kNames{{
    {kMigration, "migration by v2"},
    {kP2p, "P2P"},
    {kPreCopy, "PRE_COPY"},
    {kNoPreCopy, "a device without PRE_COPY"},
    {kReset, "reset"},
    {kDataSize, "MIG_DATA_SIZE"},
    {kPrecopyInfo, "PRECOPY_INFO"},
    {kPrecopyInfoV2, "PRECOPY_INFOv2"},
    {kEndsApart, "a transport that tells a temporary end"},
    {kDmaLogging, "DMA logging"},
    {kPci, "PCI"},
    {kWire, "a vfio-user socket"},
    {kDataFd, "a transport with a data descriptor"},
    {kV1, "v1, a migration region of sub-type 1"},
    {kRegionV2, "region-v2, a migration region of sub-type 2"},
    {kRevisions, "a second revision of the migration interface"},
    {kWorkload, "the suite knows no workload for this device"},
    {kDma, "the suite knows no workload that makes this device write memory"},
    {kInterrupts, "the suite knows no workload that makes this device interrupt"},
    {kChange, "the suite knows no workload that changes memory of this device"},
    {kPeer, "no second device was given"},
}};

template <class T>
T read_config(DeviceHandle& device, std::uint64_t offset) {
  std::array<std::byte, sizeof(T)> bytes{};
  if (!device.read(to_number(RegionIndex::Config), offset, bytes)) return 0;
  return load_at<T>(bytes).value_or(0);
}

// A region may be found and not be served; that is for V1-HIDDEN to judge.
void find_migration_regions(DeviceHandle& device, Abilities& found) {
  for (std::uint32_t index = 0; index < found.info.regions; ++index) {
    const auto region = device.region(index);
    if (!region || region->type != migration_region::kType) continue;
    std::array<std::byte, sizeof(std::uint32_t)> state{};
    const Result<void> read = device.read(index, migration_region::kDeviceState, state);
    if (!read) {
      found.dead_region =
          fmt::format("region {}, of sub-type {}: {}", index, region->subtype.value_or(0), read.error().message);
    } else if (region->subtype == migration_region::subtype(Revision::V1)) {
      found.v1 = {index, region->size, region->mmap};
    } else if (region->subtype == migration_region::subtype(Revision::RegionV2)) {
      found.region_v2 = {index, region->size, region->mmap};
    }
  }
}

}  // namespace

Result<Abilities> find_abilities(DeviceHandle& device) {
  const Result<DeviceHandle::Info> info = device.info();
  if (!info) return fail_within("what the device is", info.error());
  Abilities found{.info = *info};
  const auto set = [&found](Need need, bool is) { found.have |= is ? need : 0U; };
  // What says that it cannot be reset and can is for RST-ALLOWED to judge.
  set(kReset, info->reset || device.reset().has_value());
  set(kPci, info->pci);
  set(kWire, device.target().starts_with("vfio-user:"));
  set(kDmaLogging, device.feature_probe(Feature::DmaLoggingStart, false, true).has_value());
  if (info->pci) {
    found.vendor = read_config<std::uint16_t>(device, 0x00);
    found.device = read_config<std::uint16_t>(device, 0x02);
    found.class_code = read_config<std::uint32_t>(device, 0x08) >> 8;
  }
  find_migration_regions(device, found);
  set(kV1, found.v1.has_value());
  set(kRegionV2, found.region_v2.has_value());
  const Result<MigrationFlags> flags = device.migration_flags();
  set(kRevisions, flags.has_value() + found.v1.has_value() + found.region_v2.has_value() > 1);
  if (!flags) {
    found.why_no_migration = flags.error().message;
    return found;
  }
  found.flags = *flags;
  set(kMigration, true);
  set(kP2p, flags->p2p);
  set(kPreCopy, flags->pre_copy);
  set(kNoPreCopy, !flags->pre_copy);
  set(kDataSize, device.feature_probe(Feature::MigDataSize, true, false).has_value());
  set(kEndsApart, device.tells_ends_apart());
  const Result<int> descriptor = device.data_descriptor();
  set(kDataFd, descriptor || descriptor.error().code != ENOTTY);
  const Result<PrecopyInfo> precopy = device.precopy_info();
  set(kPrecopyInfo, precopy || precopy.error().code != ENOTTY);
  set(kPrecopyInfoV2, device.feature_probe(Feature::MigPrecopyInfoV2, false, true).has_value());
  return found;
}

std::string_view missing(const Abilities& abilities, std::uint32_t needs) {
  for (const auto& [need, name] : kNames) {
    if ((needs & need) != 0 && (abilities.have & need) == 0) return name;
  }
  return {};
}

bool is_given_by_user(const Abilities& abilities, std::uint32_t needs) {
  return (needs & ~abilities.have & ~kOfUser) == 0;
}

}  // namespace gangway::conformance
