// DAT: the data session. What is done to streams themselves is in streams.cpp.
#include <algorithm>
#include <array>

#include <fmt/core.h>

#include "conformance/steps.h"

namespace gangway::conformance {
namespace {

using enum DeviceState;

// An estimate "of the order" of what is read: within this factor, and not to the byte for little data.
constexpr std::uint64_t kOrder = 4;
constexpr std::uint64_t kLittle = 16U << 10;

void session_spans_the_saving_group(Context& c) {
  std::vector<DeviceState> stay{PreCopy, StopCopy};
  if (c.flags().p2p) stay = {PreCopy, PreCopyP2p, PreCopy, PreCopyP2p, StopCopy};
  for (const DeviceState state : stay) {
    go(c.device, state);
    expect_answer("DAT-SESSION", state == StopCopy ? c.device.read_all() : c.device.read(60),
                  fmt::format("the session goes on in {}", contract::name(state)));
  }
  c.device.keep();
  go(c.device, Running);
  const bool loads = c.device.set(Resuming) && c.device.write_all() && c.device.set(Running);
  expect("DAT-SESSION", loads, "what is read over a stay in the saving group is one stream", "it does not load");
}

void leaving_ends_the_session(Context& c) {
  for (const DeviceState state : states_of(c.flags())) {
    if (!contract::in_saving_group(state)) continue;
    go(c.device, state);
    step(c.device.read(40), "read some");
    go(c.device, Running);
    expect_refused("DAT-SESSION", c.device, c.device.read(40),
                   fmt::format("the session ends on leaving {}", contract::name(state)));
  }
}

void each_stay_has_a_stream_of_its_own(Context& c) {
  for (const DeviceState state : states_of(c.flags())) {
    if (!contract::in_saving_group(state)) continue;
    go(c.device, state);
    step(c.device.read(40), "read some");
    go(c.device, state == PreCopyP2p ? RunningP2p : state == PreCopy ? Running : Stop);
    save(c.device);
    go(c.device, Running);
    const bool loads = c.device.set(Resuming) && c.device.write_all() && c.device.set(Running);
    expect("DAT-SESSION", loads,
           fmt::format("a save after a stay in {} that was broken off is whole", contract::name(state)),
           "it does not load");
  }
}

void end_in_stop_copy_is_for_ever(Context& c) {
  go(c.device, StopCopy);
  const StreamRead read = step(c.device.read_all(), "read all");
  expect("DAT-EOS-STOP", read.end == StreamEnd::Final, "the end in STOP_COPY reads as 0 bytes", "ENOMSG");
  for (int i = 0; i < 10; ++i) {
    const StreamRead again = expect_answer("DAT-EOS-STOP", c.device.read(64), "reading at the end gives 0 bytes");
    expect("DAT-EOS-STOP", again.size == 0 && again.end == StreamEnd::Final,
           "the end in STOP_COPY reads as 0 bytes, for ever",
           again.size == 0 ? "ENOMSG" : fmt::format("{} bytes", again.size));
  }
}

void end_of_pre_copied_state_is_final(Context& c) {
  go(c.device, PreCopy);
  step(c.device.read_all(), "read all");
  go(c.device, StopCopy);
  const StreamRead read = step(c.device.read_all(), "read the rest");
  expect("DAT-EOS-STOP", read.end == StreamEnd::Final, "the end in STOP_COPY reads as 0 bytes after pre-copy too",
         "ENOMSG");
}

void end_in_pre_copy_is_temporary(Context& c) {
  for (const DeviceState state : {PreCopy, PreCopyP2p}) {
    if (!contract::advertised(state, c.flags())) continue;
    if (c.device.last_state() != state) go(c.device, state);
    for (int i = 0; i < 3; ++i) {
      const StreamRead read = expect_answer("DAT-EOS-PRECOPY", c.device.read_all(), "pre-copy data is read to its end");
      expect("DAT-EOS-PRECOPY", read.end == StreamEnd::Temporary,
             fmt::format("a temporary end in {} is ENOMSG", contract::name(state)), "0 bytes");
    }
    expect_state("DAT-EOS-PRECOPY", c.device, state);
  }
}

// Leaves pre-copy with so much read, completes the save, and loads it.
void leave_early(Context& c, DeviceState state, std::size_t read, bool to_the_end) {
  go(c.device, state);
  if (to_the_end) step(c.device.read_all(), "read all");
  if (!to_the_end && read != 0) step(c.device.read(read), "read some");
  const std::string expected = fmt::format("{} is left after {} bytes{}", contract::name(state),
                                           c.device.received().size(), to_the_end ? ", drained" : "");
  expect_done("DAT-EARLY", c.device.set(StopCopy), expected + " to STOP_COPY");
  expect_answer("DAT-EARLY", c.device.read_all(), expected + " and the rest is read");
  c.device.keep();
  expect_done("DAT-EARLY", c.device.set(Running), expected + ", then RUNNING");
  if (!c.device.set(Resuming)) throw Untestable{"RESUMING is not entered"};
  const bool loads = c.device.write_all() && c.device.set(Running);
  expect("DAT-EARLY", loads, expected + " and the stream is whole", "it does not load");
}

void pre_copy_may_be_left_at_any_moment(Context& c) {
  make_stream(c.device);
  const std::size_t size = c.device.good().size();
  for (const DeviceState state : {PreCopy, PreCopyP2p}) {
    if (!contract::advertised(state, c.flags())) continue;
    for (const std::size_t read : {std::size_t{0}, std::size_t{1}, std::size_t{100}, size / 2}) {
      leave_early(c, state, read, false);
    }
    leave_early(c, state, 0, true);
    go(c.device, state);
    step(c.device.read(1), "read a byte");
    expect_done("DAT-EARLY", c.device.set(Running),
                fmt::format("{} is left undrained to RUNNING", contract::name(state)));
  }
}

void wrong_direction_is_refused(Context& c) {
  make_stream(c.device);
  for (const DeviceState state : states_of(c.flags())) {
    if (c.device.last_state() != state) go(c.device, state);
    const std::string_view name = contract::name(state);
    if (!contract::in_saving_group(state)) {
      expect_refused("DAT-DIRECTION", c.device, c.device.read(40), fmt::format("reading in {} is an error", name));
    }
    if (state != Resuming) {
      c.device.choose({});
      expect_refused("DAT-DIRECTION", c.device, c.device.write(40), fmt::format("writing in {} is an error", name));
    }
    expect_state("DAT-DIRECTION", c.device, state);
    if (state == Resuming) reset(c.device);
  }
}

void wrong_direction_changes_nothing(Context& c) {
  make_stream(c.device);
  go(c.device, StopCopy);
  step(c.device.read(40), "read some");
  (void)c.device.write(40);
  step(c.device.read_all(), "read the rest");
  c.device.keep();
  go(c.device, Resuming);
  step(c.device.write(40), "write some");
  (void)c.device.read(40);
  const bool loads = c.device.write_all() && c.device.set(Running);
  expect("DAT-DIRECTION", loads, "an access in the wrong direction leaves the session as it was",
         "the stream read and written around it does not load");
}

void data_size_answers_in_every_state(Context& c) {
  for (const DeviceState state : states_of(c.flags())) {
    if (c.device.last_state() != state) go(c.device, state);
    expect_answer("DAT-SIZE", c.device.data_size(), fmt::format("MIG_DATA_SIZE answers in {}", contract::name(state)));
    if (contract::in_saving_group(state)) {
      step(c.device.read_all(), "read all");
      expect_answer("DAT-SIZE", c.device.data_size(),
                    fmt::format("MIG_DATA_SIZE answers in {} when all was read", contract::name(state)));
    }
    if (state == Resuming) reset(c.device);
  }
}

void data_size_is_of_the_order(Context& c) {
  const std::uint64_t estimate = step(c.device.data_size(), "MIG_DATA_SIZE");
  save(c.device);
  const std::uint64_t actual = c.device.good().size();
  expect("DAT-SIZE", estimate <= kOrder * actual + kLittle && actual <= kOrder * estimate + kLittle,
         fmt::format("MIG_DATA_SIZE is of the order of the {} bytes that are read", actual),
         fmt::format("{} bytes", estimate));
}

}  // namespace

std::vector<Test> data_tests() {
  return {
      {"session_spans_the_saving_group", {"DAT-SESSION"}, kMigration | kPreCopy, session_spans_the_saving_group},
      {"leaving_ends_the_session", {"DAT-SESSION"}, kMigration, leaving_ends_the_session},
      {"each_stay_has_a_stream_of_its_own", {"DAT-SESSION"}, kMigration, each_stay_has_a_stream_of_its_own},
      {"end_in_stop_copy_is_for_ever", {"DAT-EOS-STOP"}, kMigration, end_in_stop_copy_is_for_ever},
      {"end_of_pre_copied_state_is_final", {"DAT-EOS-STOP"}, kMigration | kPreCopy, end_of_pre_copied_state_is_final},
      {"end_in_pre_copy_is_temporary",
       {"DAT-EOS-PRECOPY"},
       kMigration | kPreCopy | kEndsApart,
       end_in_pre_copy_is_temporary},
      {"pre_copy_may_be_left_at_any_moment", {"DAT-EARLY"}, kMigration | kPreCopy, pre_copy_may_be_left_at_any_moment},
      {"wrong_direction_is_refused", {"DAT-DIRECTION"}, kMigration | kReset, wrong_direction_is_refused},
      {"wrong_direction_changes_nothing", {"DAT-DIRECTION"}, kMigration, wrong_direction_changes_nothing},
      {"data_size_answers_in_every_state",
       {"DAT-SIZE"},
       kMigration | kDataSize | kReset,
       data_size_answers_in_every_state},
      {"data_size_is_of_the_order", {"DAT-SIZE"}, kMigration | kDataSize, data_size_is_of_the_order},
  };
}

}  // namespace gangway::conformance
