// Every pair of states for every set of flags: the calls that a device gets, and what an arc that fails leaves.
// Clauses FSM-*, RST-*, P2P-INITIATE.
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "unit/device/recording_device.h"
#include "unit/device/stream_ops.h"

namespace gangway::test {
namespace {

using enum DeviceState;
using Calls = std::vector<std::string>;

std::vector<DeviceState> states_of(MigrationFlags flags) {
  std::vector<DeviceState> states;
  for (std::uint32_t number = 0; number < kDeviceStates; ++number) {
    const auto state = static_cast<DeviceState>(number);
    if (contract::advertised(state, flags)) states.push_back(state);
  }
  return states;
}

Bytes good_stream() {
  Rig source;
  source.device.value = "from afar";
  EXPECT_TRUE(source.go(StopCopy));
  return drain(source.migration, pieces_of(kWhole)).bytes;
}

// The calls that the contract implies for one arc, derived from what the two states allow and not from the engine.
Calls calls_of(DeviceState from, DeviceState to, MigrationFlags flags) {
  const auto initiates = [](DeviceState s) { return s == Running || s == PreCopy; };
  Calls calls;
  if (initiates(from) && !initiates(to)) calls.emplace_back("stop_initiating");
  if (!contract::is_stopped(from) && contract::is_stopped(to)) calls.emplace_back("stop");
  if (!initiates(from) && initiates(to)) calls.emplace_back("start");
  if (to == Resuming) calls.emplace_back("reset");
  if (from == Resuming) calls.emplace_back("load");
  static_cast<void>(flags);
  return calls;
}

class EveryFlagSet : public testing::TestWithParam<MigrationFlags> {
 protected:
  // A rig in a state, with no calls recorded; in RESUMING a good stream was written.
  static std::unique_ptr<Rig> rig_in(DeviceState state, MigrationFlags flags) {
    auto rig = std::make_unique<Rig>(RecordingOptions{}, flags);
    EXPECT_TRUE(rig->go(state));
    if (state == Resuming) {
      EXPECT_TRUE(rig->migration.write(good_stream()));
    }
    rig->device.calls.clear();
    return rig;
  }
};

TEST_P(EveryFlagSet, walks_exactly_the_arcs_of_the_contract) {
  const MigrationFlags flags = GetParam();
  for (const DeviceState from : states_of(flags)) {
    for (const DeviceState to : states_of(flags)) {
      SCOPED_TRACE(std::string(contract::name(from)) + " to " + std::string(contract::name(to)));
      const std::unique_ptr<Rig> rig = rig_in(from, flags);
      const std::optional<contract::Path> path = contract::path(from, to, flags);
      const Result<void> done = rig->go(to);
      if (!path) {
        ASSERT_FALSE(done);
        EXPECT_EQ(done.error().code, EINVAL) << "FSM-BLOCKED";
        EXPECT_EQ(rig->migration.state(), from);
        EXPECT_TRUE(rig->device.calls.empty());
        continue;
      }
      ASSERT_TRUE(done) << done.error().message;
      EXPECT_EQ(rig->migration.state(), to);
      Calls expected;
      DeviceState at = from;
      for (const DeviceState next : *path) {
        const Calls calls = calls_of(at, next, flags);
        expected.insert(expected.end(), calls.begin(), calls.end());
        at = next;
      }
      EXPECT_EQ(rig->device.calls, expected);
    }
  }
}

TEST_P(EveryFlagSet, refuses_error_unadvertised_and_unknown_states_and_still_migrates) {
  const MigrationFlags flags = GetParam();
  for (const DeviceState from : states_of(flags)) {
    const std::unique_ptr<Rig> rig = rig_in(from, flags);
    for (const std::uint32_t number : {0U, 2U, 5U, 6U, 7U, 8U, 9U, 64U, 0x80000001U, 0xffffffffU}) {
      if (contract::advertised(static_cast<DeviceState>(number), flags)) continue;
      const Result<void> done = rig->migration.set_state(number);
      ASSERT_FALSE(done) << number;
      EXPECT_EQ(done.error().code, EINVAL) << number;
      EXPECT_EQ(rig->migration.state(), from) << number;
    }
    EXPECT_TRUE(rig->device.calls.empty());
    EXPECT_TRUE(rig->go(Stop));
    EXPECT_TRUE(rig->go(StopCopy));
  }
}

TEST_P(EveryFlagSet, reset_leads_to_running_from_every_state) {
  const MigrationFlags flags = GetParam();
  for (const DeviceState from : states_of(flags)) {
    const std::unique_ptr<Rig> rig = rig_in(from, flags);
    ASSERT_TRUE(rig->migration.reset());
    EXPECT_EQ(rig->migration.state(), Running);
    EXPECT_EQ(rig->device.calls, (Calls{"reset", "start"}));
    Bytes piece(8);
    EXPECT_FALSE(rig->migration.read(piece)) << "RST-CLEARS: no data session is left";
    EXPECT_FALSE(rig->migration.write(piece)) << "RST-CLEARS: no data session is left";
  }
}

TEST_P(EveryFlagSet, resuming_needs_no_reset) {
  const MigrationFlags flags = GetParam();
  const Bytes stream = good_stream();
  for (const DeviceState from : states_of(flags)) {
    for (int resets = 0; resets <= 2; ++resets) {
      SCOPED_TRACE(std::string(contract::name(from)) + " with resets: " + std::to_string(resets));
      const std::unique_ptr<Rig> rig = rig_in(from, flags);
      rig->device.value = "left over";
      for (int i = 0; i < resets; ++i) ASSERT_TRUE(rig->migration.reset());
      if (rig->migration.state() == Resuming) {
        ASSERT_TRUE(rig->go(Stop)) << "leaves the load that is under way";
      }
      ASSERT_TRUE(rig->go(Resuming));
      EXPECT_EQ(rig->device.value, "") << "RST-NOT-REQUIRED: the device clears itself";
      ASSERT_TRUE(rig->migration.write(stream));
      ASSERT_TRUE(rig->go(Running));
      EXPECT_EQ(rig->device.value, "from afar");
    }
  }
}

TEST_P(EveryFlagSet, an_arc_that_fails_leaves_a_state_on_the_path) {
  const MigrationFlags flags = GetParam();
  for (const std::string call : {"start", "stop_initiating", "stop", "save", "load"}) {
    for (const DeviceState from : states_of(flags)) {
      for (const DeviceState to : states_of(flags)) {
        const std::optional<contract::Path> path = contract::path(from, to, flags);
        if (!path) continue;
        SCOPED_TRACE(std::string(contract::name(from)) + " to " + std::string(contract::name(to)) + ", failing " +
                     call);
        const std::unique_ptr<Rig> rig = rig_in(from, flags);
        rig->device.fails = {call};
        const Result<void> done = rig->go(to);
        const DeviceState at = rig->migration.state();
        rig->device.fails.clear();
        if (done) {
          EXPECT_EQ(at, to);
          continue;
        }
        EXPECT_EQ(done.error().code, EIO);
        EXPECT_NE(done.error().message.find(call + " fails as told"), std::string::npos) << done.error().message;
        std::vector<DeviceState> on_the_path(path->begin(), path->end());
        on_the_path.back() = from;  // the target itself was not reached
        EXPECT_NE(std::ranges::find(on_the_path, at), on_the_path.end()) << contract::name(at);
        if (at == Resuming) {
          EXPECT_EQ(rig->device.calls.back(), "reset") << "cleared";
          EXPECT_FALSE(rig->go(Stop)) << "RST-ABORTS";
          EXPECT_TRUE(rig->migration.reset());
        }
        EXPECT_TRUE(rig->go(Stop)) << "FSM-FAIL: the user may go to STOP";
        EXPECT_TRUE(rig->go(Running)) << "FSM-FAIL: the user may go to RUNNING";
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Contract, EveryFlagSet, testing::ValuesIn(kAllMigrationFlags),
                         [](const auto& info) { return "flags_" + std::to_string(info.param.bits()); });

TEST(ErrorState, is_entered_when_a_reset_cannot_start_the_device_and_left_by_another) {
  Rig rig;
  rig.device.fails = {"start"};
  EXPECT_FALSE(rig.migration.reset());
  EXPECT_EQ(rig.migration.state(), Error);
  EXPECT_TRUE(rig.migration.stopped());
  rig.device.fails.clear();
  for (const DeviceState to : {Stop, Running, StopCopy, Resuming, RunningP2p, PreCopy, PreCopyP2p}) {
    const Result<void> done = rig.go(to);
    ASSERT_FALSE(done) << "FSM-ERROR: only a reset leaves ERROR";
    EXPECT_EQ(done.error().code, EIO);
  }
  EXPECT_EQ(rig.migration.set_state(0).error().code, EINVAL);
  EXPECT_GT(rig.migration.data_size(), 0U) << "DAT-SIZE: in every state";
  EXPECT_TRUE(rig.migration.reset());
  EXPECT_EQ(rig.migration.state(), Running);
  EXPECT_TRUE(rig.go(StopCopy));
}

TEST(ErrorState, is_entered_when_a_device_stops_half_way_and_cannot_start_again) {
  Rig rig({}, MigrationFlags{});
  rig.device.fails = {"stop", "start"};
  EXPECT_FALSE(rig.go(Stop));
  EXPECT_EQ(rig.migration.state(), Error) << "RUNNING could not be kept: it initiates nothing any more";
  rig.device.fails.clear();
  EXPECT_FALSE(rig.go(Running));
  EXPECT_TRUE(rig.migration.reset());
  EXPECT_EQ(rig.migration.state(), Running);
}

TEST(States, a_set_of_the_state_one_is_in_does_nothing) {
  Rig rig;
  for (const DeviceState state : {Running, PreCopy, PreCopyP2p, StopCopy, Stop, Resuming}) {
    ASSERT_TRUE(rig.go(state));
    rig.device.calls.clear();
    EXPECT_TRUE(rig.go(state));
    EXPECT_TRUE(rig.device.calls.empty());
  }
}

TEST(States, restart_reaches_running) {
  Rig rig;
  EXPECT_EQ(rig.migration.state(), Running) << "FSM-INITIAL";
  EXPECT_FALSE(rig.migration.stopped());
}

}  // namespace
}  // namespace gangway::test
