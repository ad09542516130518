// What a target has, asked once before its tests: what it lacks is "not supported" and never a failure.
//
// Thread-safety: values.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include <gangway/contract.h>
#include <gangway/device_handle.h>

namespace gangway::conformance {

// What a test needs, to be combined.
enum Need : std::uint32_t {
  kMigration = 1U << 0,
  kP2p = 1U << 1,
  kPreCopy = 1U << 2,
  kNoPreCopy = 1U << 3,
  kReset = 1U << 4,
  kDataSize = 1U << 5,
  kPrecopyInfo = 1U << 6,
  kPrecopyInfoV2 = 1U << 7,
  kEndsApart = 1U << 8,
  kDmaLogging = 1U << 9,
  kPci = 1U << 10,
  kWire = 1U << 11,  // a vfio-user socket
  kV1 = 1U << 12,
  kRegionV2 = 1U << 13,
  kRevisions = 1U << 14,  // several, of the migration interface
  kDataFd = 1U << 15,
  // What the suite was or was not given, as opposed to what the device has:
  kWorkload = 1U << 16,
  kDma = 1U << 17,         // a workload that makes the device write memory
  kInterrupts = 1U << 18,  // a workload that makes it interrupt
  kPeer = 1U << 19,
  kChange = 1U << 20,  // a workload that changes memory of the device's own
};

struct Abilities {
  std::uint32_t have = 0;  // Needs
  std::optional<MigrationFlags> flags;
  DeviceHandle::Info info;
  std::uint32_t class_code = 0;
  std::uint16_t vendor = 0;
  std::uint16_t device = 0;
  std::string why_no_migration;
  struct Region {
    std::uint32_t index = 0;
    std::uint64_t size = 0;
    bool mapped = false;
  };
  std::optional<Region> v1;
  std::optional<Region> region_v2;
  std::string dead_region;  // a migration region that does not answer

  [[nodiscard]] MigrationFlags migration() const { return flags.value_or(MigrationFlags{}); }
  // The revision's region, if it is exposed and has one.
  [[nodiscard]] std::optional<Region> migration_region(Revision revision) const {
    return revision == Revision::V1 ? v1 : revision == Revision::RegionV2 ? region_v2 : std::nullopt;
  }
  [[nodiscard]] bool has(Revision revision) const {
    return revision == Revision::V2 ? flags.has_value() : migration_region(revision).has_value();
  }
};

// Asks an open device. Errors: it does not even say what it is.
Result<Abilities> find_abilities(DeviceHandle& device);

// The first need that is not there, in words: "P2P"; empty if all are.
[[nodiscard]] std::string_view missing(const Abilities& abilities, std::uint32_t needs);
// Whether what is missing is the suite's lack.
[[nodiscard]] bool is_given_by_user(const Abilities& abilities, std::uint32_t needs);

}  // namespace gangway::conformance
