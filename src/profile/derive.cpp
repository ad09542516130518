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
    if (!act.by_device) connections[act.connection].push_back(&act);
  }
  return connections;
}

}  // namespace

Result<Profile> derive_profile(std::string name, const record::Meta& meta, std::span<const record::Act> acts) {
  Profile profile{.name = std::move(name)};
  profile.known_from.push_back(one_line(fmt::format("a recording of {} {}, begun {}",
                                                    meta.subject == record::Subject::Kernel ? "/dev/vfio" : "vfio-user",
                                                    meta.target, meta.began)));
  for (const auto& [connection, list] : by_connection(acts)) {
    PhaseMaker maker;
    for (std::size_t i = 0; i < list.size(); ++i) {
      if (maker.take(*list[i], i + 1 < list.size() ? list[i + 1] : nullptr)) ++i;
    }
    if (maker.empty()) continue;
    Phase phase = maker.finish(fmt::format("connection-{}", connection));
    // Who loads needs what was saved before.
    const auto place = std::ranges::upper_bound(profile.phases, phase.side, {}, &Phase::side);
    profile.phases.insert(place, std::move(phase));
  }
  if (profile.phases.empty()) return fail(ENODATA, "nobody drives a migration in this recording by v2");
  // What is derived is a profile like any other; its lines are those of its text.
  return parse_profile(to_text(profile));
}

}  // namespace gangway::profile
