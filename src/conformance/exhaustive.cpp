// Every pair of states, each entered by every arc, with the data session in every position.
#include <array>

#include "conformance/player.h"
#include "conformance/steps.h"

namespace gangway::conformance {
namespace {

using Kind = Act::Kind;
using enum DeviceState;

// How a session stands when the state is left.
std::vector<std::vector<Act>> positions(DeviceState state) {
  if (contract::in_saving_group(state)) {
    return {{},
            {{.kind = Kind::Read}},
            {{.kind = Kind::ReadAll}},
            {{.kind = Kind::ReadAll}, {.kind = Kind::Read, .number = 1}}};
  }
  if (state == Resuming) {
    return {{}, {{.kind = Kind::Write}}, {{.kind = Kind::WriteAll}}, {{.kind = Kind::WriteAll, .number = 7}}};
  }
  return {{}};
}

// The acts that lead into `state` over its arc from `before`. RESUMING is left again by its whole stream.
std::vector<Act> enter(DeviceState before, DeviceState state) {
  std::vector<Act> acts;
  if (before != Running) acts.push_back(Act::set(before));
  if (before == Resuming) acts.push_back({.kind = Kind::WriteAll});
  acts.push_back(Act::set(state));
  return acts;
}

std::vector<std::vector<Act>> all_pairs(MigrationFlags flags, bool refused) {
  std::vector<std::vector<Act>> all;
  const std::vector<DeviceState> states = states_of(flags);
  for (const DeviceState from : states) {
    for (const DeviceState before : states) {
      const auto arc = contract::path(before, from, flags);
      if (!arc || arc->size() != 1) continue;
      for (const std::vector<Act>& position : positions(from)) {
        for (const DeviceState to : states) {
          if (contract::path(from, to, flags).has_value() == refused) continue;
          std::vector<Act> acts = enter(before, from);
          acts.insert(acts.end(), position.begin(), position.end());
          acts.push_back(Act::set(to));
          acts.push_back({.kind = Kind::Reset});
          all.push_back(std::move(acts));
        }
      }
    }
  }
  return all;
}

void play_pairs(Context& c, bool refused) {
  Player player = make_player(c, {.refused_pairs = refused});
  std::vector<std::vector<Act>> pairs = all_pairs(c.flags(), refused);
  if ((c.abilities.have & kReset) == 0) {
    for (std::vector<Act>& acts : pairs) acts.pop_back();
  }
  player.play_all(pairs, "pair");
}

void every_pair_in_every_position(Context& c) { play_pairs(c, false); }
void every_refused_pair_in_every_position(Context& c) { play_pairs(c, true); }

}  // namespace

std::vector<Test> exhaustive_tests() {
  return {
      {"every_pair_in_every_position",
       {"FSM-ARC", "FSM-COMPLETE", "RST-ALLOWED"},
       kMigration,
       every_pair_in_every_position},
      {"every_refused_pair_in_every_position",
       {"FSM-BLOCKED"},
       kMigration | kPreCopy,
       every_refused_pair_in_every_position,
       Level::Must,
       true},
  };
}

}  // namespace gangway::conformance
