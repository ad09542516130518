// R2: the migration region with the states and rules of v2.
#include <algorithm>
#include <array>

#include <fmt/core.h>

#include "conformance/region.h"
#include "conformance/steps.h"

namespace gangway::conformance {
namespace {

using namespace migration_region;
using enum DeviceState;
using Way = MigrationRegion::Way;
using Chunks = MigrationRegion::Chunks;

std::string state_text(std::uint32_t value) {
  return value < kDeviceStates ? std::string(contract::name(static_cast<DeviceState>(value)))
                               : fmt::format("{:#x}", value);
}

void expect_in(std::string_view clause, MigrationRegion& region, DeviceState state, std::string_view when) {
  const std::uint32_t now = expect_answer(clause, region.state(), fmt::format("device_state reads {}", when));
  expect(clause, now == region.value_of(state), fmt::format("device_state is {} {}", contract::name(state), when),
         state_text(now));
}

void go_to(MigrationRegion& region, DeviceState state) {
  step(region.set(state), fmt::format("device_state {}", contract::name(state)));
}

// The region does not tell the flags; a state that is refused is one that the device does not have.
MigrationFlags flags_of(MigrationRegion& region) {
  MigrationFlags flags{.p2p = false, .pre_copy = false};
  flags.p2p = region.set(RunningP2p).has_value();
  go_to(region, Running);
  flags.pre_copy = region.set(PreCopy).has_value();
  go_to(region, Running);
  return flags;
}

Chunks save_chunks(MigrationRegion& region, Way way = Way::Accesses) {
  go_to(region, StopCopy);
  Chunks chunks = step(region.drain(way), "save");
  go_to(region, Running);
  if (chunks.empty()) throw Untestable{"a save yields no data"};
  return chunks;
}

void expect_loads(std::string_view clause, MigrationRegion& region, const Chunks& chunks, std::string_view expected,
                  Way way = Way::Accesses) {
  go_to(region, Resuming);
  expect_done(clause, region.load(chunks, way), expected);
  expect_done(clause, region.set(Running), expected);
  expect_in(clause, region, Running, "after a load");
}

// --- R2-FOUND ---

// Each client by the sub-type that it knows; what it finds speaks its language.
void each_client_finds_its_own_region(Context& c) {
  using Found = std::vector<std::uint32_t>;
  for (const Revision revision : {Revision::RegionV2, Revision::V1}) {
    const Found found = step(
        c.device.ask<Found>("work look for migration regions",
                            [revision, regions = c.abilities.info.regions](DeviceHandle& device) -> Result<Found> {
                              Found all;
                              for (std::uint32_t index = 0; index < regions; ++index) {
                                const auto region = device.region(index);
                                const bool is = region && region->type == kType && region->subtype == subtype(revision);
                                if (is) all.push_back(index);
                              }
                              return all;
                            }),
        "look for migration regions");
    expect("R2-FOUND", found.size() <= 1, fmt::format("at most one region of sub-type {} is found", subtype(revision)),
           fmt::format("{}", found.size()));
  }
  MigrationRegion region(c, Revision::RegionV2);
  expect_in("R2-FOUND", region, Running, "of a device just opened, in the region of sub-type 2");
  if (!c.abilities.has(Revision::V1)) return;
  const std::uint32_t bits = step(MigrationRegion(c, Revision::V1).state(), "read device_state of v1");
  expect("R2-FOUND", (bits & kStateBits) == v1_bits(Running),
         "a client that knows only sub-type 1 finds the bits of v1 there, 001 in RUNNING",
         fmt::format("{:03b}", bits & kStateBits));
}

// --- R2-LAYOUT ---

void device_state_is_a_number(Context& c) {
  MigrationRegion region(c, Revision::RegionV2);
  for (const std::uint32_t value : {0x100U | 1U, 0x80000002U, 8U | 2U, 0x10001U, 0xffffffffU}) {
    expect_refused("R2-LAYOUT", c.device, region.set(value), fmt::format("device_state {:#x} is no state", value));
    expect_in("R2-LAYOUT", region, Running, fmt::format("after {:#x} was refused", value));
  }
}

// Whether a part of the field is refused or ignored, it is not a state.
void device_state_is_written_whole(Context& c) {
  MigrationRegion region(c, Revision::RegionV2);
  const std::array<std::byte, 2> stop{std::byte{1}, std::byte{0}};
  for (const std::size_t size : {std::size_t{1}, std::size_t{2}}) {
    (void)region.write(kDeviceState, std::span(stop).first(size));
    expect("R2-LAYOUT", !c.device.lost(), "the device answers after a write of a part of device_state",
           c.device.why_lost());
    expect_in("R2-LAYOUT", region, Running, fmt::format("after a write of {} of its 4 bytes", size));
  }
}

void the_header_is_read_by_whole_fields(Context& c) {
  MigrationRegion region(c, Revision::RegionV2);
  go_to(region, StopCopy);
  expect_in("R2-LAYOUT", region, StopCopy, "at offset 0");
  expect_answer("R2-LAYOUT", region.field(kPendingBytes), "pending_bytes is read at 8");
  expect_answer("R2-LAYOUT", region.stage(), "data_offset is read at 16 and data_size at 24, a part of the region");
}

// --- R2-STATES ---

void region_v2_takes_every_pair(Context& c) {
  MigrationRegion region(c, Revision::RegionV2);
  const MigrationFlags flags = flags_of(region);
  for (const DeviceState from : states_of(flags)) {
    for (const DeviceState to : states_of(flags)) {
      // A load that is not whole has no way out.
      if (from == Resuming && to != Resuming) continue;
      if (to == Resuming && !can_leave_an_unfinished_load(c)) continue;
      reopen(c.device);
      go_to(region, from);
      const std::string pair = fmt::format("{} to {}", contract::name(from), contract::name(to));
      const Result<void> done = region.set(to);
      if (!contract::path(from, to, flags)) {
        expect_refused("R2-STATES", c.device, done, pair + " is EINVAL", EINVAL);
        expect_in("R2-STATES", region, from, "after " + pair + " was refused");
        continue;
      }
      expect_done("R2-STATES", done, pair + " succeeds");
      expect_in("R2-STATES", region, to, "after " + pair);
    }
  }
}

void region_v2_refuses_what_is_no_state(Context& c) {
  MigrationRegion region(c, Revision::RegionV2);
  const MigrationFlags flags = flags_of(region);
  for (std::uint32_t value = 0; value <= kDeviceStates; ++value) {
    if (value < kDeviceStates && contract::advertised(static_cast<DeviceState>(value), flags)) continue;
    expect_refused("R2-STATES", c.device, region.set(value), state_text(value) + " is EINVAL", EINVAL);
    expect_in("R2-STATES", region, Running, fmt::format("after {} was refused", state_text(value)));
  }
}

void region_v2_refuses_a_stream_that_is_not_whole(Context& c) {
  MigrationRegion region(c, Revision::RegionV2);
  const Chunks whole = save_chunks(region);
  Bytes stream = join(whole);
  stream.resize(stream.size() - 1);
  // Without its last byte, and at edges of chunks.
  std::vector<Chunks> cuts{{stream}};
  constexpr std::size_t kMostEdges = 8;
  for (std::size_t edge = 0; edge < whole.size(); edge += std::max<std::size_t>(1, whole.size() / kMostEdges)) {
    cuts.emplace_back(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(edge));
  }
  for (const Chunks& cut : cuts) {
    go_to(region, Resuming);
    // A device may refuse it early.
    if (region.load(cut)) {
      expect_refused("R2-STATES", c.device, region.set(Stop),
                     fmt::format("RESUMING to STOP fails after {} of {} chunks", cut.size(), whole.size()));
    }
    reset(c.device);
  }
}

void a_reset_leads_to_running(Context& c) {
  MigrationRegion region(c, Revision::RegionV2);
  for (const DeviceState state : states_of(flags_of(region))) {
    go_to(region, state);
    expect_done("R2-STATES", c.device.reset(), fmt::format("a reset in {} succeeds", contract::name(state)));
    expect_in("R2-STATES", region, Running, fmt::format("after a reset in {}", contract::name(state)));
  }
}

// --- R2-DATA ---

void region_v2_loads_what_it_saved(Context& c) {
  MigrationRegion region(c, Revision::RegionV2);
  for (const Way way : {Way::Accesses, Way::Words, Way::Map}) {
    if (way == Way::Map && !region.mapped()) continue;
    const Chunks chunks = save_chunks(region, way);
    expect_loads("R2-DATA", region, chunks, fmt::format("what was saved is loaded {}", to_text(way)), way);
  }
}

void segmentation_is_not_kept(Context& c) {
  MigrationRegion region(c, Revision::RegionV2);
  const Bytes stream = join(save_chunks(region));
  constexpr std::size_t kMostOdd = 4096;
  const Bytes head(stream.begin(), stream.begin() + static_cast<std::ptrdiff_t>(std::min(stream.size(), kMostOdd)));
  const Bytes tail(stream.begin() + static_cast<std::ptrdiff_t>(head.size()), stream.end());
  for (const std::size_t size : {1U, 13U, 1000U}) {
    Chunks chunks = cut(head, size);
    for (Bytes& chunk : cut(tail, 100'003)) chunks.push_back(std::move(chunk));
    expect_loads("R2-DATA", region, chunks, fmt::format("a stream loads in chunks of {} bytes", size));
  }
}

void the_end_is_for_ever(Context& c) {
  MigrationRegion region(c, Revision::RegionV2);
  go_to(region, StopCopy);
  step(region.drain(), "save");
  expect_end_for_ever("R2-DATA", region);
}

void iterations_agree(Context& c) {
  MigrationRegion region(c, Revision::RegionV2);
  go_to(region, StopCopy);
  expect_iterations_agree("R2-DATA", region);
}

// A temporary end in pre-copy, then the rest: one stream, loaded whole.
void one_session_spans_pre_copy_and_stop_copy(Context& c) {
  MigrationRegion region(c, Revision::RegionV2);
  if (!flags_of(region).pre_copy) throw Unsupported{"PRE_COPY"};
  go_to(region, PreCopy);
  Chunks chunks = step(region.drain(), "read pre-copy data");
  for (int i = 0; i < 2; ++i) {
    for (Bytes& chunk : step(region.drain(), "read pre-copy data")) chunks.push_back(std::move(chunk));
  }
  go_to(region, StopCopy);
  for (Bytes& chunk : step(region.drain(), "read the rest")) chunks.push_back(std::move(chunk));
  go_to(region, Running);
  expect_loads("R2-DATA", region, chunks, "what is read from PRE_COPY to the end in STOP_COPY is one stream");
}

void leaving_the_saving_group_ends_the_session(Context& c) {
  MigrationRegion region(c, Revision::RegionV2);
  go_to(region, StopCopy);
  step(region.field(kPendingBytes), "read pending_bytes");
  step(region.stage(), "stage a chunk");
  go_to(region, Running);
  expect_loads("R2-DATA", region, save_chunks(region), "the save after one that was broken off is whole");
}

}  // namespace

std::vector<Test> region_v2_tests() {
  return {
      {"each_client_finds_its_own_region", {"R2-FOUND"}, kRegionV2, each_client_finds_its_own_region},
      {"device_state_is_a_number", {"R2-LAYOUT"}, kRegionV2, device_state_is_a_number},
      {"device_state_is_written_whole", {"R2-LAYOUT"}, kRegionV2, device_state_is_written_whole},
      {"the_header_is_read_by_whole_fields", {"R2-LAYOUT"}, kRegionV2, the_header_is_read_by_whole_fields},
      {"region_v2_takes_every_pair", {"R2-STATES"}, kRegionV2, region_v2_takes_every_pair},
      {"region_v2_refuses_what_is_no_state", {"R2-STATES"}, kRegionV2, region_v2_refuses_what_is_no_state},
      {"region_v2_refuses_a_stream_that_is_not_whole",
       {"R2-STATES"},
       kRegionV2 | kReset,
       region_v2_refuses_a_stream_that_is_not_whole},
      {"a_reset_leads_to_running", {"R2-STATES"}, kRegionV2 | kReset, a_reset_leads_to_running},
      {"region_v2_loads_what_it_saved", {"R2-DATA"}, kRegionV2, region_v2_loads_what_it_saved},
      {"segmentation_is_not_kept", {"R2-DATA"}, kRegionV2, segmentation_is_not_kept},
      {"the_end_is_for_ever", {"R2-DATA"}, kRegionV2, the_end_is_for_ever},
      {"iterations_agree", {"R2-DATA"}, kRegionV2, iterations_agree},
      {"one_session_spans_pre_copy_and_stop_copy", {"R2-DATA"}, kRegionV2, one_session_spans_pre_copy_and_stop_copy},
      {"leaving_the_saving_group_ends_the_session", {"R2-DATA"}, kRegionV2, leaving_the_saving_group_ends_the_session},
  };
}

}  // namespace gangway::conformance
