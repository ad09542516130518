// V1: the migration region of Linux 5.8 to 5.17, which is retired; and one revision to a connection.
#include <fmt/core.h>

#include "base/bytes.h"
#include "conformance/region.h"
#include "conformance/steps.h"

namespace gangway::conformance {
namespace {

using namespace migration_region;
using enum DeviceState;
using Way = MigrationRegion::Way;
using Chunks = MigrationRegion::Chunks;

constexpr std::uint32_t kStop = 0;
constexpr std::uint32_t kPreCopyBits = kSaving | kRunning;

std::string bits_text(std::uint32_t bits) { return fmt::format("{:03b}", bits & kStateBits); }

void expect_bits(std::string_view clause, MigrationRegion& region, std::uint32_t bits, std::string_view when) {
  const std::uint32_t now = expect_answer(clause, region.state(), fmt::format("device_state reads {}", when));
  expect(clause, (now & kStateBits) == bits, fmt::format("device_state is {} {}", bits_text(bits), when),
         bits_text(now));
}

// As clients do: the bits that are not the state's are written as they were read.
Result<void> change_bits(MigrationRegion& region, std::uint32_t bits) {
  const std::uint32_t now = step(region.state(), "read device_state");
  return region.set((now & ~kStateBits) | bits);
}

void go_to(MigrationRegion& region, std::uint32_t bits) {
  step(change_bits(region, bits), fmt::format("device_state {}", bits_text(bits)));
}

// From RUNNING to RUNNING.
Chunks save_chunks(MigrationRegion& region, unsigned asks = 1, Way way = Way::Accesses) {
  go_to(region, kSaving);
  Chunks chunks = step(region.drain(way, asks), "save");
  go_to(region, kStop);
  go_to(region, kRunning);
  return chunks;
}

void expect_loads(std::string_view clause, MigrationRegion& region, const Chunks& chunks, std::string_view expected,
                  Way way = Way::Accesses) {
  go_to(region, kResuming);
  expect_done(clause, region.load(chunks, way), expected);
  expect_done(clause, change_bits(region, kRunning), expected);
  expect_bits(clause, region, kRunning, "after a load");
}

// --- V1-HIDDEN, V1-ONE ---

// Whether a device that serves v1 was asked to cannot be seen from outside; but what is found must be there.
void no_v1_region_exists(Context& c) {
  expect("V1-HIDDEN", c.abilities.dead_region.empty(), "a migration region that is found is served",
         c.abilities.dead_region);
  if ((c.abilities.have & kV1) != 0) throw Unsupported{"a device that does not expose v1"};
  const auto found = c.device.ask<bool>("work look for v1", [](DeviceHandle& device) -> Result<bool> {
    auto client = MigrationRegionClient::find(device, Revision::V1);
    if (!client) return std::unexpected(client.error());
    return client->has_value();
  });
  expect("V1-HIDDEN", !expect_answer("V1-HIDDEN", found, "a client of v1 can look for its region"),
         "no region of the retired migration interface (type 3, sub-type 1)", "one is found");
  if ((c.abilities.have & kPci) == 0) return;
  std::array<std::byte, 4> identity{};
  expect_done("V1-HIDDEN", c.device.read_region(to_number(RegionIndex::Config), 0, identity),
              "the device works for a client of v1 that found nothing");
}

Result<void> drive(Context& c, Revision revision) {
  if (revision == Revision::V2) return c.device.set(Stop);
  MigrationRegion region(c, revision);
  return region.set(Stop);
}

void expect_busy(Context& c, Revision revision, std::string_view expected) {
  constexpr std::string_view kClause = "V1-ONE";
  if (revision == Revision::V2) {
    expect_refused(kClause, c.device, c.device.get(), expected, EBUSY);
    expect_refused(kClause, c.device, c.device.set(Running), expected, EBUSY);
    return;
  }
  MigrationRegion region(c, revision);
  expect_refused(kClause, c.device, region.state(), expected, EBUSY);
  expect_refused(kClause, c.device, region.set(Running), expected, EBUSY);
}

void one_revision_is_driven_in_a_connection(Context& c) {
  for (const Revision first : kAllRevisions) {
    for (const Revision second : kAllRevisions) {
      if (first == second || !c.abilities.has(first) || !c.abilities.has(second)) continue;
      reopen(c.device);
      step(drive(c, first), fmt::format("drive {}", contract::name(first)));
      expect_busy(c, second,
                  fmt::format("{} is EBUSY to who drives {}", contract::name(second), contract::name(first)));
      reopen(c.device);
      expect_done("V1-ONE", drive(c, second),
                  fmt::format("a new connection may drive {} after one that drove {}", contract::name(second),
                              contract::name(first)));
    }
  }
}

// --- V1-STATES ---

void a_fresh_v1_device_runs(Context& c) {
  MigrationRegion region(c, Revision::V1);
  expect_bits("V1-STATES", region, kRunning, "of a device just opened");
}

void v1_states_are_entered(Context& c) {
  MigrationRegion region(c, Revision::V1);
  // What the table of struct vfio_device_migration_info has; the same again is no change.
  for (const std::uint32_t bits : {kStop, kRunning, kSaving, kStop, kRunning, kPreCopyBits, kSaving, kSaving, kStop,
                                   kRunning, kPreCopyBits, kRunning, kResuming}) {
    if (bits == kResuming && !can_leave_an_unfinished_load(c)) continue;
    expect_done("V1-STATES", change_bits(region, bits), fmt::format("device_state {} is entered", bits_text(bits)));
    expect_bits("V1-STATES", region, bits, "after it was written");
  }
}

// Where a refused write leads to the error state, only a reset leaves it.
void v1_invalid_states_are_refused(Context& c) {
  // The error state is an end, and would be held over the close.
  if (c.settings.safe && (c.abilities.have & kReset) == 0) throw Unsupported{"reset"};
  MigrationRegion region(c, Revision::V1);
  for (const std::uint32_t bits : {kResuming | kRunning, kResuming | kSaving, kStateBits}) {
    const std::string what = fmt::format("device_state {} is refused", bits_text(bits));
    expect_refused("V1-STATES", c.device, change_bits(region, bits), what);
    const std::uint32_t now = expect_answer("V1-STATES", region.state(), "device_state reads after a refusal");
    const bool error = (now & kStateBits) == v1_bits(Error);
    expect("V1-STATES", error || (now & kStateBits) == kRunning, "a refused state leaves the device as it was",
           bits_text(now));
    if (error && (c.abilities.have & kReset) == 0) throw Untestable{"only a reset leaves the error state", false};
    if (error) reset(c.device);
  }
}

void a_reset_leaves_every_v1_state(Context& c) {
  MigrationRegion region(c, Revision::V1);
  for (const std::uint32_t bits : {kStop, kRunning, kSaving, kPreCopyBits, kResuming}) {
    go_to(region, bits);
    expect_done("V1-STATES", c.device.reset(), fmt::format("a reset in {} succeeds", bits_text(bits)));
    expect_bits("V1-STATES", region, kRunning, fmt::format("after a reset in {}", bits_text(bits)));
  }
}

void other_bits_do_not_change(Context& c) {
  MigrationRegion region(c, Revision::V1);
  const std::uint32_t others = step(region.state(), "read device_state") & ~kStateBits;
  for (const std::uint32_t bits : {kPreCopyBits, kSaving, kStop, kRunning, kResuming}) {
    if (bits == kResuming && !can_leave_an_unfinished_load(c)) continue;
    go_to(region, bits);
    const std::uint32_t now = step(region.state(), "read device_state") & ~kStateBits;
    expect("V1-STATES", now == others, fmt::format("the other bits stay {:#x} in {}", others, bits_text(bits)),
           fmt::format("{:#x}", now));
  }
}

// A client may hold what it likes there, or the device refuses it; to take it and lose it is neither.
void other_bits_are_kept(Context& c) {
  MigrationRegion region(c, Revision::V1);
  constexpr std::uint32_t kOther = 1U << 12;
  const std::uint32_t others = (step(region.state(), "read device_state") & ~kStateBits) | kOther;
  if (!region.set(others | kSaving)) throw Untestable{"the device takes no other bits", c.device.lost()};
  const std::uint32_t now = step(region.state(), "read device_state");
  expect("V1-STATES", now == (others | kSaving),
         fmt::format("device_state is {:#x} as it was written", others | kSaving), fmt::format("{:#x}", now));
}

// --- V1-SAVE ---

void reads_within_an_iteration_agree(Context& c) {
  MigrationRegion region(c, Revision::V1);
  go_to(region, kSaving);
  expect_iterations_agree("V1-SAVE", region);
}

void asking_what_is_pending_takes_nothing(Context& c) {
  MigrationRegion region(c, Revision::V1);
  constexpr unsigned kAsks = 3;
  expect_loads("V1-SAVE", region, save_chunks(region, kAsks),
               "a save is whole in which pending_bytes was read again and again");
}

void pending_bytes_ends_at_0(Context& c) {
  MigrationRegion region(c, Revision::V1);
  go_to(region, kSaving);
  step(region.drain(), "save");
  expect_end_for_ever("V1-SAVE", region);
}

// --- V1-LOAD ---

void v1_loads_what_it_saved(Context& c) {
  MigrationRegion region(c, Revision::V1);
  for (const Way way : {Way::Accesses, Way::Words, Way::Map}) {
    if (way == Way::Map && !region.mapped()) continue;
    const Chunks chunks = save_chunks(region, 1, way);
    if (chunks.empty()) throw Untestable{"a save yields no data"};
    expect_loads("V1-LOAD", region, chunks, fmt::format("what was saved is loaded {}", to_text(way)), way);
  }
}

// --- V1-CHANGE ---

// The ways to be in the middle of an iteration.
enum class Middle : std::uint8_t { Asked, Staged, Copied };
constexpr std::array kMiddles{Middle::Asked, Middle::Staged, Middle::Copied};

// What the client copied.
Chunks leave_off(MigrationRegion& region, Middle middle) {
  const std::uint64_t pending = step(region.field(kPendingBytes), "read pending_bytes");
  if (pending == 0 || middle == Middle::Asked) return {};
  const MigrationRegion::Chunk chunk = step(region.stage(), "stage a chunk");
  if (middle == Middle::Staged) return {};
  return {step(region.read_data(chunk, Way::Accesses), "read the chunk")};
}

void a_save_may_be_cancelled_in_an_iteration(Context& c) {
  MigrationRegion region(c, Revision::V1);
  for (const std::uint32_t saving : {kSaving, kPreCopyBits}) {
    for (const Middle middle : kMiddles) {
      go_to(region, saving);
      (void)leave_off(region, middle);
      if (saving == kSaving) go_to(region, kStop);
      expect_done("V1-CHANGE", change_bits(region, kRunning), "a save is cancelled in the middle of an iteration");
      expect_loads("V1-CHANGE", region, save_chunks(region), "the save after a cancelled one is whole");
    }
  }
}

// A chunk that was staged and not copied is the client's loss, so that is not asked.
void pre_copy_may_end_in_an_iteration(Context& c) {
  MigrationRegion region(c, Revision::V1);
  for (const Middle middle : {Middle::Asked, Middle::Copied}) {
    go_to(region, kPreCopyBits);
    Chunks chunks = leave_off(region, middle);
    expect_done("V1-CHANGE", change_bits(region, kSaving), "pre-copy ends in the middle of an iteration");
    const Chunks rest = step(region.drain(), "save");
    chunks.insert(chunks.end(), rest.begin(), rest.end());
    go_to(region, kStop);
    go_to(region, kRunning);
    expect_loads("V1-CHANGE", region, chunks, "what is read over the end of pre-copy is one stream");
  }
}

void a_load_may_be_broken_off_in_an_iteration(Context& c) {
  MigrationRegion region(c, Revision::V1);
  const Chunks chunks = save_chunks(region);
  if (chunks.empty()) throw Untestable{"a save yields no data"};
  go_to(region, kResuming);
  step(region.write_data(chunks.front()), "write a chunk");
  expect_done("V1-CHANGE", c.device.reset(), "a reset in the middle of an iteration succeeds");
  expect_bits("V1-CHANGE", region, kRunning, "after a reset in the middle of an iteration");
  expect_loads("V1-CHANGE", region, chunks, "a load after one that was broken off is whole");
}

}  // namespace

std::vector<Test> v1_tests() {
  return {
      {"no_v1_region_exists", {"V1-HIDDEN"}, 0, no_v1_region_exists},
      {"one_revision_is_driven_in_a_connection", {"V1-ONE"}, kRevisions, one_revision_is_driven_in_a_connection},
      {"a_fresh_v1_device_runs", {"V1-STATES"}, kV1, a_fresh_v1_device_runs},
      {"v1_states_are_entered", {"V1-STATES"}, kV1, v1_states_are_entered},
      {"v1_invalid_states_are_refused", {"V1-STATES"}, kV1, v1_invalid_states_are_refused},
      {"a_reset_leaves_every_v1_state", {"V1-STATES"}, kV1 | kReset, a_reset_leaves_every_v1_state},
      {"other_bits_do_not_change", {"V1-STATES"}, kV1, other_bits_do_not_change},
      {"other_bits_are_kept", {"V1-STATES"}, kV1, other_bits_are_kept, Level::Should},
      {"reads_within_an_iteration_agree", {"V1-SAVE"}, kV1, reads_within_an_iteration_agree},
      {"asking_what_is_pending_takes_nothing", {"V1-SAVE"}, kV1, asking_what_is_pending_takes_nothing},
      {"pending_bytes_ends_at_0", {"V1-SAVE"}, kV1, pending_bytes_ends_at_0},
      {"v1_loads_what_it_saved", {"V1-LOAD"}, kV1, v1_loads_what_it_saved},
      {"a_save_may_be_cancelled_in_an_iteration", {"V1-CHANGE"}, kV1, a_save_may_be_cancelled_in_an_iteration},
      {"pre_copy_may_end_in_an_iteration", {"V1-CHANGE"}, kV1, pre_copy_may_end_in_an_iteration},
      {"a_load_may_be_broken_off_in_an_iteration",
       {"V1-CHANGE"},
       kV1 | kReset,
       a_load_may_be_broken_off_in_an_iteration},
  };
}

}  // namespace gangway::conformance
