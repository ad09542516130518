#include "record/fields.h"

#include <algorithm>
#include <cstring>
#include <iterator>

#include <fmt/format.h>

#include <gangway/contract.h>
#include <gangway/device_handle.h>

#include "vfio_user/protocol.h"

namespace gangway::record {
namespace {

using Kind = Field::Kind;

constexpr std::pair<std::uint16_t, std::string_view> kFeatures[] = {
    {static_cast<std::uint16_t>(Feature::Migration), "MIGRATION"},
    {static_cast<std::uint16_t>(Feature::MigDeviceState), "MIG_DEVICE_STATE"},
    {static_cast<std::uint16_t>(Feature::DmaLoggingStart), "DMA_LOGGING_START"},
    {static_cast<std::uint16_t>(Feature::DmaLoggingStop), "DMA_LOGGING_STOP"},
    {static_cast<std::uint16_t>(Feature::DmaLoggingReport), "DMA_LOGGING_REPORT"},
    {static_cast<std::uint16_t>(Feature::MigDataSize), "MIG_DATA_SIZE"},
    {static_cast<std::uint16_t>(Feature::MigPrecopyInfoV2), "MIG_PRECOPY_INFOv2"},
    {vfio_user::kFeaturePrecopyInfo, "gangway PRECOPY_INFO"},
    {vfio_user::kFeatureSharedData, "gangway SHARED_DATA"},
};

std::string hex_of(std::span<const std::byte> bytes) {
  std::string text;
  for (const std::byte byte : bytes) fmt::format_to(std::back_inserter(text), "{:02x}", static_cast<unsigned>(byte));
  return text;
}

// Collects the fields of an act; one function for each of Doing.
class Collector {
 public:
  explicit Collector(bool with_answer) : with_answer_(with_answer) {}
  [[nodiscard]] std::vector<Field> take() { return std::move(fields_); }

  void operator()(const Open& in) { words("what", in.what, Kind::Handle); }
  void operator()(const Close& in) { words("what", in.what, Kind::Handle); }
  void operator()(const CloseData& in) {
    words("what", in.what, Kind::Handle);
    flag("current", in.current);
  }
  void operator()(const Negotiate& in) {
    words("version", fmt::format("{}.{}", in.major, in.minor));
    words("proposed", in.proposed);
    if (!with_answer_) return;
    words("answered_version", fmt::format("{}.{}", in.answered_major, in.answered_minor));
    words("answered", in.answered);
  }
  void operator()(const GetInfo& in) {
    if (!with_answer_) return;
    hex("flags", in.flags);
    number("regions", in.regions);
    number("irqs", in.irqs);
  }
  void operator()(const GetRegion& in) {
    number("region", in.region);
    number("room", in.room);
    if (!with_answer_) return;
    hex("flags", in.flags);
    hex("size", in.size);
    if (in.type) words("type", fmt::format("{:#x}.{}", in.type->first, in.type->second));
    std::string areas;
    for (const auto& [offset, size] : in.mappable) {
      areas += fmt::format("{}{:#x}+{:#x}", areas.empty() ? "" : ",", offset, size);
    }
    if (!areas.empty()) words("mappable", areas);
  }
  void operator()(const GetIrq& in) {
    number("type", in.type);
    if (!with_answer_) return;
    hex("flags", in.flags);
    number("count", in.count);
  }
  void operator()(const GetRegionFds& in) {
    number("region", in.region);
    if (with_answer_) number("count", in.count);
  }
  void operator()(const ReadRegion& in) {
    access(in.region, in.offset, in.size);
    if (with_answer_) content(in.data, in.payload);
  }
  void operator()(const WriteRegion& in) {
    access(in.region, in.offset, in.size);
    content(in.data, in.payload);
  }
  void operator()(const WriteRegions& in) {
    std::string all;
    for (const WriteRegion& one : in.writes) {
      all += fmt::format("{}{}:{:#x}={}", all.empty() ? "" : ",", one.region, one.offset, hex_of(one.data));
    }
    words("writes", all);
    if (with_answer_) number("done", in.done);
  }
  void operator()(const MapRegion& in) {
    hex("offset", in.offset, Kind::Handle);
    hex("size", in.size);
  }
  void operator()(const SetIrqs& in) {
    number("type", in.type);
    hex("flags", in.flags);
    number("start", in.start);
    number("count", in.count);
    if (!in.bools.empty()) words("bools", hex_of(in.bools));
    if (in.descriptors != 0) number("descriptors", in.descriptors);
  }
  void operator()(const MapDma& in) {
    range(in.range);
    number("flags", in.flags);
    hex("file_offset", in.offset, Kind::Handle);
    flag("with_memory", in.with_memory);
  }
  void operator()(const UnmapDma& in) {
    range(in.range);
    number("flags", in.flags);
    if (in.bitmap.size != 0) payload("bitmap", in.bitmap, Kind::Plain);
  }
  void operator()(const DeviceReads& in) {
    hex("iova", in.iova.value);
    number("size", in.size);
    payload("memory", in.payload, Kind::Opaque);
  }
  void operator()(const DeviceWrites& in) {
    hex("iova", in.iova.value);
    number("size", in.size);
    payload("memory", in.payload, Kind::Opaque);
  }
  void operator()(const Reset&) {}
  void operator()(const ProbeFeature& in) {
    words("feature", feature_text(in.feature));
    flag("get", in.get);
    flag("set", in.set);
  }
  void operator()(const GetFeature& in) {
    words("feature", feature_text(in.feature));
    words("argument", hex_of(in.argument));
    if (with_answer_) words("answer", hex_of(in.answer), Kind::Opaque);
  }
  void operator()(const SetFeature& in) {
    words("feature", feature_text(in.feature));
    words("argument", hex_of(in.argument));
  }
  void operator()(const GetMigrationFlags& in) {
    if (with_answer_) number("flags", in.flags);
  }
  void operator()(const GetState& in) {
    if (with_answer_) words("state", state_text(in.state));
  }
  void operator()(const SetState& in) { words("state", state_text(in.state)); }
  void operator()(const GetDataSize& in) {
    if (with_answer_) number("size", in.size, Kind::Opaque);
  }
  void operator()(const GetPrecopyInfo& in) {
    if (!with_answer_) return;
    number("flags", in.flags);
    number("initial", in.initial, Kind::Opaque);
    number("dirty", in.dirty, Kind::Opaque);
  }
  void operator()(const StartLogging& in) {
    number("page_size", in.page_size);
    std::string all;
    for (const IovaRange& one : in.ranges) {
      all += fmt::format("{}{:#x}+{:#x}", all.empty() ? "" : ",", one.start.value, one.size);
    }
    words("ranges", all);
    if (with_answer_) number("answered_page_size", in.answered_page_size);
  }
  void operator()(const StopLogging&) {}
  void operator()(const ReportLogging& in) {
    range(in.range);
    number("page_size", in.page_size);
    if (with_answer_) payload("bitmap", in.bitmap, Kind::Opaque);
  }
  void operator()(const ReadData& in) {
    number("asked", in.asked);
    if (with_answer_) payload("data", in.got, Kind::Opaque);
    flag("shared", in.shared);
  }
  void operator()(const WriteData& in) {
    payload("data", in.given, Kind::Opaque);
    flag("shared", in.shared);
  }
  void operator()(const Other& in) {
    words("name", in.name);
    words("argument", hex_of(in.argument), Kind::Handle);
    if (with_answer_ && !in.answer.empty()) words("answer", hex_of(in.answer), Kind::Handle);
  }

