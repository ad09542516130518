#include "profile/replay.h"

#include <algorithm>
#include <map>
#include <ranges>
#include <utility>

#include <fmt/core.h>

#include <gangway/migration_region.h>

#include "conformance/abilities.h"
#include "profile/replay_connection.h"

namespace gangway::profile {
namespace {

using conformance::Abilities;
using conformance::Subject;

bool changes_state(const record::Doing& doing) {
  return std::holds_alternative<record::SetState>(doing) || std::holds_alternative<record::Reset>(doing);
}

// In the order of the recording, and of each write of migration data whether it is the last of its session.
std::vector<std::vector<NumberedAct>> by_connection(std::span<const record::Act> acts,
                                                    std::optional<std::uint32_t> only) {
  std::map<std::uint32_t, std::size_t> places;
  std::vector<std::vector<NumberedAct>> connections;
  for (std::size_t i = 0; i < acts.size(); ++i) {
    const auto add = [&](std::uint32_t connection) {
      if (only && connection != *only) return;
      const auto [place, begins] = places.try_emplace(connection, connections.size());
      if (begins) connections.emplace_back();
      connections[place->second].push_back({.number = i, .act = &acts[i]});
    };
    add(acts[i].connection);
    std::ranges::for_each(acts[i].also, add);
  }
  for (std::vector<NumberedAct>& connection : connections) {
    bool last = true;
    for (NumberedAct& numbered : connection | std::views::reverse) {
      if (changes_state(numbered.act->doing)) last = true;
      if (!std::holds_alternative<record::WriteData>(numbered.act->doing)) continue;
      numbered.last_write = std::exchange(last, false);
    }
  }
  return connections;
}

bool loads(const std::vector<NumberedAct>& connection, const RecordedRegion& region) {
  return std::ranges::any_of(connection, [&region](const NumberedAct& numbered) {
    const RegionDeed* const deed = region.at(*numbered.act);
    return std::holds_alternative<record::WriteData>(numbered.act->doing) ||
           (deed != nullptr && deed->kind == RegionDeed::Kind::Load);
  });
}

RecordedRegion region_of(const std::vector<NumberedAct>& connection, const MigrationRegions& regions) {
  std::vector<const record::Act*> acts;
  acts.reserve(connection.size());
  for (const NumberedAct& numbered : connection) acts.push_back(numbered.act);
  return {acts, regions};
}

bool drives_v2(std::span<const record::Act> acts) {
  return std::ranges::any_of(acts, [](const record::Act& act) {
    return std::holds_alternative<record::SetState>(act.doing) || std::holds_alternative<record::ReadData>(act.doing);
  });
}

// A recording of a destination has not the data that it wrote, or that of another device: one of now is made.
Result<Saved> save_now(Subject& subject) {
  if (Result<void> opened = subject.open(); !opened) return std::unexpected(opened.error());
  if (Result<void> set = subject.set(DeviceState::StopCopy); !set)
    return fail_within("save what is loaded", set.error());
  if (const auto read = subject.read_all(); !read) return fail_within("save what is loaded", read.error());
  Saved data{.bytes = subject.received(), .chunks = {}};
  if (Result<void> set = subject.set(DeviceState::Running); !set)
    return fail_within("save what is loaded", set.error());
  subject.close();
  return data;
}

// The same by a migration region.
Result<Saved> save_by_region(DeviceHandle& device, const MigrationRegion& region, Revision revision) {
  constexpr std::size_t kAccess = 64U << 10;
  const auto value = [revision](DeviceState state) {
    return revision == Revision::V1 ? migration_region::v1_bits(state) : static_cast<std::uint32_t>(state);
  };
  if (Result<void> set = region.set_device_state(device, value(DeviceState::StopCopy)); !set) {
    return std::unexpected(set.error());
  }
  Saved data;
  while (true) {
    const Result<std::uint64_t> pending = region.pending_bytes(device);
    if (!pending) return std::unexpected(pending.error());
    if (*pending == 0) break;
    if (data.bytes.size() > Subject::kMostData) {
      return fail(ENOSPC, fmt::format("{} bytes and no end", data.bytes.size()));
    }
    const auto chunk = region.chunk(device, kAccess);
    if (!chunk) return std::unexpected(chunk.error());
    data.bytes.insert(data.bytes.end(), chunk->begin(), chunk->end());
    data.chunks.push_back(*chunk);
  }
  if (Result<void> set = region.set_device_state(device, value(DeviceState::Running)); !set) {
    return std::unexpected(set.error());
  }
  return data;
}

class Replayer {
 public:
  Replayer(std::span<const record::Act> acts, const ReplayOptions& options)
      : acts_(acts),
        options_(options),
        regions_recorded_(migration_regions(acts)),
        subject_(options.target.opener, journal_, hangs_, {.limit = options.settings.limit}) {}

