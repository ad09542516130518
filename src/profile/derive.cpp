#include "profile/derive.h"

#include <algorithm>
#include <map>
#include <vector>

#include <fmt/core.h>

#include "profile/phase_maker.h"

namespace gangway::profile {
namespace {

// Everything that a file may say stands on one line and begins no comment.
std::string one_line(std::string text) {
  for (char& c : text) {
    if (static_cast<unsigned char>(c) <= ' ' || c == '#') c = ' ';
  }
  constexpr std::size_t kLongest = 256;
  return text.substr(0, kLongest);
}

std::map<std::uint32_t, std::vector<const record::Act*>> by_connection(std::span<const record::Act> acts) {
  std::map<std::uint32_t, std::vector<const record::Act*>> connections;
  for (const record::Act& act : acts) {
    if (act.by_device) continue;
    connections[act.connection].push_back(&act);
    for (const std::uint32_t other : act.also) connections[other].push_back(&act);
  }
  return connections;
}

struct Made {
  bool drove = false;
  Revision interface = Revision::V2;
  Phase phase;
};

}  // namespace

Result<Profile> derive_profile(std::string name, const record::Meta& meta, std::span<const record::Act> acts) {
  Profile profile{.name = std::move(name)};
  profile.known_from.push_back(one_line(fmt::format("a recording of {} {}, begun {}",
                                                    meta.subject == record::Subject::Kernel ? "/dev/vfio" : "vfio-user",
                                                    meta.target, meta.began)));
  std::vector<Made> all;
  const MigrationRegions regions = migration_regions(acts);
  for (const auto& [connection, list] : by_connection(acts)) {
    const RecordedRegion region(list, regions);
    PhaseMaker maker(region);
    for (std::size_t i = 0; i < list.size(); ++i) {
      if (maker.take(*list[i], i + 1 < list.size() ? list[i + 1] : nullptr)) ++i;
    }
    if (!maker.drove() && !maker.used()) continue;
    const bool drove = maker.drove();
    const Revision interface = maker.interface();
    all.push_back({drove, interface, maker.finish(fmt::format("connection-{}", connection))});
  }
  if (all.empty()) return fail(ENODATA, "nobody uses a device in this recording");
  // Where somebody migrates that is what the recording is of, by the interface that is driven first; otherwise it is of
  // machines that use the device.
  const auto first = std::ranges::find(all, true, &Made::drove);
  const bool migrates = first != all.end();
  profile.interface = migrates ? std::optional(first->interface) : std::nullopt;
  std::size_t others = 0;
  for (Made& made : all) {
    if (made.drove != migrates) continue;
    if (migrates && made.interface != profile.interface) {
      ++others;
      continue;
    }
    // Who loads needs what was saved before.
    const auto place = std::ranges::upper_bound(profile.phases, made.phase.side, {}, &Phase::side);
    profile.phases.insert(place, std::move(made.phase));
  }
  if (others != 0)
    profile.notes.push_back(fmt::format("{} connections that drive another interface are left out", others));
  // What is derived is a profile like any other; its lines are those of its text.
  return parse_profile(to_text(profile));
}

}  // namespace gangway::profile
