// The data session: ends, directions, sizes, pre-copy, repetition. Clauses DAT-*, PRE-*, FSM-REPEAT, STP-QUIET.
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "unit/device/recording_device.h"
#include "unit/device/stream_ops.h"

namespace gangway::test {
namespace {

using enum DeviceState;

RecordingOptions tracking_options() { return {.memory_sizes = {4096, 0, 1000}, .tracks_dirty = true}; }

void expect_same_state(const Rig& a, const Rig& b) {
  EXPECT_EQ(a.device.value, b.device.value);
  for (const std::size_t i : {0U, 2U}) EXPECT_TRUE(a.device.memory(i) == b.device.memory(i)) << "memory " << i;
}

// Moves bytes from a source's engine into a destination's, which is in RESUMING.
StreamEnd move(Rig& source, Rig& destination, std::size_t piece = kWhole) {
  const Drained drained = drain(source.migration, pieces_of(piece));
  const Result<void> written = fill(destination.migration, drained.bytes, pieces_of(piece));
  EXPECT_TRUE(written) << written.error().message;
  return drained.end;
}

TEST(DataSession, ends_with_nothing_for_ever_in_stop_copy) {
  Rig rig(tracking_options());
  ASSERT_TRUE(rig.go(StopCopy));
  EXPECT_EQ(drain(rig.migration, pieces_of(100)).end, StreamEnd::Final);
  Bytes piece(10);
  for (int i = 0; i < 3; ++i) {
    const Result<StreamRead> read = rig.migration.read(piece);
    ASSERT_TRUE(read);
    EXPECT_EQ(read->size, 0U);
    EXPECT_EQ(read->end, StreamEnd::Final) << "DAT-EOS-STOP";
  }
}

TEST(DataSession, a_read_of_nothing_tells_whether_the_end_is_reached) {
  Rig rig(tracking_options());
  ASSERT_TRUE(rig.go(StopCopy));
  EXPECT_EQ(rig.migration.read({})->end, StreamEnd::More);
  drain(rig.migration, pieces_of(kWhole));
  EXPECT_EQ(rig.migration.read({})->end, StreamEnd::Final);
}

TEST(DataSession, goes_one_way_in_each_state) {
  Rig rig;
  Bytes piece(10);
  for (const DeviceState state : {Running, RunningP2p, Stop, PreCopy, PreCopyP2p, StopCopy, Resuming}) {
    ASSERT_TRUE(rig.go(Stop));
    ASSERT_TRUE(rig.go(state));
    const bool readable = contract::in_saving_group(state);
    const Result<StreamRead> read = rig.migration.read(piece);
    EXPECT_EQ(read.has_value(), readable) << contract::name(state);
    EXPECT_EQ(rig.migration.read_view(10).has_value(), readable) << contract::name(state);
    if (!read) {
      EXPECT_EQ(read.error().code, EINVAL);
    }
    if (state == Resuming) continue;
    const Result<void> written = rig.migration.write(piece);
    ASSERT_FALSE(written) << contract::name(state);
    EXPECT_EQ(written.error().code, EINVAL);
    EXPECT_EQ(written.error().clause, "DAT-DIRECTION");
    EXPECT_EQ(rig.migration.state(), state);
  }
}

TEST(DataSession, a_refused_direction_changes_nothing) {
  Rig source(tracking_options());
  source.device.fill(3);
  source.device.value = "kept";
  Rig destination(tracking_options());
  ASSERT_TRUE(source.go(PreCopy));
  ASSERT_TRUE(destination.go(Resuming));
  Bytes piece(10);
  EXPECT_FALSE(source.migration.write(piece));
  EXPECT_FALSE(destination.migration.read(piece));
  move(source, destination, 77);
  EXPECT_FALSE(source.migration.write(piece));
  ASSERT_TRUE(source.go(StopCopy));
  move(source, destination, 77);
  EXPECT_FALSE(destination.migration.read(piece));
  ASSERT_TRUE(destination.go(Running));
  expect_same_state(source, destination);
}

TEST(DataSession, is_a_new_one_in_each_stay) {
  Rig rig(tracking_options());
  ASSERT_TRUE(rig.go(PreCopy));
  const Bytes first = drain(rig.migration, pieces_of(kWhole)).bytes;
  ASSERT_TRUE(rig.go(Running));
  EXPECT_FALSE(rig.device.tracking) << "leaving the saving group ends dirty tracking";
  ASSERT_TRUE(rig.go(PreCopy));
  EXPECT_TRUE(drain(rig.migration, pieces_of(kWhole)).bytes == first)
      << "DAT-SESSION: it begins with the preamble again";
}

// FSM-REPEAT, RST-NOT-REQUIRED: to and fro, with a cancelled save in between.
TEST(DataSession, goes_from_a_to_b_to_a) {
  Rig a(tracking_options());
  Rig b(tracking_options());
  a.device.value = "first";
  a.device.fill(5);
  for (int round = 0; round < 3; ++round) {
    ASSERT_TRUE(a.go(PreCopy));
    Bytes some(50);
    ASSERT_TRUE(a.migration.read(some));
    ASSERT_TRUE(a.go(Running)) << "cancelled";
    ASSERT_TRUE(b.go(Resuming));
    ASSERT_TRUE(a.go(PreCopy));
    move(a, b);
    a.device.poke(0, 100, static_cast<std::uint8_t>(round));
    ASSERT_TRUE(a.go(StopCopy));
    EXPECT_EQ(move(a, b), StreamEnd::Final);
    ASSERT_TRUE(b.go(Running));
    expect_same_state(a, b);
    b.device.value += "+";
    b.device.poke(2, 999, static_cast<std::uint8_t>(round + 7));

    ASSERT_TRUE(b.go(StopCopy));
    ASSERT_TRUE(a.go(Resuming)) << "straight out of STOP_COPY";
    EXPECT_EQ(move(b, a), StreamEnd::Final);
    ASSERT_TRUE(a.go(Running));
    ASSERT_TRUE(b.go(Running));
    expect_same_state(a, b);
  }
  EXPECT_EQ(a.device.value, "first+++");
}

TEST(DataSession, pending_interrupts_and_the_level_travel) {
  Rig a;
  Rig b;
  ASSERT_TRUE(a.go(RunningP2p));
  a.interrupts.trigger(IrqType::Msix, 3);
  a.interrupts.trigger(IrqType::Msi, 0);
  a.interrupts.set_intx(true);
  b.interrupts.trigger(IrqType::Msix, 9);
  ASSERT_TRUE(a.go(StopCopy));
  ASSERT_TRUE(b.go(Resuming));
  EXPECT_FALSE(b.interrupts.pending(IrqType::Msix)[9]) << "cleared on entering RESUMING";
  move(a, b);
  ASSERT_TRUE(b.go(Stop));
  EXPECT_EQ(b.interrupts.pending(IrqType::Msix), a.interrupts.pending(IrqType::Msix));
  EXPECT_EQ(b.interrupts.pending(IrqType::Msi), a.interrupts.pending(IrqType::Msi));
  EXPECT_TRUE(b.interrupts.intx_asserted());
}

TEST(DataSession, of_a_device_with_other_interrupts_is_refused_and_leaves_it_cleared) {
  Rig a;
  a.device.value = "foreign";
  ASSERT_TRUE(a.go(StopCopy));
  RecordingDevice device;
  Interrupts fewer{{1, 4, 8, 1, 1}};
  Migration migration(device, Rig::kAll, fewer);
  ASSERT_TRUE(migration.reset());
  ASSERT_TRUE(migration.set_state(4));
  ASSERT_TRUE(migration.write(drain(a.migration, pieces_of(kWhole)).bytes));
  EXPECT_FALSE(migration.set_state(1));
  EXPECT_EQ(device.value, "");
  EXPECT_EQ(migration.state(), Resuming);
  EXPECT_TRUE(migration.reset());
}

TEST(DataSize, answers_in_every_state_near_what_is_then_read) {
  for (const bool tracks : {false, true}) {
    Rig rig({.memory_sizes = {300'000, 0, 70'000}, .tracks_dirty = tracks});
    rig.device.value = std::string(5000, 'v');
    for (const DeviceState state : {Running, RunningP2p, Stop, PreCopy, PreCopyP2p, StopCopy, Resuming}) {
      ASSERT_TRUE(rig.go(Stop));
      ASSERT_TRUE(rig.go(state));
      EXPECT_NEAR(static_cast<double>(rig.migration.data_size()), state == Resuming ? 370'000.0 : 375'000.0, 2000.0);
    }
    ASSERT_TRUE(rig.migration.reset());
    rig.device.value = "saved";
    ASSERT_TRUE(rig.go(StopCopy));
    const std::uint64_t promised = rig.migration.data_size();
    EXPECT_EQ(drain(rig.migration, pieces_of(1000)).bytes.size(), promised) << "exact once everything is known";
    EXPECT_EQ(rig.migration.data_size(), 0U);
  }
}

// --- pre-copy ---

TEST(PreCopyStates, information_is_refused_elsewhere) {
  Rig rig;
  for (const DeviceState state : {Running, RunningP2p, Stop, StopCopy}) {
    ASSERT_TRUE(rig.go(state));
    const Result<PrecopyInfo> info = rig.migration.precopy_info();
    ASSERT_FALSE(info);
    EXPECT_EQ(info.error().code, EINVAL);
    EXPECT_EQ(info.error().clause, "PRE-INFO-STATE");
    EXPECT_EQ(rig.migration.precopy_info_v2().error().code, EINVAL);
  }
}

TEST(PreCopyStates, counts_down_to_nothing_exactly_when_a_read_finds_none) {
  for (const bool tracks : {false, true}) {
    Rig rig({.memory_sizes = {2'500'000, 0, 1000}, .tracks_dirty = tracks});
    ASSERT_TRUE(rig.go(PreCopy));
    PrecopyInfo info = *rig.migration.precopy_info();
    EXPECT_GT(info.initial_bytes, 0U) << "PRE-INFO-INITIAL";
    EXPECT_EQ(info.dirty_bytes, 0U);
    Bytes piece(999);
    while (info.initial_bytes > 0) {
      const Result<StreamRead> read = rig.migration.read(piece);
      ASSERT_TRUE(read);
      ASSERT_GT(read->size, 0U) << "PRE-INFO-EMPTY: there was said to be more";
      const PrecopyInfo after = *rig.migration.precopy_info();
      EXPECT_EQ(after.initial_bytes + read->size, info.initial_bytes);
      info = after;
    }
    EXPECT_EQ(info.dirty_bytes, 0U);
    const Result<StreamRead> none = rig.migration.read(piece);
    ASSERT_TRUE(none);
    EXPECT_EQ(none->size, 0U);
    EXPECT_EQ(none->end, StreamEnd::Temporary) << "DAT-EOS-PRECOPY";
    EXPECT_FALSE(rig.migration.precopy_info()->reinit);
  }
}

// PRE-INFO-V2: all memory is initial data once more, nothing is dirty, and it is said once.
TEST(PreCopyStates, a_device_that_was_set_up_anew_has_initial_data_again) {
  for (const std::size_t read_before : {std::size_t{0}, std::size_t{100}, std::size_t{2000}, kWhole}) {
    SCOPED_TRACE(testing::Message() << read_before << " bytes were read before");
    Rig source(tracking_options());
    Rig destination(tracking_options());
    source.device.fill(3);
    ASSERT_TRUE(source.go(PreCopy));
    ASSERT_TRUE(destination.go(Resuming));
    Bytes some(std::min<std::size_t>(read_before, 1 << 20));
    const std::size_t got = source.migration.read(some)->size;
    ASSERT_TRUE(destination.migration.write(std::span(some).first(got)));
    source.device.poke(0, 100, 1);
    EXPECT_FALSE(source.migration.precopy_info_v2()->reinit) << "a change is no new setup";

    source.device.fill(90);
    source.device.poke(0, 100, 2);
    source.device.renewed = true;
    const PrecopyInfo anew = *source.migration.precopy_info_v2();
    EXPECT_TRUE(anew.reinit);
    EXPECT_GT(anew.initial_bytes, 4096U + 1000U) << "all of its memory";
    EXPECT_EQ(anew.dirty_bytes, 0U);
    EXPECT_FALSE(source.migration.precopy_info_v2()->reinit) << "said once";
    const Bytes rest = drain(source.migration, pieces_of(77)).bytes;
    EXPECT_EQ(rest.size(), anew.initial_bytes);
    EXPECT_EQ(source.migration.precopy_info_v2()->initial_bytes, 0U);
    ASSERT_TRUE(destination.migration.write(rest));

    source.device.poke(2, 5, 9);
    EXPECT_GT(source.migration.precopy_info_v2()->dirty_bytes, 0U) << "relative to the new initial data";
    ASSERT_TRUE(source.go(StopCopy));
    move(source, destination);
    ASSERT_TRUE(destination.go(Running));
    expect_same_state(source, destination);
  }
}

// PRE-INFO-V2: what was produced as dirty and not read yet goes with the new initial data, of which it lies in front.
TEST(PreCopyStates, what_is_unread_counts_as_initial_where_the_device_is_set_up_anew) {
  Rig rig(tracking_options());
  ASSERT_TRUE(rig.go(PreCopy));
  drain(rig.migration, pieces_of(kWhole));
  for (std::uint64_t at = 0; at < 4096; ++at) rig.device.poke(0, at, 7);
  std::byte one{};
  ASSERT_TRUE(rig.migration.read(std::span(&one, 1)));
  ASSERT_GT(rig.migration.precopy_info_v2()->dirty_bytes, 0U);
  rig.device.renewed = true;
  const PrecopyInfo anew = *rig.migration.precopy_info_v2();
  EXPECT_TRUE(anew.reinit);
  EXPECT_EQ(anew.dirty_bytes, 0U);
  EXPECT_EQ(drain(rig.migration, pieces_of(kWhole)).bytes.size(), anew.initial_bytes);
}

// PRE-INFO-INITIAL: who did not opt in sees initial_bytes fall and nothing else, and loses nothing.
TEST(PreCopyStates, initial_data_that_is_new_is_dirty_to_those_who_did_not_ask) {
  Rig source(tracking_options());
  Rig destination(tracking_options());
  ASSERT_TRUE(source.go(PreCopy));
  ASSERT_TRUE(destination.go(Resuming));
  move(source, destination);
  for (std::uint64_t at = 0; at < 4096; ++at) source.device.poke(0, at, 7);
  source.device.renewed = true;
  const PrecopyInfo info = *source.migration.precopy_info();
  EXPECT_FALSE(info.reinit);
  EXPECT_EQ(info.initial_bytes, 0U);
  EXPECT_GE(info.dirty_bytes, 4096U);
  move(source, destination);
  ASSERT_TRUE(source.go(StopCopy));
  move(source, destination);
  ASSERT_TRUE(destination.go(Running));
  expect_same_state(source, destination);
}

// PRE-INFO-V2: what an earlier stay would have been told is no news in the next, which begins with all of it.
TEST(PreCopyStates, a_stay_starts_without_news) {
  Rig rig(tracking_options());
  rig.device.renewed = true;
  ASSERT_TRUE(rig.go(PreCopy));
  EXPECT_FALSE(rig.migration.precopy_info_v2()->reinit);
}

TEST(PreCopyStates, what_changes_is_dirty_and_read_again) {
  Rig rig(tracking_options());
  ASSERT_TRUE(rig.go(PreCopy));
  rig.device.poke(0, 0, 1);
  EXPECT_GT(rig.migration.precopy_info()->dirty_bytes, 0U) << "grows with change, also before the first round is read";
  drain(rig.migration, pieces_of(13));
  EXPECT_EQ(rig.migration.precopy_info()->dirty_bytes, 0U);
  rig.device.poke(2, 999, 2);
  const PrecopyInfo info = *rig.migration.precopy_info();
  EXPECT_EQ(info.initial_bytes, 0U);
  EXPECT_GT(info.dirty_bytes, 0U);
  const Drained again = drain(rig.migration, pieces_of(13));
  EXPECT_EQ(again.end, StreamEnd::Temporary);
  EXPECT_GT(again.bytes.size(), 0U);
  ASSERT_TRUE(rig.go(PreCopyP2p));
  EXPECT_EQ(drain(rig.migration, pieces_of(13)).end, StreamEnd::Temporary);
}

TEST(PreCopyStates, says_empty_exactly_when_it_is_even_if_the_device_miscounts) {
  for (const std::uint64_t miscount : {0U, 5000U}) {
    Rig rig(tracking_options());
    rig.device.miscounted_dirty_bytes = miscount;
    ASSERT_TRUE(rig.go(PreCopy));
    drain(rig.migration, pieces_of(kWhole));
    EXPECT_EQ(rig.migration.precopy_info()->dirty_bytes, 0U);
    rig.device.poke(0, 1, 1);
    EXPECT_GT(rig.migration.precopy_info()->dirty_bytes, 0U);
    EXPECT_GT(drain(rig.migration, pieces_of(kWhole)).bytes.size(), 0U);
    EXPECT_EQ(rig.migration.precopy_info()->dirty_bytes, 0U);
  }
}

TEST(PreCopyStates, without_dirty_tracking_sends_the_identity_alone) {
  Rig rig({.memory_sizes = {4096}});
  ASSERT_TRUE(rig.go(PreCopy));
  const Drained drained = drain(rig.migration, pieces_of(kWhole));
  EXPECT_EQ(drained.end, StreamEnd::Temporary);
  EXPECT_GT(drained.bytes.size(), 0U);
  EXPECT_LT(drained.bytes.size(), 200U);
}

// DAT-SESSION: one for a stay in the saving group, however its states follow each other.
TEST(PreCopyStates, in_p2p_and_back_is_one_session) {
  Rig source(tracking_options());
  Rig destination(tracking_options());
  source.device.fill(8);
  ASSERT_TRUE(destination.go(Resuming));
  ASSERT_TRUE(source.go(PreCopyP2p));
  move(source, destination, 31);
  ASSERT_TRUE(source.go(PreCopy));
  source.device.poke(0, 65, 0xee);
  move(source, destination, 31);
  source.device.poke(0, 64, 0xdd);
  ASSERT_TRUE(source.go(StopCopy));
  EXPECT_EQ(move(source, destination, 31), StreamEnd::Final);
  ASSERT_TRUE(destination.go(Running));
  expect_same_state(source, destination);
}

// DAT-EARLY: pre-copy is left after each possible number of bytes, with changes before and after.
TEST(PreCopyStates, may_be_left_at_any_byte) {
  Rig reference(tracking_options());
  ASSERT_TRUE(reference.go(PreCopy));
  const std::size_t pre_copied = drain(reference.migration, pieces_of(kWhole)).bytes.size();
  for (const bool tracks : {true, false}) {
    for (std::size_t bytes = 0; bytes <= pre_copied; bytes += (bytes < 300 ? 1 : 37)) {
      SCOPED_TRACE(bytes);
      RecordingOptions options = tracking_options();
      options.tracks_dirty = tracks;
      Rig source(options);
      Rig destination(options);
      source.device.fill(4);
      source.device.value = "early";
      ASSERT_TRUE(destination.go(Resuming));
      ASSERT_TRUE(source.go(bytes % 2 == 0 ? PreCopy : PreCopyP2p));
      source.device.poke(0, 4095, 1);
      Bytes some(bytes);
      const Result<StreamRead> read = source.migration.read(some);
      ASSERT_TRUE(read);
      ASSERT_TRUE(destination.migration.write(std::span(some).first(read->size)));
      source.device.poke(0, 17, 2);
      source.device.poke(2, 500, 3);
      ASSERT_TRUE(source.go(StopCopy));
      EXPECT_EQ(move(source, destination), StreamEnd::Final);
      const Result<void> loaded = destination.go(Running);
      ASSERT_TRUE(loaded) << loaded.error().message;
      expect_same_state(source, destination);
    }
  }
}

// Any mixture of reading, dirtying and changing between the states of pre-copy arrives whole.
RC_GTEST_PROP(PreCopyProperty, any_course_of_events_arrives_whole, ()) {
  Rig source(tracking_options());
  Rig destination(tracking_options());
  source.device.fill(*rc::gen::arbitrary<std::uint8_t>());
  RC_ASSERT(destination.go(Resuming).has_value());
  RC_ASSERT(source.go(*rc::gen::element(PreCopy, PreCopyP2p)).has_value());
  const int events = *rc::gen::inRange(0, 60);
  for (int i = 0; i < events; ++i) {
    switch (*rc::gen::inRange(0, 3)) {
      case 0: {
        Bytes piece(*rc::gen::inRange<std::size_t>(0, 3000));
        const PrecopyInfo info = *source.migration.precopy_info();
        const StreamRead read = *source.migration.read(piece);
        const bool none = info.initial_bytes == 0 && info.dirty_bytes == 0;
        RC_ASSERT(none == (read.size == 0 && read.end == StreamEnd::Temporary));
        RC_ASSERT(destination.migration.write(std::span(piece).first(read.size)).has_value());
        break;
      }
      case 1:
        source.device.poke(0, *rc::gen::inRange<std::uint64_t>(0, 4096), *rc::gen::arbitrary<std::uint8_t>());
        source.device.poke(2, *rc::gen::inRange<std::uint64_t>(0, 1000), *rc::gen::arbitrary<std::uint8_t>());
        break;
      default:
        RC_ASSERT(source.go(*rc::gen::element(PreCopy, PreCopyP2p)).has_value());
    }
  }
  RC_ASSERT(source.go(StopCopy).has_value());
  const Drained rest = drain(source.migration, pieces_of(*rc::gen::inRange<std::size_t>(1, 5000)));
  RC_ASSERT(fill(destination.migration, rest.bytes, pieces_of(*rc::gen::inRange<std::size_t>(1, 5000))).has_value());
  RC_ASSERT(destination.go(Running).has_value());
  RC_ASSERT(source.device.memory(0) == destination.device.memory(0));
  RC_ASSERT(source.device.memory(2) == destination.device.memory(2));
}

TEST(PreCopyStates, a_save_that_fails_leaves_pre_copy_as_it_was) {
  Rig source(tracking_options());
  Rig destination(tracking_options());
  source.device.fill(6);
  ASSERT_TRUE(destination.go(Resuming));
  ASSERT_TRUE(source.go(PreCopyP2p));
  Bytes some(1234);
  ASSERT_TRUE(source.migration.read(some));
  ASSERT_TRUE(destination.migration.write(some));
  source.device.fails = {"save"};
  EXPECT_FALSE(source.go(StopCopy));
  EXPECT_EQ(source.migration.state(), PreCopyP2p);
  source.device.fails.clear();
  ASSERT_TRUE(source.go(PreCopy));
  source.device.poke(0, 5, 5);
  ASSERT_TRUE(source.go(StopCopy));
  move(source, destination);
  ASSERT_TRUE(destination.go(Running));
  expect_same_state(source, destination);
}

}  // namespace
}  // namespace gangway::test
