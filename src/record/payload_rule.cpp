#include "record/payload_rule.h"

#include <gangway/device_handle.h>

#include "record/structures.h"

namespace gangway::record {
namespace {

namespace wire = vfio_user;

constexpr std::size_t kMostKept = 4096;            // of what nobody knows, and of an access to a region
constexpr std::size_t kMostStructure = 80U << 10;  // VERSION with its JSON, 4096 ranges of a log
constexpr std::size_t kMigrationHeader = 32;       // of a migration region: registers, and behind them data
constexpr std::uint32_t kMigrationRegionType = 3;  // VFIO_REGION_TYPE_MIGRATION
constexpr std::size_t kMostMigrationRegions = 64;

struct Rule {
  wire::Command command;
  std::uint32_t type;
  std::size_t structure;
};
constexpr Rule kRules[] = {
    {wire::Command::DmaRead, wire::kTypeReply, sizeof(wire::DmaAccessMessage)},
    {wire::Command::DmaWrite, wire::kTypeCommand, sizeof(wire::DmaAccessMessage)},
    {wire::Command::MigDataRead, wire::kTypeReply, sizeof(wire::MigData)},
    {wire::Command::MigDataWrite, wire::kTypeCommand, sizeof(wire::MigData)},
    {wire::Command::DmaUnmap, wire::kTypeReply, sizeof(wire::DmaUnmap) + sizeof(wire::Bitmap)},
};

}  // namespace

std::size_t PayloadRule::structure_size(const wire::Header& header, Bytes body) const {
  const auto command = static_cast<wire::Command>(header.command);
  const std::uint32_t type = header.flags & wire::kTypeMask;
  const bool reply = type == wire::kTypeReply;
  for (const Rule& rule : kRules) {
    if (rule.command == command && rule.type == type) return rule.structure;
  }
  if (command == (wire::Command::RegionRead) || command == wire::Command::RegionWrite) {
    return reply == (command == wire::Command::RegionRead) ? region_access(body) : sizeof(wire::RegionAccess);
  }
  if (command == wire::Command::DeviceFeature && reply) {
    const auto feature = structure<wire::FeatureHeader>(body);
    const bool report = (feature.flags & wire::kFeatureMask) == static_cast<std::uint32_t>(Feature::DmaLoggingReport);
    return report ? sizeof feature + sizeof(wire::FeatureLoggingReport) : kMostStructure;
  }
  const bool known = command >= wire::Command::Version && command <= wire::Command::MigDataWrite;
  return known ? kMostStructure : kMostKept;
}

std::size_t PayloadRule::region_access(Bytes body) const {
  const auto access = structure<wire::RegionAccess>(body);
  const bool data = migration_regions_.contains(access.region) && access.offset >= kMigrationHeader;
  return sizeof access + (data ? 0 : kMostKept);
}

void PayloadRule::learn(const wire::Header& header, Bytes reply) {
  const bool region = header.command == static_cast<std::uint16_t>(wire::Command::DeviceGetRegionInfo);
  if (!region || (header.flags & wire::kTypeMask) != wire::kTypeReply) return;
  const GetRegion info = region_of(reply, reply);
  if (info.type && info.type->first == kMigrationRegionType && migration_regions_.size() < kMostMigrationRegions) {
    migration_regions_.insert(info.region);
  }
}

}  // namespace gangway::record