  Result<ReplayReport> run() {
    const auto connections = by_connection(acts_, options_.connection);
    if (connections.empty()) return fail(ENODATA, "there is nothing to play in this recording");
    if (Result<void> known = find_out(); !known) return std::unexpected(known.error());
    report_.target = options_.target.name;
    for (const std::vector<NumberedAct>& connection : connections) {
      ++report_.connections;
      if (Result<void> played = play(connection); !played) {
        // A device that a deviation left unusable was found out; that is the answer.
        if (report_.deviations.empty()) return std::unexpected(played.error());
        report_.notes.push_back(fmt::format("the next connection was not played: {}", played.error().message));
        break;
      }
    }
    return std::move(report_);
  }

 private:
  Result<void> find_out() {
    if (Result<void> opened = subject_.open(); !opened) return opened;
    const auto abilities = subject_.ask<Abilities>("abilities", conformance::find_abilities);
    if (!abilities) return std::unexpected(abilities.error());
    if (!abilities->flags && drives_v2(acts_)) return fail(ENOTTY, abilities->why_no_migration);
    flags_[Revision::V2] = abilities->migration();
    for (const Revision revision : {Revision::V1, Revision::RegionV2}) {
      const auto found = subject_.ask<std::optional<MigrationRegion>>(
          "migration region", [revision](DeviceHandle& device) { return MigrationRegion::find(device, revision); });
      if (!found) return std::unexpected(found.error());
      if (*found) regions_[revision] = **found;
    }
    subject_.close();
    return {};
  }

  // A connection drives one interface; how a region's device is, only driving it can tell.
  Result<ReplayConnection::Setting> setting_for(const RecordedRegion& recorded) {
    const Revision interface = recorded.driven().value_or(Revision::V2);
    if (interface != Revision::V2 && !flags_.contains(interface)) {
      const auto region = regions_.find(interface);
      if (region == regions_.end()) {
        return fail(ENOTTY, fmt::format("the recording drives {}, which the device does not expose",
                                        contract::name(interface)));
      }
      if (Result<void> opened = subject_.open(); !opened) return std::unexpected(opened.error());
      const auto flags =
          subject_.ask<MigrationFlags>("states", [region = region->second, interface](DeviceHandle& device) {
            return flags_by_region(device, region, interface);
          });
      if (!flags) return std::unexpected(flags.error());
      flags_[interface] = *flags;
      subject_.close();
    }
    return ReplayConnection::Setting{.interface = interface, .flags = flags_[interface], .regions = regions_};
  }

  Result<Saved> save(Revision interface) {
    if (interface == Revision::V2) return save_now(subject_);
    if (Result<void> opened = subject_.open(); !opened) return std::unexpected(opened.error());
    auto data = subject_.ask<Saved>("save", [region = regions_[interface], interface](DeviceHandle& device) {
      return save_by_region(device, region, interface);
    });
    if (!data) return fail_within("save what is loaded", data.error());
    subject_.close();
    return data;
  }

  Result<void> play(const std::vector<NumberedAct>& connection) {
    const RecordedRegion recorded = region_of(connection, regions_recorded_);
    const auto setting = setting_for(recorded);
    if (!setting) return std::unexpected(setting.error());
    if (loads(connection, recorded) && data_.empty()) {
      auto data = save(setting->interface);
      if (!data) return std::unexpected(data.error());
      data_ = *std::move(data);
      report_.notes.emplace_back("what is loaded was saved from the device before, by STOP_COPY");
    }
    if (Result<void> opened = subject_.open(); !opened) return opened;
    {
      ReplayConnection playing(subject_, *setting, recorded, options_, data_, report_);
      report_.ended_early |= !playing.play(connection);
    }
    const bool by_region = setting->interface != Revision::V2;
    if (!subject_.lost() && (by_region || subject_.last_state() != DeviceState::Running)) (void)subject_.reset();
    subject_.close();
    return {};
  }

  std::span<const record::Act> acts_;
  const ReplayOptions& options_;
  const MigrationRegions regions_recorded_;
  conformance::Journal journal_;
  conformance::Hangs hangs_;
  Subject subject_;
  std::map<Revision, MigrationFlags> flags_;     // of the device, by the interface that tells
  std::map<Revision, MigrationRegion> regions_;  // likewise
  Saved data_;
  ReplayReport report_;
};

}  // namespace

Result<ReplayReport> replay(std::span<const record::Act> acts, const ReplayOptions& options) {
  return Replayer(acts, options).run();
}

}  // namespace gangway::profile
