#include "record/call_acts.h"

#include <fmt/format.h>

#include "kernel/uapi.h"
#include "record/ioctls.h"
#include "record/structures.h"
#include "vfio_user/protocol.h"

namespace gangway::record {
namespace {

namespace wire = vfio_user;
using Call = CallRecord::Call;
using Role = CallRecord::Role;

constexpr std::size_t kMostPlaces = 4096;  // regions of one device that are remembered

// What the kernel wrote back; what was given where it wrote nothing.
Bytes after(const CallRecord& call) {
  if (call.result < 0) return {};
  return call.answer.empty() ? Bytes(call.argument) : Bytes(call.answer);
}

SetIrqs set_irqs(const CallRecord& call) {
  SetIrqs set = irqs_of(Bytes(call.argument));
  if ((set.flags & wire::kIrqDataEventfd) == 0) return set;
  const Bytes eventfds = behind(call.argument, sizeof(wire::IrqSet));
  for (std::size_t at = 0; at + sizeof(std::int32_t) <= eventfds.size(); at += sizeof(std::int32_t)) {
    if (structure<std::int32_t>(eventfds, at) >= 0) ++set.descriptors;
  }
  return set;
}

MapDma ioas_map(const CallRecord& call) {
  const auto asked = structure<kernel::IoasMap>(call.argument);
  const auto done = structure<kernel::IoasMap>(after(call));
  MapDma map{.range = {{call.result < 0 ? asked.iova : done.iova}, asked.length}, .with_memory = true};
  if ((asked.flags & kernel::kIoasMapRead) != 0) map.flags |= wire::kDmaMapRead;
  if ((asked.flags & kernel::kIoasMapWrite) != 0) map.flags |= wire::kDmaMapWrite;
  return map;
}

}  // namespace

std::optional<Act> CallActs::act_of(const CallRecord& call) {
  std::optional<Doing> doing = doing_of(call);
  if (!doing) return std::nullopt;
  std::vector<std::uint32_t> about = owners_.devices_of(call);
  const std::uint32_t first = about.empty() ? call.object : about.front();
  if (!about.empty()) about.erase(about.begin());
  return Act{.doing = *std::move(doing),
             .time = call.time,
             .took = call.took,
             .connection = first,
             .also = std::move(about),
             .thread = call.thread,
             .answered = true,
             .error = call.error};
}

std::optional<Doing> CallActs::doing_of(const CallRecord& call) {
  switch (call.call) {
    case Call::Open:
      return Open{call.text};
    case Call::Close:
      return close_of(call);
    case Call::Ioctl:
      return ioctl_of(call);
    case Call::Read:
      if (call.role == Role::MigrationData)
        return ReadData{.asked = call.length, .got = call.payload, .by_descriptor = true};
      return access_of(call);
    case Call::Write:
      if (call.role == Role::MigrationData) return WriteData{.given = call.payload};
      return access_of(call);
    case Call::Mmap:
      return MapRegion{.offset = call.offset, .size = call.length};
    case Call::Munmap:
    case Call::Duplicate:
    case Call::Send:
      return std::nullopt;
  }
  return std::nullopt;
}

Doing CallActs::ioctl_of(const CallRecord& call) {
  const IoctlKind kind = ioctl_kind(call.role, call.request);
  const Bytes answer = after(call);
  switch (kind.ioctl) {
    case Ioctl::DeviceInfo: {
      const auto info = structure<wire::DeviceInfo>(answer);
      return GetInfo{.flags = info.flags, .regions = info.regions, .irqs = info.irqs};
    }
    case Ioctl::RegionInfo: {
      GetRegion region = region_of(call.argument, answer);
      remember(call, region);
      return region;
    }
    case Ioctl::IrqInfo: {
      const auto info = structure<wire::IrqInfo>(answer);
      return GetIrq{.type = structure<wire::IrqInfo>(call.argument).index, .flags = info.flags, .count = info.count};
    }
    case Ioctl::SetIrqs:
      return set_irqs(call);
    case Ioctl::DeviceReset:
      return Reset{};
    case Ioctl::DeviceFeature:
      return feature_act(call);
    case Ioctl::PrecopyInfo: {
      const auto info = structure<wire::FeaturePrecopyInfo>(answer);
      return GetPrecopyInfo{.flags = info.flags, .initial = info.initial_bytes, .dirty = info.dirty_bytes};
    }
    case Ioctl::MapDma: {
      const auto map = structure<kernel::ContainerMap>(call.argument);
      return MapDma{.range = {{map.iova}, map.size}, .flags = map.flags, .with_memory = true};
    }
    case Ioctl::UnmapDma: {
      const auto unmap = structure<wire::DmaUnmap>(call.argument);  // the same structure
      return UnmapDma{.range = {{unmap.address}, unmap.size}, .flags = unmap.flags, .bitmap = call.payload};
    }
    case Ioctl::IoasMap:
      return ioas_map(call);
    case Ioctl::IoasUnmap: {
      const auto unmap = structure<kernel::IoasUnmap>(call.argument);
      return UnmapDma{.range = {{unmap.iova}, unmap.length}};
    }
    default:
      break;
  }
  return Other{.name = kind.name.empty() ? fmt::format("ioctl {:#x}", call.request) : std::string(kind.name),
               .argument = call.argument,
               .answer = call.answer};
}

// The descriptor of a session that another one followed may be closed late, and so may a duplicate.
Doing CallActs::close_of(const CallRecord& call) const {
  if (call.role != Role::MigrationData) return Close{call.text};
  const auto last = data_files_.find(call.parent);
  const bool earlier =
      last != data_files_.end() && (last->second.process != call.process || last->second.descriptor != call.descriptor);
  return CloseData{.what = call.text, .current = !earlier};
}

Doing CallActs::feature_act(const CallRecord& call) {
  const Bytes answer = after(call);
  Doing doing = feature_of(call.argument, answer, call.pointed, call.payload);
  const auto data = structure<wire::FeatureDeviceState>(behind(answer, sizeof(wire::FeatureHeader))).data_fd;
  const bool begins = std::holds_alternative<SetState>(doing) && call.result >= 0 && data >= 0;
  if (begins) data_files_[call.object] = {.process = call.process, .descriptor = data};
  return doing;
}

Doing CallActs::access_of(const CallRecord& call) const {
  // Without knowledge of the regions: by the kernel's own division of the offset (VFIO_PCI_OFFSET_SHIFT).
  constexpr unsigned kShift = 40;
  Place place{.region = static_cast<std::uint32_t>(call.offset >> kShift), .offset = call.offset >> kShift << kShift};
  if (const auto known = places_.find(call.object); known != places_.end()) {
    for (const Place& one : known->second) {
      if (call.offset >= one.offset && call.offset - one.offset < one.size) place = one;
    }
  }
  const auto size = static_cast<std::uint32_t>(call.length);
  if (call.call == Call::Read) {
    return ReadRegion{.region = place.region,
                      .offset = call.offset - place.offset,
                      .size = size,
                      .data = call.answer,
                      .payload = call.payload};
  }
  return WriteRegion{.region = place.region,
                     .offset = call.offset - place.offset,
                     .size = size,
                     .data = call.argument,
                     .payload = call.payload};
}

void CallActs::remember(const CallRecord& call, const GetRegion& region) {
  if (call.result < 0 || region.size == 0) return;
  std::vector<Place>& places = places_[call.object];
  const auto offset = structure<wire::RegionInfo>(after(call)).offset;
  std::erase_if(places, [&](const Place& one) { return one.region == region.region; });
  if (places.size() < kMostPlaces) places.push_back({.region = region.region, .offset = offset, .size = region.size});
}

}  // namespace gangway::record
