// The stream as a client carries it: any pieces, and every kind of damage. Clauses DAT-STREAM, DAT-VALIDATE,
// DAT-IDENTITY, RST-ABORTS.
#include <cstring>
#include <string>

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "unit/device/recording_device.h"
#include "unit/device/stream_ops.h"

namespace gangway::test {
namespace {

using enum DeviceState;

RecordingOptions small_options() { return {.memory_sizes = {40, 0, 3}}; }

// A stream of a few hundred bytes with every kind of section.
Bytes saved_stream(const RecordingOptions& options = small_options()) {
  Rig source(options);
  source.device.value = "forty-two";
  source.device.extra_sections = {{"empty", {}}};
  source.device.fill(1);
  source.interrupts.trigger(IrqType::Msix, 5);
  EXPECT_TRUE(source.go(StopCopy));
  return drain(source.migration, pieces_of(kWhole)).bytes;
}

// Says why a load was refused; empty when it was not.
std::string refusal_of(Rig& destination, std::span<const std::byte> stream,
                       const PieceSizes& sizes = pieces_of(kWhole)) {
  EXPECT_TRUE(destination.go(Resuming));
  const Result<void> written = fill(destination.migration, stream, sizes);
  const Result<void> stopped = destination.go(Stop);
  if (!written) {
    EXPECT_FALSE(stopped) << "DAT-VALIDATE: a write failed, so RESUMING to STOP must: " << written.error().message;
  }
  if (stopped) return {};
  EXPECT_EQ(destination.migration.state(), Resuming) << "RST-ABORTS";
  return stopped.error().message;
}

void expect_loads(Rig& destination, std::span<const std::byte> stream) {
  EXPECT_EQ(refusal_of(destination, stream), "");
  EXPECT_EQ(destination.device.value, "forty-two");
}

// Refused, and afterwards a good stream still loads.
void expect_refused(Rig& destination, std::span<const std::byte> stream, std::span<const std::byte> good) {
  EXPECT_NE(refusal_of(destination, stream), "");
  EXPECT_EQ(destination.device.value, "") << "a refused load leaves the device cleared";
  EXPECT_TRUE(destination.migration.reset());
  expect_loads(destination, good);
}

struct Span {
  std::size_t begin;
  std::size_t end;
};
// Where the preamble and each section lie, found as docs/state-stream.md says.
std::vector<Span> parts_of(std::span<const std::byte> stream) {
  const auto number = [&](std::size_t at, std::size_t size) {
    std::uint64_t value = 0;
    std::memcpy(&value, stream.data() + at, size);
    return value;
  };
  std::vector<Span> parts{{0, 24 + number(20, 4) + 8}};
  while (parts.back().end < stream.size()) {
    const std::size_t begin = parts.back().end;
    parts.push_back({begin, begin + 32 + number(begin + 4, 4) + number(begin + 24, 8) + 8});
  }
  return parts;
}

Bytes joined(std::span<const std::byte> stream, const std::vector<Span>& parts) {
  Bytes bytes;
  for (const Span part : parts) {
    bytes.insert(bytes.end(), stream.begin() + static_cast<std::ptrdiff_t>(part.begin),
                 stream.begin() + static_cast<std::ptrdiff_t>(part.end));
  }
  return bytes;
}

TEST(StateStream, round_trips) {
  Rig destination(small_options());
  expect_loads(destination, saved_stream());
  RecordingDevice expected(small_options());
  expected.fill(1);
  EXPECT_EQ(destination.device.memory(0), expected.memory(0));
  EXPECT_EQ(destination.device.memory(2), expected.memory(2));
  EXPECT_TRUE(destination.interrupts.pending(IrqType::Msix)[5]);
  EXPECT_EQ(destination.device.loaded_version, 3U);
}

TEST(StateStream, has_the_layout_of_its_documentation) {
  const Bytes stream = saved_stream();
  const std::vector<Span> parts = parts_of(stream);
  ASSERT_EQ(parts.back().end, stream.size());
  // Preamble; gangway.memory, memory0, memory2, gangway.interrupts, value, empty, end.
  EXPECT_EQ(parts.size(), 8U);
  EXPECT_EQ(std::memcmp(stream.data(), "GWSTATE\n", 8), 0);
  EXPECT_EQ(std::memcmp(stream.data() + 24, "recording", 9), 0);
}

TEST(StateStream, pieces_of_any_size_read_the_same) {
  const RecordingOptions options{.memory_sizes = {3'000'000, 70'000, 5}};
  Rig source(options);
  source.device.value = std::string(200'000, 'v');
  source.device.fill(9);
  const auto stream_in = [&](const auto& read, const PieceSizes& sizes) {
    EXPECT_TRUE(source.go(Running));
    EXPECT_TRUE(source.go(StopCopy));
    const Drained drained = read(source.migration, sizes);
    EXPECT_EQ(drained.end, StreamEnd::Final);
    return drained.bytes;
  };
  const Bytes whole = stream_in(drain, pieces_of(std::size_t{1} << 26));
  ASSERT_GT(whole.size(), 3'270'005U);
  for (const std::size_t size :
       {std::size_t{1}, std::size_t{7}, std::size_t{4096}, std::size_t{65'537}, std::size_t{1} << 20}) {
    EXPECT_TRUE(stream_in(drain, pieces_of(size)) == whole) << "read in pieces of " << size;
    EXPECT_TRUE(stream_in(drain_views, pieces_of(size)) == whole) << "viewed in pieces of " << size;
  }
}

TEST(StateStream, large_memory_is_viewed_where_it_lies) {
  Rig source(RecordingOptions{.memory_sizes = {8U << 20}});
  ASSERT_TRUE(source.go(StopCopy));
  std::size_t in_place = 0;
  std::size_t most_parts = 0;
  const std::span<const std::byte> memory = source.device.memory(0);
  for (StreamEnd end = StreamEnd::More; end == StreamEnd::More;) {
    const Result<StreamView> view = source.migration.read_view(1U << 20);
    ASSERT_TRUE(view);
    end = view->end;
    most_parts = std::max(most_parts, view->parts.size());
    for (const std::span<const std::byte> part : view->parts) {
      if (part.data() >= memory.data() && part.data() < memory.data() + memory.size()) in_place += part.size();
    }
  }
  EXPECT_EQ(in_place, memory.size());
  EXPECT_LE(most_parts, 3U);
}

RC_GTEST_PROP(StateStream, random_pieces_read_and_load_the_same, ()) {
  const Bytes whole = saved_stream();
  Rig source(small_options());
  source.device.value = "forty-two";
  source.device.extra_sections = {{"empty", {}}};
  source.device.fill(1);
  source.interrupts.trigger(IrqType::Msix, 5);
  const auto random_size = [] { return static_cast<std::size_t>(*rc::gen::inRange(1, 200)); };
  RC_ASSERT(source.go(StopCopy).has_value());
  RC_ASSERT(drain(source.migration, random_size).bytes == whole);
  Rig destination(small_options());
  RC_ASSERT(refusal_of(destination, whole, random_size).empty());
  RC_ASSERT(destination.device.value == "forty-two");
}

TEST(StateStream, loads_byte_by_byte) {
  Rig destination(small_options());
  EXPECT_EQ(refusal_of(destination, saved_stream(), pieces_of(1)), "");
  EXPECT_EQ(destination.device.value, "forty-two");
}

TEST(StateStream, writing_nothing_is_no_harm) {
  Rig destination(small_options());
  ASSERT_TRUE(destination.go(Resuming));
  EXPECT_TRUE(destination.migration.write({}));
  EXPECT_TRUE(destination.migration.write(saved_stream()));
  EXPECT_TRUE(destination.migration.write({}));
  EXPECT_TRUE(destination.go(Stop));
}

TEST(StateStream, truncated_at_any_byte_is_refused) {
  const Bytes good = saved_stream();
  Rig destination(small_options());
  for (std::size_t size = 0; size < good.size(); ++size) {
    SCOPED_TRACE(size);
    expect_refused(destination, std::span(good).first(size), good);
  }
}

TEST(StateStream, with_any_bit_flipped_is_refused) {
  const Bytes good = saved_stream();
  Rig destination(small_options());
  for (std::size_t bit = 0; bit < good.size() * 8; ++bit) {
    SCOPED_TRACE(bit);
    Bytes flipped = good;
    flipped[bit / 8] ^= std::byte{1} << (bit % 8);
    expect_refused(destination, flipped, good);
  }
}

TEST(StateStream, with_any_byte_missing_or_doubled_is_refused) {
  const Bytes good = saved_stream();
  Rig destination(small_options());
  for (std::size_t at = 0; at < good.size(); ++at) {
    SCOPED_TRACE(at);
    Bytes missing = good;
    missing.erase(missing.begin() + static_cast<std::ptrdiff_t>(at));
    expect_refused(destination, missing, good);
    Bytes doubled = good;
    doubled.insert(doubled.begin() + static_cast<std::ptrdiff_t>(at), good[at]);
    expect_refused(destination, doubled, good);
  }
}

TEST(StateStream, with_sections_swapped_repeated_or_left_out_is_refused) {
  const Bytes good = saved_stream();
  const std::vector<Span> parts = parts_of(good);
  Rig destination(small_options());
  for (std::size_t a = 0; a < parts.size(); ++a) {
    SCOPED_TRACE(a);
    std::vector<Span> fewer = parts;
    fewer.erase(fewer.begin() + static_cast<std::ptrdiff_t>(a));
    expect_refused(destination, joined(good, fewer), good);
    for (std::size_t b = 0; b <= parts.size(); ++b) {
      SCOPED_TRACE(b);
      std::vector<Span> repeated = parts;
      repeated.insert(repeated.begin() + static_cast<std::ptrdiff_t>(b), parts[a]);
      expect_refused(destination, joined(good, repeated), good);
      if (b == parts.size() || b == a) continue;
      std::vector<Span> swapped = parts;
      std::swap(swapped[a], swapped[b]);
      expect_refused(destination, joined(good, swapped), good);
    }
  }
}

TEST(StateStream, with_a_section_of_another_stream_is_refused) {
  const Bytes good = saved_stream();
  Rig source(small_options());
  source.device.value = "forty-two";
  source.device.extra_sections = {{"empty", {}}};
  source.device.fill(2);  // other memory, same sizes
  ASSERT_TRUE(source.go(StopCopy));
  const Bytes other = drain(source.migration, pieces_of(kWhole)).bytes;
  ASSERT_EQ(other.size(), good.size());
  Rig destination(small_options());
  // The preamble and the list of memories are equal in both; every later section depends on what differs.
  const std::vector<Span> parts = parts_of(good);
  for (std::size_t i = 2; i < parts.size(); ++i) {
    SCOPED_TRACE(i);
    Bytes mixed = good;
    std::copy(other.begin() + static_cast<std::ptrdiff_t>(parts[i].begin),
              other.begin() + static_cast<std::ptrdiff_t>(parts[i].end),
              mixed.begin() + static_cast<std::ptrdiff_t>(parts[i].begin));
    expect_refused(destination, mixed, good);
  }
}

TEST(StateStream, extended_is_refused) {
  const Bytes good = saved_stream();
  Rig destination(small_options());
  Bytes longer = good;
  longer.push_back(std::byte{0});
  expect_refused(destination, longer, good);
  Bytes twice = good;
  twice.insert(twice.end(), good.begin(), good.end());
  expect_refused(destination, twice, good);
}

TEST(StateStream, noise_is_refused_at_once) {
  Rig destination(small_options());
  ASSERT_TRUE(destination.go(Resuming));
  const Bytes noise(64, std::byte{0x5a});
  const Result<void> written = destination.migration.write(noise);
  ASSERT_FALSE(written);
  EXPECT_NE(written.error().message.find("no gangway state stream"), std::string::npos) << written.error().message;
}

TEST(StateStream, a_refusal_lasts_until_a_reset) {
  const Bytes good = saved_stream();
  Rig destination(small_options());
  ASSERT_TRUE(destination.go(Resuming));
  Bytes bad = good;
  bad[60] ^= std::byte{1};
  const Result<void> first = destination.migration.write(bad);
  ASSERT_FALSE(first);
  const Result<void> second = destination.migration.write(good);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().message, first.error().message);
  for (int i = 0; i < 2; ++i) {
    const Result<void> stopped = destination.go(Stop);
    ASSERT_FALSE(stopped);
    EXPECT_NE(stopped.error().message.find(first.error().message), std::string::npos);
    EXPECT_FALSE(destination.go(Running));
    EXPECT_EQ(destination.migration.state(), Resuming);
  }
  ASSERT_TRUE(destination.migration.reset());
  expect_loads(destination, good);
}

// Loads a stream as a transport does that receives in place wherever it may.
Result<void> land(Migration& migration, std::span<const std::byte> stream, std::size_t piece) {
  while (!stream.empty()) {
    const std::size_t size = std::min(piece, stream.size());
    const Result<std::span<std::byte>> place = migration.landing(size);
    if (!place) return std::unexpected(place.error());
    const std::size_t taken = place->empty() ? size : place->size();
    std::ranges::copy(stream.first(place->size()), place->begin());
    if (Result<void> done = place->empty() ? migration.write(stream.first(size)) : migration.landed(taken); !done) {
      return done;
    }
    stream = stream.subspan(taken);
  }
  return {};
}

TEST(StateStream, received_in_place_loads_the_same) {
  const RecordingOptions options{.memory_sizes = {300'000, 0, 5}};
  Rig source(options);
  source.device.fill(3);
  ASSERT_TRUE(source.go(StopCopy));
  const Bytes stream = drain(source.migration, pieces_of(kWhole)).bytes;
  for (const std::size_t piece : {std::size_t{1}, std::size_t{50}, std::size_t{4096}, stream.size()}) {
    Rig destination(options);
    ASSERT_TRUE(destination.go(Resuming));
    ASSERT_TRUE(land(destination.migration, stream, piece));
    ASSERT_TRUE(destination.go(Stop));
    EXPECT_TRUE(destination.device.memory(0) == source.device.memory(0));
    EXPECT_FALSE(destination.migration.landing(1)) << "DAT-DIRECTION";
  }
  Bytes damaged = stream;
  damaged[damaged.size() / 2] ^= std::byte{1};
  Rig destination(options);
  ASSERT_TRUE(destination.go(Resuming));
  EXPECT_FALSE(land(destination.migration, damaged, 4096));
  EXPECT_FALSE(destination.migration.landing(1)) << "the refusal is remembered";
  EXPECT_FALSE(destination.go(Stop));
}

TEST(StateStream, more_landed_than_belongs_is_refused) {
  Rig destination(small_options());
  ASSERT_TRUE(destination.go(Resuming));
  EXPECT_TRUE(destination.migration.landing(10)->empty()) << "the preamble is no memory";
  EXPECT_TRUE(destination.migration.landed(0));
  EXPECT_FALSE(destination.migration.landed(1));
  EXPECT_FALSE(destination.go(Stop));
}

TEST(StateStream, a_write_that_the_front_end_refused_refuses_the_load) {
  Rig destination(small_options());
  ASSERT_TRUE(destination.go(Resuming));
  destination.migration.refuse_load({EINVAL, "message too short", "DAT-VALIDATE"});
  EXPECT_FALSE(destination.migration.write(saved_stream()));
  const Result<void> stopped = destination.go(Stop);
  ASSERT_FALSE(stopped);
  EXPECT_NE(stopped.error().message.find("message too short"), std::string::npos);
}

// --- identity (DAT-IDENTITY) ---

std::string refusal_by(RecordingOptions options) {
  Rig destination(std::move(options));
  return refusal_of(destination, saved_stream());
}

TEST(StateStreamIdentity, another_device_type_is_refused_with_both_names) {
  RecordingOptions options = small_options();
  options.identity.device_type = "other";
  const std::string why = refusal_by(options);
  EXPECT_NE(why.find("'recording'"), std::string::npos) << why;
  EXPECT_NE(why.find("'other'"), std::string::npos) << why;
}

TEST(StateStreamIdentity, a_newer_model_loads_where_it_says_so) {
  RecordingOptions options = small_options();
  options.identity.model_version = 2;  // the stream: version 3, compatible with 2
  options.identity.compatible_with = 1;
  EXPECT_EQ(refusal_by(options), "");
  options.identity.model_version = 9;
  EXPECT_EQ(refusal_by(options), "") << "a newer device loads an older stream";
}

TEST(StateStreamIdentity, a_newer_model_is_refused_elsewhere_with_both_versions) {
  RecordingOptions options = small_options();
  options.identity.model_version = 1;
  options.identity.compatible_with = 1;
  const std::string why = refusal_by(options);
  EXPECT_NE(why.find("model version 3"), std::string::npos) << why;
  EXPECT_NE(why.find("of 1"), std::string::npos) << why;
}

TEST(StateStreamIdentity, is_complete_in_the_first_bytes) {
  RecordingOptions options = small_options();
  options.identity.device_type = "other";
  Rig destination(options);
  ASSERT_TRUE(destination.go(Resuming));
  const Bytes stream = saved_stream();
  const std::size_t preamble = parts_of(stream).front().end;
  for (std::size_t at = 0; at + 1 < preamble; ++at) {
    EXPECT_TRUE(destination.migration.write(std::span(stream).subspan(at, 1))) << at;
  }
  const Result<void> last = destination.migration.write(std::span(stream).subspan(preamble - 1, 1));
  ASSERT_FALSE(last) << "a wrong destination is refused by the write that completes the preamble";
  EXPECT_EQ(last.error().clause, "DAT-IDENTITY");
}

TEST(StateStreamIdentity, other_memory_is_refused_before_it_is_sent) {
  for (const std::vector<std::size_t>& sizes :
       std::vector<std::vector<std::size_t>>{{40, 0, 4}, {40, 0}, {40, 0, 3, 1}, {}}) {
    Rig destination(RecordingOptions{.memory_sizes = sizes});
    ASSERT_TRUE(destination.go(Resuming));
    const Bytes stream = saved_stream();
    const Result<void> written = destination.migration.write(std::span(stream).first(parts_of(stream)[1].end));
    ASSERT_FALSE(written);
    EXPECT_EQ(written.error().clause, "DAT-IDENTITY");
  }
}

TEST(StateStreamIdentity, what_a_device_requires_is_refused_in_pre_copy_before_any_memory) {
  RecordingOptions options = small_options();
  options.tracks_dirty = true;
  Rig source(options);
  source.device.requirements = {{"size", Bytes(1, std::byte{4})}};
  ASSERT_TRUE(source.go(PreCopy));
  const Bytes stream = drain(source.migration, pieces_of(kWhole)).bytes;
  const std::vector<Span> parts = parts_of(stream);
  ASSERT_GT(parts.size(), 3U) << "preamble, list of memories, requirement, memory";

  Rig same(options);
  same.device.requirements = source.device.requirements;
  ASSERT_TRUE(same.go(Resuming));
  EXPECT_TRUE(same.migration.write(stream));

  Rig other(options);
  other.device.requirements = {{"size", Bytes(1, std::byte{5})}};
  ASSERT_TRUE(other.go(Resuming));
  EXPECT_TRUE(other.migration.write(std::span(stream).first(parts[2].end - 1)));
  const Result<void> refused = other.migration.write(std::span(stream).subspan(parts[2].end - 1, 1));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().clause, "DAT-IDENTITY");
  EXPECT_NE(refused.error().message.find("'size': another size"), std::string::npos) << refused.error().message;
  EXPECT_FALSE(other.go(Stop));
}

TEST(StateStreamIdentity, a_device_that_knows_no_such_requirement_loads) {
  Rig source(small_options());
  source.device.value = "forty-two";
  source.device.requirements = {{"size", Bytes(1, std::byte{4})}};
  ASSERT_TRUE(source.go(StopCopy));
  Rig destination(small_options());
  expect_loads(destination, drain(source.migration, pieces_of(kWhole)).bytes);
}

TEST(StateStreamIdentity, a_requirement_that_cannot_be_saved_fails_the_save_only) {
  for (const StateWriter::Section& wrong :
       {StateWriter::Section{"gangway.x", {}}, StateWriter::Section{"value", {}}, StateWriter::Section{"", {}}}) {
    Rig source(small_options());
    source.device.requirements = {wrong};
    EXPECT_FALSE(source.go(StopCopy)) << wrong.name;
    EXPECT_EQ(source.migration.state(), Stop);
    source.device.requirements.clear();
    source.device.fails.insert("save_requirements");
    EXPECT_FALSE(source.go(PreCopy));
    source.device.fails.clear();
    EXPECT_TRUE(source.go(StopCopy));
  }
}

// --- what a device may not save ---

TEST(StateStreamNames, that_cannot_be_framed_fail_the_save_and_leave_the_device_running) {
  for (const std::string& name :
       {std::string(), std::string(65, 'n'), std::string("value"), std::string("gangway.x")}) {
    Rig source(small_options());
    source.device.extra_sections = {{name, {}}};
    EXPECT_FALSE(source.go(StopCopy)) << name;
    EXPECT_EQ(source.migration.state(), Stop);
    source.device.extra_sections.clear();
    EXPECT_TRUE(source.go(StopCopy)) << "and afterwards it migrates";
  }
}

TEST(StateStreamNames, of_64_bytes_travel) {
  Rig source(small_options());
  source.device.extra_sections = {{std::string(64, 'n'), Bytes(3, std::byte{7})}};
  ASSERT_TRUE(source.go(StopCopy));
  Rig destination(small_options());
  EXPECT_EQ(refusal_of(destination, drain(source.migration, pieces_of(kWhole)).bytes), "");
}

TEST(StateStreamNames, too_much_structured_state_fails_the_save) {
  Rig source(small_options());
  source.device.extra_sections = {{"big", Bytes((64U << 20) + 1)}};
  const Result<void> saved = source.go(StopCopy);
  ASSERT_FALSE(saved);
  EXPECT_EQ(saved.error().code, EFBIG);
}

}  // namespace
}  // namespace gangway::test
