// RST: reset, and its absence.
#include <algorithm>
#include <array>

#include <fmt/core.h>

#include "conformance/steps.h"

namespace gangway::conformance {
namespace {

using enum DeviceState;

// What a device may have been through before it is asked to load.
struct Past {
  std::string_view name;
  void (*happen)(Context&);
};

void nothing(Context& c) { reopen(c.device); }
void accesses(Context& c) {
  reopen(c.device);
  std::array<std::byte, 4> word{};
  step(c.device.read_region(to_number(RegionIndex::Config), 0, word), "read config space");
  if (std::shared_ptr<Workload> workload = make_workload(c.abilities)) {
    step(c.device.perform("work",
                          [workload](DeviceHandle& device) -> Result<void> {
                            if (Result<void> set = workload->set_up(device); !set) return set;
                            if (Result<void> kicked = workload->kick(device, 1); !kicked) return kicked;
                            return workload->await(device);
                          }),
         "traffic");
  }
}
void a_save(Context& c) {
  reopen(c.device);
  go(c.device, StopCopy);
  step(c.device.read_all(), "read all");
  go(c.device, Running);
}
void a_cancelled_save(Context& c) {
  reopen(c.device);
  go(c.device, contract::advertised(PreCopy, c.flags()) ? PreCopy : StopCopy);
  step(c.device.read(40), "read some");
  go(c.device, Running);
}
constexpr std::array<Past, 4> kPasts{
    {{"a fresh open", nothing}, {"accesses", accesses}, {"a save", a_save}, {"a cancelled save", a_cancelled_save}}};

void load_after(Context& c, const Past& past, int resets, bool stepwise, const Bytes& stream) {
  past.happen(c);
  c.device.give(stream);
  for (int i = 0; i < resets; ++i) reset(c.device);
  const std::string expected = fmt::format("RESUMING loads after {} and {} resets, {}", past.name, resets,
                                           stepwise ? "step by step" : "in one call");
  if (stepwise) {
    if (c.flags().p2p) step(c.device.set(RunningP2p), "set RUNNING_P2P");
    step(c.device.set(Stop), "set STOP");
  }
  const Result<void> resuming = c.device.set(Resuming);
  // A device that a reset does not help either has another trouble: it loaded when it was fresh.
  const bool saved = past.happen == a_save || past.happen == a_cancelled_save;
  const bool reset_helps = resuming || !saved || (c.device.reset() && c.device.set(Resuming));
  expect_done(reset_helps ? "RST-NOT-REQUIRED" : "FSM-REPEAT", resuming, expected);
  expect_done("RST-NOT-REQUIRED", c.device.write_all(), expected);
  expect_done("RST-NOT-REQUIRED", c.device.set(Running), expected);
}

void resuming_needs_no_reset(Context& c) {
  make_stream(c.device);
  const Bytes stream = c.device.good();
  for (const Past& past : kPasts) {
    for (const bool stepwise : {false, true}) load_after(c, past, 0, stepwise, stream);
  }
}

void resuming_allows_resets_before(Context& c) {
  make_stream(c.device);
  const Bytes stream = c.device.good();
  for (const Past& past : kPasts) {
    for (const int resets : {1, 2}) {
      for (const bool stepwise : {false, true}) load_after(c, past, resets, stepwise, stream);
    }
  }
}

// How far a data session has come when the reset arrives.
enum class Use { None, Some, All };

void use_session(Context& c, DeviceState state, Use use) {
  if (contract::in_saving_group(state)) {
    if (use == Use::Some) step(c.device.read(40), "read some");
    if (use == Use::All) step(c.device.read_all(), "read all");
  } else if (state == Resuming) {
    c.device.choose({});
    if (use == Use::Some) step(c.device.write(40), "write some");
    if (use == Use::All) step(c.device.write_all(), "write all");
  }
}

void reset_is_allowed_in_every_state(Context& c) {
  make_stream(c.device);
  for (const DeviceState state : states_of(c.flags())) {
    for (const Use use : {Use::None, Use::Some, Use::All}) {
      if (c.device.last_state() != state) go(c.device, state);
      use_session(c, state, use);
      expect_done("RST-ALLOWED", c.device.reset(), fmt::format("a reset in {} succeeds", contract::name(state)));
      expect_state("RST-ALLOWED", c.device, Running);
    }
  }
  for (int i = 0; i < 3; ++i) expect_done("RST-ALLOWED", c.device.reset(), "resets one after the other succeed");
}

// Who recovers from ERROR, or aborts RESUMING, goes by the flag.
void reset_is_announced(Context& c) {
  expect("RST-ALLOWED", c.abilities.info.reset, "a device that migrates has VFIO_DEVICE_FLAGS_RESET",
         (c.abilities.have & kReset) != 0 ? "a reset works and the flag is not set" : "the flag is not set");
}

void reset_ends_the_session(Context& c) {
  make_stream(c.device);
  for (const DeviceState state : states_of(c.flags())) {
    const bool saving = contract::in_saving_group(state);
    if (!saving && state != Resuming) continue;
    go(c.device, state);
    use_session(c, state, Use::Some);
    reset(c.device);
    const std::string expected = fmt::format("the session of {} ends with a reset", contract::name(state));
    if (saving) expect_refused("RST-CLEARS", c.device, c.device.read(40), expected);
    if (state == Resuming) expect_refused("RST-CLEARS", c.device, c.device.write(40), expected);
    expect_state("RST-CLEARS", c.device, Running);
  }
}

void half_loaded_state_is_forgotten(Context& c) {
  make_stream(c.device);
  go(c.device, Resuming);
  c.device.choose({});
  step(c.device.write(c.device.good().size() / 2), "write half");
  reset(c.device);
  expect_loads("RST-CLEARS", c.device, "a stream loads after a half-written one and a reset");
  go(c.device, Resuming);
  step(c.device.write(40), "write some");
  reset(c.device);
  expect_done("RST-CLEARS", c.device.set(StopCopy), "the device saves after a half-written load and a reset");
  expect_answer("RST-CLEARS", c.device.read_all(), "the device saves after a half-written load and a reset");
}

void verdict_on_a_stream_is_forgotten(Context& c) {
  make_stream(c.device);
  const Bytes good = c.device.good();
  for (const Variant& bad : {Variant{Variant::Kind::Noise}, Variant{Variant::Kind::Cut, good.size() / 2},
                             Variant{Variant::Kind::Flip, good.size() * 4}}) {
    if (c.device.last_state() != Resuming) go(c.device, Resuming);
    c.device.choose(bad);
    (void)c.device.write_all();
    (void)c.device.set(Stop);
    if (c.device.lost()) throw Untestable{c.device.why_lost()};
    reset(c.device);
    expect_loads("RST-CLEARS", c.device,
                 fmt::format("a good stream loads after a refused one ('{}') and a reset", to_text(bad)));
    go(c.device, StopCopy);
    step(c.device.read_all(), "read all");
    go(c.device, Running);
  }
}

// Whether the stream, spoiled in this bit, is let in. Ends with a reset.
bool lets_in(Context& c, std::uint64_t bit) {
  go(c.device, Resuming);
  c.device.choose({Variant::Kind::Flip, bit});
  const bool let_in = c.device.write_all() && c.device.set(Stop);
  if (c.device.lost()) throw Untestable{c.device.why_lost()};
  reset(c.device);
  return let_in;
}

// That one stream was good says nothing of the next. Bits of the beginning, which says whose state it is.
void good_verdict_is_forgotten(Context& c) {
  constexpr std::uint64_t kBeginning = 48;  // bytes
  make_stream(c.device);
  const Bytes good = c.device.good();
  std::vector<std::uint64_t> bits;
  for (std::uint64_t byte = 0; byte < std::min<std::uint64_t>(kBeginning, good.size()); ++byte)
    bits.push_back(8 * byte + 1);
  for (const std::uint64_t bit : bits) {
    if (lets_in(c, bit)) throw Untestable{"a spoiled stream is let in (see DAT-VALIDATE)"};
  }
  go(c.device, Resuming);
  c.device.choose({});
  step(c.device.write_all(), "write a good stream");
  go(c.device, Running);
  reset(c.device);
  for (const std::uint64_t bit : bits) {
    expect("RST-CLEARS", !lets_in(c, bit), "a spoiled stream is refused after a good one and a reset as it was before",
           fmt::format("with bit {} inverted it is let in", bit));
  }
}

void reset_aborts_resuming(Context& c) {
  make_stream(c.device);
  for (const Use use : {Use::None, Use::Some, Use::All}) {
    go(c.device, Resuming);
    use_session(c, Resuming, use);
    expect_done("RST-ABORTS", c.device.reset(), "a reset aborts RESUMING");
    expect_state("RST-ABORTS", c.device, Running);
  }
  expect_loads("RST-ABORTS", c.device, "a full valid stream leaves RESUMING");
}

}  // namespace

std::vector<Test> reset_tests() {
  return {
      {"resuming_needs_no_reset", {"RST-NOT-REQUIRED"}, kMigration, resuming_needs_no_reset},
      {"resuming_allows_resets_before", {"RST-NOT-REQUIRED"}, kMigration | kReset, resuming_allows_resets_before},
      {"reset_is_allowed_in_every_state", {"RST-ALLOWED"}, kMigration | kReset, reset_is_allowed_in_every_state},
      {"reset_is_announced", {"RST-ALLOWED"}, kMigration, reset_is_announced, Level::Should},
      {"reset_ends_the_session", {"RST-CLEARS"}, kMigration | kReset, reset_ends_the_session},
      {"half_loaded_state_is_forgotten", {"RST-CLEARS"}, kMigration | kReset, half_loaded_state_is_forgotten},
      {"verdict_on_a_stream_is_forgotten", {"RST-CLEARS"}, kMigration | kReset, verdict_on_a_stream_is_forgotten},
      {"good_verdict_is_forgotten", {"RST-CLEARS"}, kMigration | kReset, good_verdict_is_forgotten},
      {"reset_aborts_resuming", {"RST-ABORTS"}, kMigration | kReset, reset_aborts_resuming},
  };
}

}  // namespace gangway::conformance
