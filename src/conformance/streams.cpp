// Streams: cut into pieces of any size, moved from device to device, spoiled in every way.
#include <algorithm>
#include <random>

#include <fmt/core.h>

#include "conformance/steps.h"

namespace gangway::conformance {
namespace {

using enum DeviceState;

// Single bytes are a message each; beyond so much of them the time is better spent otherwise.
constexpr std::size_t kMostSingleBytes = 64U << 10;

bool loads(Subject& subject) {
  subject.choose({});
  return subject.set(Resuming) && subject.write_all() && subject.set(Running);
}

std::vector<std::size_t> piece_sizes(std::size_t stream, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<std::size_t> sizes{7, 4095, 1 + random() % 1000, 1 + random() % (stream + 1), 16U << 20};
  if (stream <= kMostSingleBytes) sizes.push_back(1);
  return sizes;
}

void reading_in_any_pieces(Context& c) {
  make_stream(c.device);
  const std::size_t size = c.device.good().size();
  for (const std::size_t piece : piece_sizes(size, c.settings.seed)) {
    go(c.device, StopCopy);
    const std::string expected = fmt::format("a stream that is read in pieces of {} is as good as any", piece);
    const StreamRead read = expect_answer("DAT-STREAM", c.device.read_all(piece), expected);
    expect("DAT-STREAM", read.end == StreamEnd::Final, expected, "it does not end");
    c.device.keep();
    go(c.device, Running);
    if (!c.device.set(Resuming)) throw Untestable{"RESUMING is not entered"};
    const bool whole = c.device.write_all() && c.device.set(Running);
    expect("DAT-STREAM", whole, expected, "it does not load");
  }
}

void writing_in_any_pieces(Context& c) {
  make_stream(c.device);
  for (const std::size_t piece : piece_sizes(c.device.good().size(), c.settings.seed)) {
    go(c.device, Resuming);
    c.device.choose({});
    const std::string expected = fmt::format("a stream that is written in pieces of {} loads", piece);
    expect_done("DAT-STREAM", c.device.write_all(piece), expected);
    expect_done("DAT-STREAM", c.device.set(Running), expected);
  }
}

void pre_copied_in_any_pieces(Context& c) {
  bool loads_at_all = false;
  for (const std::size_t piece : {Subject::kPiece, std::size_t{33}, std::size_t{1000}, std::size_t{16U << 20}}) {
    go(c.device, PreCopy);
    step(c.device.read_all(piece), "read all");
    go(c.device, StopCopy);
    step(c.device.read_all(piece), "read the rest");
    c.device.keep();
    go(c.device, Running);
    const bool loaded = loads(c.device);
    if (!loaded && !loads_at_all)
      throw Untestable{"a stream that was pre-copied does not load at all (see DAT-SESSION)"};
    loads_at_all = true;
    expect("DAT-STREAM", loaded, fmt::format("a stream pre-copied in pieces of {} loads", piece), "it does not");
  }
}

// What a save yields when nothing happened since the load: the same state, where the device can be compared at all.
void saved_loaded_saved_is_the_same(Context& c) {
  const auto workload = set_up_workload(c);
  step(c.device.perform("work",
                        [workload](DeviceHandle& device) -> Result<void> {
                          if (Result<void> kicked = workload->kick(device, 1); !kicked) return kicked;
                          return workload->await(device);
                        }),
       "work");
  go(c.device, Stop);
  save(c.device);
  const Bytes first = c.device.good();
  go(c.device, Stop);
  save(c.device);
  if (c.device.good() != first) throw Untestable{"two saves of this device need not be equal", false};
  go(c.device, Resuming);
  step(c.device.write_all(), "write all");
  go(c.device, Stop);
  save(c.device);
  expect("DAT-STREAM", c.device.good() == first, "a state that was loaded is the state that was saved",
         "another save of it differs");
}

// Onto a device that was used in between: nothing of that may be left.
void load_replaces_all_state(Context& c) {
  const auto workload = set_up_workload(c);
  go(c.device, Stop);
  save(c.device);
  const Bytes idle = c.device.good();
  go(c.device, Stop);
  save(c.device);
  if (c.device.good() != idle) throw Untestable{"two saves of this device need not be equal", false};
  go(c.device, Running);
  const bool changes = (c.abilities.have & kChange) != 0;
  step(c.device.perform("work",
                        [workload, changes](DeviceHandle& device) -> Result<void> {
                          if (Result<void> changed = changes ? workload->change(device, 3) : Result<void>{}; !changed)
                            return changed;
                          if (Result<void> kicked = workload->kick(device, 2); !kicked) return kicked;
                          return workload->await(device);
                        }),
       "work");
  go(c.device, Resuming);
  step(c.device.write_all(), "write all");
  go(c.device, Stop);
  save(c.device);
  expect("RST-NOT-REQUIRED", c.device.good() == idle, "a load clears what the device held before",
         "the state is not the one that was loaded");
}

// --- spoiled streams ---

std::vector<Variant> cuts(std::size_t size) {
  std::vector<Variant> all;
  for (const std::size_t at : {std::size_t{0}, std::size_t{1}, size / 4, size / 2, size - size / 8, size - 1}) {
    if (at < size) all.push_back({Variant::Kind::Cut, at});
  }
  for (std::size_t at = 4096; at < size && all.size() < 24;
       at += std::max<std::size_t>(4096, size / 16 / 4096 * 4096)) {
    all.push_back({Variant::Kind::Cut, at});
  }
  return all;
}

// After parts that the device gave as such, and not after all of it.
std::vector<Variant> cuts_at(const std::vector<std::size_t>& edges, std::size_t size) {
  constexpr std::size_t kMost = 24;
  const std::size_t apart = std::max<std::size_t>(1, edges.size() / kMost);
  std::vector<Variant> all;
  for (std::size_t i = 0; i < edges.size(); i += apart) {
    if (edges[i] < size) all.push_back({Variant::Kind::Cut, edges[i]});
  }
  return all;
}

std::vector<Variant> corruptions(std::size_t size, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<Variant> all{{Variant::Kind::Noise}, {Variant::Kind::Flip, 0}, {Variant::Kind::Flip, 8 * size - 1}};
  for (int i = 0; i < 24; ++i) all.push_back({Variant::Kind::Flip, random() % (8 * size)});
  for (int i = 0; i < 8; ++i) {
    const std::size_t half = std::max<std::size_t>(size / 4, 1);
    all.push_back({Variant::Kind::Swap, random() % half, 1 + random() % half});
    all.push_back({Variant::Kind::Omit, random() % size, 1 + random() % half});
  }
  return all;
}

std::vector<Variant> extensions() { return {{Variant::Kind::Extend, 1}, {Variant::Kind::Extend, 4096}}; }

// RESUMING must not be left by the stream, and a good one loads afterwards.
void expect_not_let_in(Context& c, const Variant& variant, const Bytes& good) {
  if (c.device.last_state() != Resuming) {
    if (!c.device.set(Resuming)) throw Untestable{"RESUMING is not entered"};
  }
  c.device.choose(variant);
  if (c.device.sending() == good) return;  // a swap of equal bytes
  (void)c.device.write_all();
  const Result<void> left = c.device.lost() ? Result<void>{} : c.device.set(Stop);
  const std::string expected = fmt::format("RESUMING to STOP fails for a stream of '{}'", to_text(variant));
  if (c.device.lost()) fail_clause("DAT-VALIDATE", expected, c.device.why_lost());
  expect_refused("DAT-VALIDATE", c.device, left, expected);
  if ((c.abilities.have & kReset) != 0) step(c.device.reset(), "reset");
}

void expect_none_let_in(Context& c, const std::vector<Variant>& variants) {
  make_stream(c.device);
  const Bytes good = c.device.good();
  for (const Variant& variant : variants) expect_not_let_in(c, variant, good);
  // What a refusal does to later loads is for RST-CLEARS; here it only has to be the stream that was refused.
  if (!loads(c.device)) throw Untestable{"a good stream does not load after the refused ones (see RST-CLEARS)"};
}

void empty_stream_is_refused(Context& c) { expect_none_let_in(c, {{Variant::Kind::Cut, 0}}); }

void truncated_stream_is_refused(Context& c) {
  make_stream(c.device);
  expect_none_let_in(c, cuts(c.device.good().size()));
}

// A driver reads back what it wrote, and may ask no more than whether each part is whole. A transport that fills every
// read shows no edge.
void stream_cut_between_its_reads_is_refused(Context& c) {
  make_stream(c.device);
  const std::vector<Variant> edges = cuts_at(c.device.good_edges(), c.device.good().size());
  if (edges.empty()) throw Untestable{"the device gives its stream in one part", false};
  expect_none_let_in(c, edges);
}

// The edge that a save with pre-copy has of its own: all that came before STOP_COPY and nothing of what came in it.
void stream_cut_where_pre_copy_ended_is_refused(Context& c) {
  go(c.device, PreCopy);
  step(c.device.read_all(), "read all");
  const std::size_t edge = c.device.received().size();
  go(c.device, StopCopy);
  step(c.device.read_all(), "read the rest");
  c.device.keep();
  go(c.device, Running);
  const Bytes good = c.device.good();
  if (edge == good.size()) throw Untestable{"nothing comes in STOP_COPY after pre-copy", false};
  if (!loads(c.device)) throw Untestable{"a stream that was pre-copied does not load at all (see DAT-SESSION)"};
  expect_not_let_in(c, {Variant::Kind::Cut, edge}, good);
  if (!loads(c.device)) throw Untestable{"a good stream does not load after the refused one (see RST-CLEARS)"};
}

void extended_stream_is_refused(Context& c) { expect_none_let_in(c, extensions()); }

// A device that was saved twice and is the same may be asked which state it loaded.
bool saves_alike(Subject& device) {
  go(device, Stop);
  save(device);
  const Bytes first = device.good();
  go(device, Stop);
  save(device);
  return device.good() == first;
}

// What was changed and let in all the same: is it a state of its own? Then the device saves what it was given, and
// nobody without a checksum could have told it from a stream that was saved; the kernel asks for no checksum.
bool is_a_state_of_its_own(Subject& device) {
  const Bytes given = device.sending();
  return device.set(StopCopy) && device.read_all() && device.received() == given;
}

void corrupted_stream_is_refused(Context& c) {
  make_stream(c.device);
  const bool alike = saves_alike(c.device);
  make_stream(c.device);
  const Bytes good = c.device.good();
  bool unsure = false;
  for (const Variant& variant : corruptions(good.size(), c.settings.seed)) {
    if (!c.device.set(Resuming)) throw Untestable{"RESUMING is not entered"};
    c.device.choose(variant);
    if (c.device.sending() == good) continue;  // a swap of equal bytes
    (void)c.device.write_all();
    const Result<void> left = c.device.lost() ? Result<void>{} : c.device.set(Stop);
    const std::string expected = fmt::format(
        "RESUMING to STOP fails for a stream of '{}', or what it loads is what is saved again", to_text(variant));
    if (c.device.lost()) fail_clause("DAT-VALIDATE", expected, c.device.why_lost());
    if (left && !alike) unsure = true;
    if (left && alike) {
      expect("DAT-VALIDATE", is_a_state_of_its_own(c.device), expected, "success, and what is saved again differs");
    }
    reset(c.device);
  }
  if (!loads(c.device)) throw Untestable{"a good stream does not load after the refused ones (see RST-CLEARS)"};
  if (unsure)
    throw Untestable{"some are let in, and no two saves of this device are equal to tell what they load", false};
}

void corruption_is_noticed(Context& c) {
  make_stream(c.device);
  std::mt19937_64 random(c.settings.seed);
  std::vector<Variant> flips;
  for (int i = 0; i < 8; ++i) flips.push_back({Variant::Kind::Flip, random() % (8 * c.device.good().size())});
  expect_none_let_in(c, flips);
}

// A write that was refused may have been taken all the same, whole or in part; then the good stream behind it is none.
// Where it was not taken, and the good one is, that one may load: nobody but the caller knows of the first.
void stream_with_a_failed_write_is_refused(Context& c) {
  constexpr std::size_t kPiece = 512;
  make_stream(c.device);
  const Bytes good = c.device.good();
  int refused = 0;
  for (const Variant& bad :
       {Variant{Variant::Kind::Noise}, Variant{Variant::Kind::Flip, 3}, Variant{Variant::Kind::Flip, 4 * good.size()},
        Variant{Variant::Kind::Flip, 8 * good.size() - 5}}) {
    go(c.device, Resuming);
    c.device.choose(bad);
    const Result<void> first = c.device.write(std::min(kPiece, good.size()));
    const Result<void> written = first ? c.device.write_all(kPiece) : first;
    if (c.device.lost()) throw Untestable{c.device.why_lost()};
    if (!written) {
      ++refused;
      c.device.choose({});
      const bool good_taken = c.device.write_all().has_value();
      const Result<void> left = c.device.set(Stop);
      if (first || !good_taken) {
        expect_refused(
            "DAT-VALIDATE", c.device, left,
            fmt::format("RESUMING to STOP fails when a write of '{}' failed before a good stream", to_text(bad)));
      }
    }
    reset(c.device);
  }
  if (refused == 0) throw Untestable{"the device refuses no write", false};
}

void wrong_destination_is_refused_early(Context& c) {
  make_stream(c.device);
  Bytes foreign = c.device.good();
  if (foreign.size() < 32) throw Untestable{"the stream is too short to tell its beginning from the rest", false};
  // As that of another device begins: what says whose state it is differs.
  for (std::size_t i = 0; i < 16; ++i) foreign[i] ^= std::byte{0xff};
  go(c.device, Resuming);
  c.device.give(foreign);
  const Result<void> written = c.device.write_all(64);
  expect_refused("DAT-IDENTITY", c.device, written,
                 "a stream that begins as no stream of the device does is refused by a write");
}

// --- from device to device ---

// Saves on one, loads on the other.
void move(Context& c, Subject& from, Subject& to, std::string_view what) {
  save(from);
  to.give(from.good());
  const std::string expected = fmt::format("{}: the other device loads", what);
  expect_done("FSM-REPEAT", to.set(Resuming), expected);
  expect_done("FSM-REPEAT", to.write_all(), expected);
  expect_done("FSM-REPEAT", to.set(Running), expected);
  expect_done("FSM-REPEAT", from.set(Running), fmt::format("{}: the source runs again", what));
  (void)c;
}

void there_and_back(Context& c) {
  for (int i = 0; i < 3; ++i) {
    move(c, c.device, *c.peer, "to the peer");
    move(c, *c.peer, c.device, "back from the peer");
  }
}

// With one device alone: what was loaded is saved, loaded and saved again.
void source_becomes_destination_and_source(Context& c) {
  for (int i = 0; i < 3; ++i) {
    save(c.device);
    const std::string expected = fmt::format("a device that saved loads, and saves again ({})", i + 1);
    expect_done("FSM-REPEAT", c.device.set(Resuming), expected);
    c.device.choose({});
    expect_done("FSM-REPEAT", c.device.write_all(), expected);
    expect_done("FSM-REPEAT", c.device.set(i % 2 == 0 ? Stop : Running), expected);
  }
}

}  // namespace

std::vector<Test> stream_tests() {
  return {
      {"reading_in_any_pieces", {"DAT-STREAM"}, kMigration, reading_in_any_pieces},
      {"writing_in_any_pieces", {"DAT-STREAM"}, kMigration, writing_in_any_pieces},
      {"pre_copied_in_any_pieces", {"DAT-STREAM"}, kMigration | kPreCopy, pre_copied_in_any_pieces},
      {"saved_loaded_saved_is_the_same", {"DAT-STREAM"}, kMigration | kWorkload, saved_loaded_saved_is_the_same},
      {"load_replaces_all_state", {"RST-NOT-REQUIRED"}, kMigration | kWorkload, load_replaces_all_state},
      {"empty_stream_is_refused", {"DAT-VALIDATE"}, kMigration | kReset, empty_stream_is_refused},
      {"truncated_stream_is_refused", {"DAT-VALIDATE"}, kMigration | kReset, truncated_stream_is_refused},
      {"stream_cut_between_its_reads_is_refused",
       {"DAT-VALIDATE"},
       kMigration | kReset,
       stream_cut_between_its_reads_is_refused},
      {"stream_cut_where_pre_copy_ended_is_refused",
       {"DAT-VALIDATE"},
       kMigration | kPreCopy | kReset,
       stream_cut_where_pre_copy_ended_is_refused},
      {"extended_stream_is_refused", {"DAT-VALIDATE"}, kMigration | kReset, extended_stream_is_refused},
      {"corrupted_stream_is_refused", {"DAT-VALIDATE"}, kMigration | kReset, corrupted_stream_is_refused},
      {"corruption_is_noticed", {"DAT-VALIDATE"}, kMigration | kReset, corruption_is_noticed, Level::Should},
      {"stream_with_a_failed_write_is_refused",
       {"DAT-VALIDATE"},
       kMigration | kReset,
       stream_with_a_failed_write_is_refused},
      {"wrong_destination_is_refused_early",
       {"DAT-IDENTITY"},
       kMigration | kReset,
       wrong_destination_is_refused_early,
       Level::Should},
      {"source_becomes_destination_and_source", {"FSM-REPEAT"}, kMigration, source_becomes_destination_and_source},
      {"there_and_back", {"FSM-REPEAT"}, kMigration | kPeer, there_and_back},
  };
}

}  // namespace gangway::conformance
