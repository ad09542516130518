// Acts on the state machine, resets, data sessions, streams and pre-copy.
#include "integration/faulty/acts.h"

namespace gangway::faulty {
namespace {

using enum DeviceState;

Bytes flipped(Bytes stream, std::size_t at) {
  stream[at] ^= std::byte{0x40};
  return stream;
}

// Writes as much as is taken.
void offer(Bench& bench, std::span<const std::byte> stream) {
  bench.go(Resuming);
  if (!stream.empty()) std::ignore = bench.device().write_data(stream);
}

void blocked(Bench& bench) {
  bench.go(StopCopy);
  refused(bench.device().set_state(PreCopy), "STOP_COPY to PRE_COPY");
  right(bench.is_in(StopCopy), "the state changed");
}

void temporary_end(Bench& bench) {
  bench.go(PreCopy);
  std::ignore = bench.read_all();
  const StreamRead end = bench.read_once();
  right(end.size == 0 && end.end == StreamEnd::Temporary, "no temporary end");
}

void final_end(Bench& bench) {
  std::ignore = bench.save();
  for (int i = 0; i < 3; ++i) {
    const StreamRead end = bench.read_once();
    right(end.size == 0 && end.end == StreamEnd::Final, "no end");
  }
}

void short_reads(Bench& bench) {
  const Bytes whole = bench.save();
  bench.go(Stop);
  bench.go(StopCopy);
  right(bench.read_all(1000) == whole, "short reads bring another stream");
}

void no_load(Bench& bench, const Bytes& stream) {
  offer(bench, stream);
  refused(bench.device().set_state(Stop), "RESUMING to STOP");
}

PrecopyInfo info(Bench& bench) { return need(bench.device().precopy_info(), "pre-copy information"); }

}  // namespace

Acts migration_acts() {
  return {
      // FSM-*
      {"same_state_refused", [](Bench& b) { b.go(Running); }},
      {"resuming_from_stop_only", [](Bench& b) { b.go(Resuming); }},
      {"p2p_refused_from_stop",
       [](Bench& b) {
         b.go(Stop);
         b.go(RunningP2p);
       }},
      {"combination_through_running",
       [](Bench& b) {
         b.start_job(0, 0);
         b.await_pieces(1);
         b.go(Stop);
         const std::uint64_t done = b.get64(kDmaDone);
         b.go(StopCopy);
         right(b.get64(kDmaDone) == done, "the device ran on the way");
       }},
      {"refused_pair_accepted", blocked},
      {"refused_pair_hangs", blocked},
      {"refused_pair_stops_device", blocked},
      {"error_state_accepted", [](Bench& b) { refused(b.device().set_state_number(0), "ERROR"); }},
      {"unknown_state_accepted", [](Bench& b) { refused(b.device().set_state_number(8), "state 8"); }},
      {"unadvertised_state_accepted",
       [](Bench& b) {
         refused(b.device().set_state(RunningP2p), "RUNNING_P2P");
         refused(b.device().set_state(PreCopy), "PRE_COPY");
       }},
      {"invalid_request_poisons",
       [](Bench& b) {
         refused(b.device().set_state_number(9), "state 9");
         b.go(Stop);
       }},
      {"refused_set_ends_session",
       [](Bench& b) {
         b.go(StopCopy);
         refused(b.device().set_state_number(9), "state 9");
         right(b.read_once().size != 0, "no data");
       }},
      {"state_reported_late",
       [](Bench& b) {
         b.go(Stop);
         right(b.is_in(Stop), "not in STOP");
       }},
      {"leaving_stop_copy_hangs",
       [](Bench& b) {
         b.go(StopCopy);
         b.go(Stop);
       }},
      {"refused_load_starts_device",
       [](Bench& b) {
         b.go(Resuming);
         refused(b.device().set_state(Stop), "RESUMING to STOP without a stream");
         right(!b.is_in(Running), "the device runs");
       }},
      {"stops_at_end_of_stream",
       [](Bench& b) {
         std::ignore = b.save();
         std::ignore = b.read_once();
         right(b.is_in(StopCopy), "not in STOP_COPY");
       }},
      {"second_migration_fails",
       [](Bench& b) {
         b.go(PreCopy);
         b.go(Running);
         b.go(PreCopy);
       }},
      {"half_read_save_blocks_next",
       [](Bench& b) {
         b.go(StopCopy);
         std::ignore = b.read_once();
         b.go(Running);
         b.go(StopCopy);
       }},
      {"source_cannot_become_destination",
       [](Bench& b) {
         std::ignore = b.save();
         need(b.device().reset(), "reset");
         b.go(Resuming);
       }},
      // RST-*
      {"resuming_needs_reset", [](Bench& b) { b.load(b.save()); }},
      {"resuming_refused_after_reset",
       [](Bench& b) {
         need(b.device().reset(), "reset");
         b.go(Resuming);
       }},
      {"load_merges_with_old_state",
       [](Bench& b) {
         const Bytes stream = b.save();
         b.go(Running);
         b.set64(kScratch, 5);
         b.load(stream);
         right(b.get64(kScratch) == 0, "a register kept what it held");
       }},
      {"reset_refused_in_resuming",
       [](Bench& b) {
         b.go(Resuming);
         need(b.device().reset(), "reset");
       }},
      {"reset_keeps_state",
       [](Bench& b) {
         b.go(Stop);
         need(b.device().reset(), "reset");
         right(b.is_in(Running), "not RUNNING after a reset");
       }},
      {"reset_hangs_after_refused_set",
       [](Bench& b) {
         refused(b.device().set_state_number(9), "state 9");
         need(b.device().reset(), "reset");
       }},
      {"session_survives_reset",
       [](Bench& b) {
         b.go(StopCopy);
         need(b.device().reset(), "reset");
         Bytes room(16);
         refused(b.device().read_data(room), "a read after the reset");
       }},
      {"half_load_survives_reset",
       [](Bench& b) {
         const Bytes stream = b.save();
         offer(b, std::span(stream).first(stream.size() / 2));
         need(b.device().reset(), "reset");
         b.load(stream);
       }},
      {"verdict_survives_reset",
       [](Bench& b) {
         const Bytes stream = b.save();
         offer(b, flipped(stream, 0));
         need(b.device().reset(), "reset");
         b.load(stream);
       }},
      // DAT-*
      {"stop_copy_starts_anew",
       [](Bench& b) {
         b.go(PreCopy);
         Bytes stream = b.read_all();
         b.go(StopCopy);
         const Bytes rest = b.read_all();
         stream.insert(stream.end(), rest.begin(), rest.end());
         b.load(stream);
       }},
      {"stop_copy_end_is_enomsg", final_end},
      {"stream_starts_over", final_end},
      {"temporary_end_is_zero", temporary_end},
      {"temporary_end_hangs", temporary_end},
      {"precopy_must_be_drained",
       [](Bench& b) {
         b.go(PreCopy);
         b.go(Running);
       }},
      {"write_while_saving_accepted",
       [](Bench& b) {
         b.go(StopCopy);
         refused(b.device().write_data(Bytes(16)), "a write while saving");
       }},
      {"read_in_resuming_is_end",
       [](Bench& b) {
         b.go(Resuming);
         Bytes room(16);
         refused(b.device().read_data(room), "a read in RESUMING");
       }},
      {"data_size_while_saving_only",
       [](Bench& b) { right(need(b.device().data_size(), "data size") >= kMemorySize, "the size is too small"); }},
      {"data_size_in_pages",
       [](Bench& b) {
         b.go(StopCopy);
         right(need(b.device().data_size(), "data size") >= kMemorySize, "the size is too small");
       }},
      {"short_reads_lose_rest", short_reads},
      {"short_reads_repeat", short_reads},
      {"short_writes_overwrite",
       [](Bench& b) {
         const Bytes stream = b.save();
         b.go(Resuming);
         b.write(stream, 1000);
         b.go(Stop);
       }},
      {"long_reads_fall_short",
       [](Bench& b) {
         b.go(StopCopy);
         right(b.read_once(1U << 20).size > kMemorySize, "a read ended before the stream");
       }},
      {"empty_stream_accepted", [](Bench& b) { no_load(b, {}); }},
      {"truncated_stream_accepted",
       [](Bench& b) {
         Bytes stream = b.save();
         stream.resize(stream.size() / 2);
         no_load(b, stream);
       }},
      {"corrupted_stream_accepted",
       [](Bench& b) {
         const Bytes stream = b.save();
         no_load(b, flipped(stream, stream.size() / 2));
       }},
      {"trailing_bytes_ignored",
       [](Bench& b) {
         Bytes stream = b.save();
         stream.resize(stream.size() + 16);
         no_load(b, stream);
       }},
      {"refused_write_forgotten", [](Bench& b) { no_load(b, flipped(b.save(), 0)); }},
      {"good_verdict_kept",
       [](Bench& b) {
         const Bytes stream = b.save();
         b.load(stream);
         need(b.device().reset(), "reset");
         no_load(b, flipped(stream, 0));
       }},
      {"foreign_stream_accepted", [](Bench& b) { no_load(b, flipped(b.save(), 0)); }},
      // PRE-INFO-*
      {"precopy_info_in_every_state", [](Bench& b) { refused(b.device().precopy_info(), "outside pre-copy"); }},
      {"initial_bytes_zero",
       [](Bench& b) {
         b.go(PreCopy);
         right(info(b).initial_bytes != 0, "no initial bytes");
       }},
      {"initial_bytes_never_fall",
       [](Bench& b) {
         b.go(PreCopy);
         const std::uint64_t before = info(b).initial_bytes;
         std::ignore = b.read_all();
         right(info(b).initial_bytes < before, "initial_bytes did not fall");
       }},
      {"dirty_bytes_never_fall",
       [](Bench& b) {
         b.go(PreCopy);
         std::ignore = b.read_all();
         b.set<std::uint64_t>(kMemory, 0, 1);
         right(info(b).dirty_bytes != 0, "dirty_bytes did not grow");
         std::ignore = b.read_all();
         right(info(b).dirty_bytes == 0, "dirty_bytes did not fall");
       }},
      {"dirty_bytes_from_start",
       [](Bench& b) {
         b.go(PreCopy);
         right(info(b).dirty_bytes == 0, "dirty_bytes does not start at 0");
       }},
      {"info_empty_with_data_left",
       [](Bench& b) {
         b.go(PreCopy);
         std::ignore = b.read_once();
         const PrecopyInfo left = info(b);
         right(left.initial_bytes + left.dirty_bytes != 0, "nothing is left, and more comes");
       }},
      {"precopy_reinit_always",
       [](Bench& b) {
         need(b.device().feature_set(Feature::MigPrecopyInfoV2, {}), "opt in");
         b.go(PreCopy);
         right(!info(b).reinit, "new initial data announced at the start");
       }},
  };
}

}  // namespace gangway::faulty
