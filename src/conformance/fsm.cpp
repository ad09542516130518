// FSM: the state machine.
#include <array>

#include <fmt/core.h>

#include "conformance/steps.h"

namespace gangway::conformance {
namespace {

using enum DeviceState;

// What happens to have been left behind: a state, and a session half used.
void leave_in(Subject& subject, DeviceState state) {
  if (state != Running) go(subject, state);
  if (contract::in_saving_group(state)) (void)subject.read(64);
}

void fresh_device_is_running(Context& c) {
  reopen(c.device);
  expect_state("FSM-INITIAL", c.device, Running);
}

void reopened_device_is_running_and_migrates(Context& c) {
  make_stream(c.device);
  for (const DeviceState state : states_of(c.flags())) {
    leave_in(c.device, state);
    expect_done("FSM-INITIAL", c.device.open(), fmt::format("a device left in {} opens again", contract::name(state)));
    expect_state("FSM-INITIAL", c.device, Running);
    expect_migrates("FSM-INITIAL", c.device);
  }
}

// Only single arcs, so that no combination hides one that is missing. The whole of RESUMING is for other tests.
void take_arc(Context& c, DeviceState from, DeviceState to) {
  if (c.device.last_state() != from) go(c.device, from);
  Result<void> done = c.device.set(to);
  const std::string arc = fmt::format("{} to {}", contract::name(from), contract::name(to));
  if (!done && to == Resuming && !c.device.lost() && c.device.reset()) {
    // It is no use to say that the arc is missing if a reset is what the device wants before.
    if (c.device.set(from) && c.device.set(to)) {
      fail_clause("RST-NOT-REQUIRED", fmt::format("{} succeeds without a reset before", arc), to_text(done.error()));
    }
  }
  if (!done && !c.device.lost()) {
    // Nor if it is only the second time that fails.
    reopen(c.device);
    if (from != Running) go(c.device, from);
    if (c.device.set(to)) {
      fail_clause("FSM-REPEAT", fmt::format("{} succeeds after other arcs as it does at first", arc),
                  to_text(done.error()));
    }
  }
  expect_done(c.device.lost() ? "FSM-COMPLETE" : "FSM-ARC", done, fmt::format("{} succeeds", arc));
  expect_state("FSM-ARC", c.device, to);
}

// What single arcs can do, one call can (FSM-ARC).
void resuming_is_reached_in_one_call(Context& c) {
  const Result<void> done = c.device.set(Resuming);
  if (done || c.device.lost()) return;
  go(c.device, Stop);
  if (!c.device.set(Resuming)) throw Untestable{"RESUMING is not entered step by step either (see RST-NOT-REQUIRED)"};
  fail_clause("FSM-ARC", "RUNNING to RESUMING succeeds in one call as it does step by step", to_text(done.error()));
}

void every_arc_is_taken(Context& c) {
  const MigrationFlags flags = c.flags();
  for (const DeviceState from : states_of(flags)) {
    for (const DeviceState to : states_of(flags)) {
      const auto path = contract::path(from, to, flags);
      if (!path || path->size() != 1 || from == Resuming) continue;
      take_arc(c, from, to);
      if (to == Resuming) reset(c.device);
    }
  }
}

void present_state_is_a_no_op(Context& c) {
  make_stream(c.device);
  for (const DeviceState state : states_of(c.flags())) {
    if (c.device.last_state() != state) go(c.device, state);
    const std::string expected =
        fmt::format("asking for {} in {} is a no-op", contract::name(state), contract::name(state));
    expect_done("FSM-ARC", c.device.set(state), expected);
    expect_state("FSM-ARC", c.device, state);
    if (state == Resuming) reset(c.device);
  }
}

// The no-op does not begin a new stream either.
void present_state_keeps_the_session(Context& c) {
  go(c.device, StopCopy);
  step(c.device.read(50), "read some");
  expect_done("FSM-ARC", c.device.set(StopCopy), "asking for STOP_COPY in it is a no-op");
  step(c.device.read_all(), "read the rest");
  c.device.keep();
  go(c.device, Resuming);
  step(c.device.write(50), "write some");
  expect_done("FSM-ARC", c.device.set(Resuming), "asking for RESUMING in it is a no-op");
  const bool loads = c.device.write_all() && c.device.set(Running);
  expect("FSM-ARC", loads, "a SET of the present state leaves the data session as it is",
         "the stream that was read and written around it does not load");
}

void refused_pairs_are_refused(Context& c) {
  for (const DeviceState to : {PreCopy, PreCopyP2p}) {
    if (!contract::advertised(to, c.flags())) continue;
    if (c.device.last_state() != StopCopy) go(c.device, StopCopy);
    step(c.device.read(50), "read some");
    expect_refused("FSM-BLOCKED", c.device, c.device.set(to),
                   fmt::format("STOP_COPY to {} is EINVAL", contract::name(to)), EINVAL);
    expect_state("FSM-BLOCKED", c.device, StopCopy);
    expect_answer("FSM-BLOCKED", c.device.read_all(), "the session goes on after a refused SET");
    c.device.keep();
    go(c.device, Running);
    expect_loads("FSM-BLOCKED", c.device, "a stream that was read around a refused SET loads");
  }
}

void states_that_are_none_are_refused(Context& c) {
  std::vector<std::uint32_t> numbers{0, 8, 9, 31, 0x80000000U, 0xffffffffU};
  for (std::uint32_t number = 1; number < kDeviceStates; ++number) {
    if (!contract::advertised(static_cast<DeviceState>(number), c.flags())) numbers.push_back(number);
  }
  const bool resets = (c.abilities.have & kReset) != 0;
  for (const DeviceState state : states_of(c.flags())) {
    if (state == Resuming && !resets) continue;  // there is no way out of it without a stream
    if (c.device.last_state() != state) go(c.device, state);
    for (const std::uint32_t number : numbers) {
      expect_refused("FSM-INVALID", c.device, c.device.set_number(number), fmt::format("state {} is EINVAL", number),
                     EINVAL);
      expect_state("FSM-INVALID", c.device, state);
    }
    if (state == Resuming) reset(c.device);
  }
  go(c.device, Running);
  expect_migrates("FSM-INVALID", c.device);
}

void invalid_request_leaves_the_session(Context& c) {
  go(c.device, StopCopy);
  step(c.device.read(50), "read some");
  (void)c.device.set_number(8);
  (void)c.device.set_number(0);
  expect_answer("FSM-INVALID", c.device.read_all(), "a session goes on after an invalid request");
}

// Without an advertised way to them they are as good as numbers that are no states; but the device must say so.
void invalid_request_poisons_nothing(Context& c) {
  make_stream(c.device);
  (void)c.device.set_number(8);
  expect_done("FSM-INVALID", c.device.set(StopCopy), "the device migrates after an invalid request: STOP_COPY");
  expect_answer("FSM-INVALID", c.device.read_all(), "the device migrates after an invalid request: its data is read");
  (void)c.device.set_number(0);
  expect_done("FSM-INVALID", c.device.set(Resuming), "the device migrates after an invalid request: RESUMING");
  c.device.choose({});
  expect_done("FSM-INVALID", c.device.write_all(), "the device migrates after an invalid request: its data is written");
  expect_done("FSM-INVALID", c.device.set(Running), "the device migrates after an invalid request: RUNNING");
}

void only_a_set_changes_the_state(Context& c) {
  for (const DeviceState state : states_of(c.flags())) {
    if (c.device.last_state() != state) go(c.device, state);
    (void)c.device.data_size();
    if (contract::is_pre_copy(state)) (void)c.device.precopy_info();
    if (contract::in_saving_group(state)) (void)c.device.read_all();
    std::array<std::byte, 4> word{};
    (void)c.device.read_region(to_number(RegionIndex::Config), 0, word);
    if (c.device.lost()) throw Untestable{c.device.why_lost()};
    expect_state("FSM-COMPLETE", c.device, state);
    expect_state("FSM-COMPLETE", c.device, state);
    if (state == Resuming) reset(c.device);
  }
}

void failed_set_leaves_a_state_on_the_path(Context& c) {
  go(c.device, Resuming);
  if (c.device.set(Running)) throw Untestable{"no SET fails: an empty stream is let in (see DAT-VALIDATE)", false};
  const DeviceState now = expect_answer("FSM-FAIL", c.device.get(), "GET tells the state after a failed SET");
  expect("FSM-FAIL", now == Resuming || now == Error, "after a failed load the device is in RESUMING or ERROR",
         fmt::format("it is in {}", contract::name(now)));
  expect_done("FSM-FAIL", c.device.reset(), "the user may reset after a failed SET");
  expect_state("FSM-FAIL", c.device, Running);
  expect_migrates("FSM-FAIL", c.device);
}

void error_is_left_by_reset_only(Context& c) {
  go(c.device, Resuming);
  if (c.device.set(Stop)) throw Untestable{"no SET fails: an empty stream is let in (see DAT-VALIDATE)", false};
  if (step(c.device.get(), "get") != Error) throw Untestable{"the device was never seen in ERROR", false};
  for (const DeviceState state : states_of(c.flags())) {
    expect_refused("FSM-ERROR", c.device, c.device.set(state), "every SET in ERROR fails");
    expect_state("FSM-ERROR", c.device, Error);
  }
  expect_done("FSM-ERROR", c.device.reset(), "a reset leaves ERROR");
  expect_state("FSM-ERROR", c.device, Running);
  expect_migrates("FSM-ERROR", c.device);
}

// A save that is given up: how far it had come.
struct Cancel {
  DeviceState state;
  std::size_t read;
};

void save_can_be_cancelled_and_repeated(Context& c) {
  constexpr std::array<Cancel, 6> kCancels{
      {{StopCopy, 0}, {StopCopy, 40}, {PreCopy, 0}, {PreCopy, 40}, {PreCopyP2p, 0}, {PreCopyP2p, 40}}};
  save(c.device);  // the first time is for DAT-*
  go(c.device, Running);
  for (int again = 0; again < 2; ++again) {
    for (const Cancel& cancel : kCancels) {
      if (!contract::advertised(cancel.state, c.flags())) continue;
      const std::string what = fmt::format("after a save cancelled in {}", contract::name(cancel.state));
      expect_done("FSM-REPEAT", c.device.set(cancel.state),
                  fmt::format("{} is entered again", contract::name(cancel.state)));
      if (cancel.read != 0) (void)c.device.read(cancel.read);
      expect_done("FSM-REPEAT", c.device.set(Running), what + ", RUNNING");
      expect_done("FSM-REPEAT", c.device.set(StopCopy), what + ", STOP_COPY");
      const StreamRead read = expect_answer("FSM-REPEAT", c.device.read_all(), what + ", the data is read");
      expect("FSM-REPEAT", read.end == StreamEnd::Final && !c.device.received().empty(), what + ", the data is whole",
             fmt::format("{} bytes", c.device.received().size()));
      c.device.keep();
      expect_done("FSM-REPEAT", c.device.set(Running), what + " and a whole one, RUNNING");
    }
  }
  // What the last of them yielded is a whole state as well.
  if (c.device.set(Resuming)) {
    const bool loads = c.device.write_all() && c.device.set(Running);
    expect("FSM-REPEAT", loads, "a save after cancelled ones yields a stream that loads", "it does not load");
  }
}

void pre_copy_migrates_twice(Context& c) {
  for (int again = 0; again < 3; ++again) {
    const std::string time = fmt::format("migration {} with pre-copy", again + 1);
    const auto check = [&](const Result<void>& done) {
      if (again == 0) step(done, time);
      if (again != 0) expect_done("FSM-REPEAT", done, time + " works as the first did");
    };
    const auto drained = [&] {
      const Result<StreamRead> read = c.device.read_all();
      return read ? Result<void>{} : Result<void>(std::unexpected(read.error()));
    };
    check(c.device.set(PreCopy));
    check(drained());
    check(c.device.set(StopCopy));
    check(drained());
    c.device.keep();
    check(c.device.set(Running));
  }
}

}  // namespace

std::vector<Test> fsm_tests() {
  return {
      {"fresh_device_is_running", {"FSM-INITIAL"}, kMigration, fresh_device_is_running},
      {"reopened_device_is_running_and_migrates",
       {"FSM-INITIAL"},
       kMigration,
       reopened_device_is_running_and_migrates,
       Level::Must,
       true},
      {"every_arc_is_taken", {"FSM-ARC"}, kMigration | kReset, every_arc_is_taken},
      {"resuming_is_reached_in_one_call", {"FSM-ARC"}, kMigration, resuming_is_reached_in_one_call},
      {"present_state_is_a_no_op", {"FSM-ARC"}, kMigration | kReset, present_state_is_a_no_op},
      {"present_state_keeps_the_session", {"FSM-ARC"}, kMigration, present_state_keeps_the_session},
      {"refused_pairs_are_refused",
       {"FSM-BLOCKED"},
       kMigration | kPreCopy,
       refused_pairs_are_refused,
       Level::Must,
       true},
      {"states_that_are_none_are_refused", {"FSM-INVALID"}, kMigration, states_that_are_none_are_refused},
      {"invalid_request_leaves_the_session", {"FSM-INVALID"}, kMigration, invalid_request_leaves_the_session},
      {"invalid_request_poisons_nothing", {"FSM-INVALID"}, kMigration, invalid_request_poisons_nothing},
      {"only_a_set_changes_the_state", {"FSM-COMPLETE"}, kMigration | kReset, only_a_set_changes_the_state},
      {"failed_set_leaves_a_state_on_the_path",
       {"FSM-FAIL"},
       kMigration | kReset,
       failed_set_leaves_a_state_on_the_path},
      {"error_is_left_by_reset_only", {"FSM-ERROR"}, kMigration | kReset, error_is_left_by_reset_only},
      {"save_can_be_cancelled_and_repeated", {"FSM-REPEAT"}, kMigration, save_can_be_cancelled_and_repeated},
      {"pre_copy_migrates_twice", {"FSM-REPEAT"}, kMigration | kPreCopy, pre_copy_migrates_twice},
  };
}

}  // namespace gangway::conformance
