#include "record/structures.h"

#include <algorithm>

#include <gangway/device_handle.h>

#include "base/bytes.h"
#include "vfio_user/protocol.h"

namespace gangway::record {
namespace {

namespace wire = vfio_user;

void take_capability(Bytes answered, std::size_t at, std::uint16_t id, GetRegion& region) {
  if (id == wire::kCapType) {
    const auto type = structure<wire::CapType>(answered, at);
    region.type = {type.type, type.subtype};
  }
  if (id != wire::kCapSparseMmap) return;
  const auto sparse = structure<wire::CapSparseMmap>(answered, at);
  const Bytes areas = behind(answered, at + sizeof sparse);
  for (std::size_t i = 0; i < sparse.areas && (i + 1) * sizeof(wire::SparseArea) <= areas.size(); ++i) {
    const auto area = structure<wire::SparseArea>(areas, i * sizeof(wire::SparseArea));
    region.mappable.emplace_back(area.offset, area.size);
  }
}

// --- features ---

struct FeatureBytes {
  std::uint16_t number = 0;
  bool set = false;
  Bytes asked;  // behind the header
  Bytes answered;
  Bytes pointed;
  const Payload& bitmap;
};

Doing migration(const FeatureBytes& in) {
  return GetMigrationFlags{.flags = structure<wire::FeatureMigration>(in.answered).flags};
}

Doing device_state(const FeatureBytes& in) {
  if (in.set) return SetState{.state = structure<wire::FeatureDeviceState>(in.asked).state};
  return GetState{.state = structure<wire::FeatureDeviceState>(in.answered).state};
}

Doing logging_start(const FeatureBytes& in) {
  const auto control = structure<wire::FeatureLoggingControl>(in.asked);
  StartLogging start{.page_size = control.page_size,
                     .answered_page_size = structure<wire::FeatureLoggingControl>(in.answered).page_size};
  const Bytes ranges = in.pointed.empty() ? behind(in.asked, sizeof control) : in.pointed;
  for (std::size_t i = 0; i < control.ranges && (i + 1) * sizeof(wire::LoggingRange) <= ranges.size(); ++i) {
    const auto range = structure<wire::LoggingRange>(ranges, i * sizeof(wire::LoggingRange));
    start.ranges.push_back({{range.iova}, range.length});
  }
  return start;
}

Doing logging_stop(const FeatureBytes&) { return StopLogging{}; }

Doing logging_report(const FeatureBytes& in) {
  const auto report = structure<wire::FeatureLoggingReport>(in.asked);
  return ReportLogging{.range = {{report.iova}, report.length}, .page_size = report.page_size, .bitmap = in.bitmap};
}

Doing data_size(const FeatureBytes& in) {
  return GetDataSize{.size = structure<wire::FeatureDataSize>(in.answered).stop_copy_length};
}

Doing precopy_info(const FeatureBytes& in) {
  const auto info = structure<wire::FeaturePrecopyInfo>(in.answered);
  return GetPrecopyInfo{.flags = info.flags, .initial = info.initial_bytes, .dirty = info.dirty_bytes};
}

struct FeatureMeaning {
  std::uint16_t number;
  std::uint32_t method;
  Doing (*meaning)(const FeatureBytes&);
};
constexpr std::uint16_t number_of(Feature feature) { return static_cast<std::uint16_t>(feature); }
constexpr FeatureMeaning kFeatures[] = {
    {number_of(Feature::Migration), wire::kFeatureGet, migration},
    {number_of(Feature::MigDeviceState), wire::kFeatureGet, device_state},
    {number_of(Feature::MigDeviceState), wire::kFeatureSet, device_state},
    {number_of(Feature::DmaLoggingStart), wire::kFeatureSet, logging_start},
    {number_of(Feature::DmaLoggingStop), wire::kFeatureSet, logging_stop},
    {number_of(Feature::DmaLoggingReport), wire::kFeatureGet, logging_report},
    {number_of(Feature::MigDataSize), wire::kFeatureGet, data_size},
    {wire::kFeaturePrecopyInfo, wire::kFeatureGet, precopy_info},
};

}  // namespace

GetRegion region_of(Bytes asked, Bytes answered) {
  const auto request = structure<wire::RegionInfo>(asked);
  const auto info = structure<wire::RegionInfo>(answered);
  GetRegion region{.region = request.index, .room = request.argsz, .flags = info.flags, .size = info.size};
  // A chain that leads back, or beyond the end, ends.
  std::size_t at = (info.flags & wire::kRegionCaps) != 0 ? info.cap_offset : 0;
  while (at >= sizeof info) {
    const auto capability = load_at<wire::CapHeader>(answered, at);
    if (!capability) break;
    take_capability(answered, at, capability->id, region);
    if (capability->next <= at) break;
    at = capability->next;
  }
  return region;
}

SetIrqs irqs_of(Bytes asked) {
  const auto set = structure<wire::IrqSet>(asked);
  SetIrqs irqs{.type = set.index, .flags = set.flags, .start = set.start, .count = set.count};
  const Bytes data = behind(asked, sizeof set);
  if ((set.flags & wire::kIrqDataBool) != 0) irqs.bools.assign(data.begin(), data.end());
  return irqs;
}

Doing feature_of(Bytes asked, Bytes answered, Bytes pointed, const Payload& bitmap) {
  const auto header = structure<wire::FeatureHeader>(asked);
  const FeatureBytes in{.number = static_cast<std::uint16_t>(header.flags & wire::kFeatureMask),
                        .set = (header.flags & wire::kFeatureSet) != 0,
                        .asked = behind(asked, sizeof header),
                        .answered = behind(answered, sizeof header),
                        .pointed = pointed,
                        .bitmap = bitmap};
  if ((header.flags & wire::kFeatureProbe) != 0) {
    return ProbeFeature{.feature = in.number, .get = (header.flags & wire::kFeatureGet) != 0, .set = in.set};
  }
  const std::uint32_t method = header.flags & (wire::kFeatureGet | wire::kFeatureSet);
  for (const FeatureMeaning& one : kFeatures) {
    if (one.number == in.number && one.method == method) return one.meaning(in);
  }
  if (method == wire::kFeatureSet) return SetFeature{.feature = in.number, .argument = copy_of(in.asked)};
  return GetFeature{.feature = in.number, .argument = copy_of(in.asked), .answer = copy_of(in.answered)};
}

}  // namespace gangway::record
