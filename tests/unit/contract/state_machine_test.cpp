// The paths, derived a second time: by breadth-first search over the arcs alone, knowing nothing of the table.
#include <algorithm>
#include <deque>
#include <map>
#include <set>
#include <string>
#include <vector>

#include <gangway/contract.h>
#include <gtest/gtest.h>

namespace gangway::contract {
namespace {

using enum DeviceState;
using States = std::vector<DeviceState>;
using Graph = std::map<DeviceState, std::set<DeviceState>>;

// The arcs as the contract lists them.
Graph arcs(MigrationFlags flags) {
  Graph graph;
  const auto one_way = [&](DeviceState from, DeviceState to) { graph[from].insert(to); };
  const auto both_ways = [&](DeviceState a, DeviceState b) {
    one_way(a, b);
    one_way(b, a);
  };
  both_ways(Stop, StopCopy);
  both_ways(Stop, Resuming);
  if (flags.p2p) {
    both_ways(Stop, RunningP2p);
    both_ways(RunningP2p, Running);
  } else {
    both_ways(Stop, Running);
  }
  if (flags.pre_copy) {
    both_ways(Running, PreCopy);
    if (flags.p2p) {
      both_ways(RunningP2p, PreCopyP2p);
      both_ways(PreCopy, PreCopyP2p);
      one_way(PreCopyP2p, StopCopy);
    } else {
      one_way(PreCopy, StopCopy);
    }
  }
  return graph;
}

bool interior_allowed(DeviceState from, DeviceState to, DeviceState at) {
  if (!in_saving_group(at)) return true;
  // The one way from PRE_COPY to STOP_COPY with P2P stays within the saving group, and so within one data session.
  return in_saving_group(from) && in_saving_group(to) && is_pre_copy(from) && at == PreCopyP2p;
}

// All shortest paths; empty when there is none.
std::vector<States> shortest_paths(const Graph& graph, DeviceState from, DeviceState to) {
  std::vector<States> found;
  std::deque<States> open{{from}};
  while (!open.empty()) {
    const States way = open.front();
    open.pop_front();
    if (!found.empty() && way.size() >= found.front().size()) continue;
    const auto arcs_out = graph.find(way.back());
    if (arcs_out == graph.end()) continue;
    for (const DeviceState next : arcs_out->second) {
      if (std::ranges::find(way, next) != way.end()) continue;
      States longer = way;
      longer.push_back(next);
      if (next == to) {
        found.emplace_back(longer.begin() + 1, longer.end());
      } else if (interior_allowed(from, to, next)) {
        open.push_back(longer);
      }
    }
  }
  return found;
}

std::string describe(const States& states) {
  std::string text;
  for (const DeviceState state : states) text += std::string(name(state)) + " ";
  return text;
}

class Paths : public testing::TestWithParam<MigrationFlags> {};

TEST_P(Paths, equal_the_shortest_in_the_graph_of_arcs) {
  const MigrationFlags flags = GetParam();
  const Graph graph = arcs(flags);
  int compared = 0;
  for (const auto& [from, unused] : graph) {
    for (const auto& [to, unused_too] : graph) {
      if (from == to) continue;
      const std::vector<States> expected = shortest_paths(graph, from, to);
      const std::optional<Path> actual = path(from, to, flags);
      SCOPED_TRACE(std::string(name(from)) + " to " + std::string(name(to)));
      if (from == StopCopy && is_pre_copy(to)) {
        EXPECT_FALSE(actual) << "FSM-BLOCKED: the saving group is not re-entered backwards";
        continue;
      }
      ASSERT_FALSE(expected.empty());
      ASSERT_EQ(expected.size(), 1U) << "the contract leaves no choice between paths";
      ASSERT_TRUE(actual);
      const States steps(actual->begin(), actual->end());
      EXPECT_EQ(steps, expected.front()) << "table: " << describe(steps) << " graph: " << describe(expected.front());
      ++compared;
    }
  }
  EXPECT_GT(compared, 0);
}

TEST_P(Paths, step_only_over_arcs) {
  const MigrationFlags flags = GetParam();
  const Graph graph = arcs(flags);
  for (const auto& [from, unused] : graph) {
    for (const auto& [to, unused_too] : graph) {
      const std::optional<DeviceState> next = next_state(from, to, flags);
      if (!next || from == to) continue;
      EXPECT_TRUE(graph.at(from).contains(*next)) << name(from) << " to " << name(to) << " steps to " << name(*next);
    }
  }
}

TEST_P(Paths, to_the_same_state_are_empty) {
  for (const auto& [state, unused] : arcs(GetParam())) {
    const std::optional<Path> found = path(state, state, GetParam());
    ASSERT_TRUE(found) << name(state);
    EXPECT_TRUE(found->empty()) << name(state);
  }
}

TEST_P(Paths, refuse_error_unadvertised_and_unknown_states) {
  const MigrationFlags flags = GetParam();
  const Graph graph = arcs(flags);
  for (std::uint32_t number = 0; number < 64; ++number) {
    const auto to = static_cast<DeviceState>(number);
    const bool known = graph.contains(to);
    EXPECT_EQ(advertised(to, flags), known) << number;
    if (known) continue;
    for (const auto& [from, unused] : graph) EXPECT_FALSE(path(from, to, flags)) << name(from) << " to " << number;
    EXPECT_FALSE(path(to, Running, flags)) << number;
  }
}

INSTANTIATE_TEST_SUITE_P(EveryFlagSet, Paths, testing::ValuesIn(kAllMigrationFlags),
                         [](const auto& info) { return "flags_" + std::to_string(info.param.bits()); });

TEST(States, names_round_trip) {
  for (std::uint32_t number = 0; number < kDeviceStates; ++number) {
    const auto state = static_cast<DeviceState>(number);
    EXPECT_EQ(state_from_name(name(state)), state);
  }
  EXPECT_FALSE(state_from_name("running"));
  EXPECT_EQ(name(static_cast<DeviceState>(8)), "?");
}

TEST(MigrationFlagSets, bits_round_trip_and_need_stop_copy) {
  for (const MigrationFlags flags : kAllMigrationFlags) EXPECT_EQ(MigrationFlags::from_bits(flags.bits()), flags);
  EXPECT_FALSE(MigrationFlags::from_bits(6));
  EXPECT_EQ(MigrationFlags::from_bits(0xf1), (MigrationFlags{}));
}

}  // namespace
}  // namespace gangway::contract