 private:
  void number(std::string_view name, std::uint64_t value, Kind kind = Kind::Plain) {
    fields_.push_back({.name = name, .value = value, .kind = kind});
  }
  void hex(std::string_view name, std::uint64_t value, Kind kind = Kind::Plain) {
    fields_.push_back({.name = name, .value = value, .kind = kind, .hexadecimal = true});
  }
  void words(std::string_view name, std::string value, Kind kind = Kind::Plain) {
    fields_.push_back({.name = name, .value = std::move(value), .kind = kind});
  }
  void flag(std::string_view name, bool value) { fields_.push_back({.name = name, .value = value}); }
  void access(std::uint32_t region, std::uint64_t offset, std::uint32_t size) {
    number("region", region);
    hex("offset", offset);
    number("size", size);
  }
  void range(IovaRange range) {
    hex("iova", range.start.value);
    hex("size", range.size);
  }
  void content(const std::vector<std::byte>& data, const Payload& rest) {
    if (!data.empty()) words("data", hex_of(data));
    if (rest.size != 0) payload("payload", rest, Kind::Opaque);
  }
  // "4096 bytes 0123456789abcdef"
  void payload(std::string_view name, const Payload& payload, Kind kind) {
    std::string value = fmt::format("{} bytes", payload.size);
    if (payload.hash) value += fmt::format(" {:016x}", *payload.hash);
    words(name, std::move(value), kind);
  }

  bool with_answer_;
  std::vector<Field> fields_;
};

}  // namespace

std::vector<Field> fields(const Act& act) {
  Collector collector(act.succeeded());
  std::visit(collector, act.doing);
  std::vector<Field> all = collector.take();
  if (!act.wants_reply) all.push_back({.name = "no_reply", .value = true});
  if (act.wants_reply && !act.answered) all.push_back({.name = "unanswered", .value = true});
  if (act.error != 0) {
    const char* name = ::strerrorname_np(act.error);
    all.push_back({.name = "error", .value = name != nullptr ? std::string(name) : std::to_string(act.error)});
  }
  return all;
}

std::string text(const Field& field) {
  if (const auto* number = std::get_if<std::uint64_t>(&field.value)) {
    return field.hexadecimal ? fmt::format("{:#x}", *number) : std::to_string(*number);
  }
  if (const auto* flag = std::get_if<bool>(&field.value)) return *flag ? "yes" : "no";
  return std::get<std::string>(field.value);
}

std::string state_text(std::uint32_t state) {
  if (state >= kDeviceStates) return std::to_string(state);
  return std::string(contract::name(static_cast<DeviceState>(state)));
}

std::string feature_text(std::uint16_t feature) {
  for (const auto& [number, name] : kFeatures) {
    if (number == feature) return std::string(name);
  }
  return std::to_string(feature);
}

}  // namespace gangway::record
