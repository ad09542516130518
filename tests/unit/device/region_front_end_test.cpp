#include "device/region_front_end.h"

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include <gangway/migration_region.h>

#include "base/bytes.h"
#include "unit/device/matchers.h"
#include "unit/device/recording_device.h"

namespace gangway {
namespace {

using namespace migration_region;
using test::FailsWith;
using test::IsOk;
using Bytes = std::vector<std::byte>;

// A device with its engine and a front end, and the accesses of a client.
struct Region : test::Rig {
  explicit Region(Revision revision, MigrationFlags flags = kAll, std::size_t memory = 100'000)
      : Rig({.memory_sizes = {memory}, .tracks_dirty = true}, flags),
        front_end(std::move(*RegionFrontEnd::create<RegionFrontEnd>(revision, migration))) {}

  template <class T>
  Result<T> get(std::uint64_t offset) {
    T value{};
    if (auto read = front_end->read(offset, std::as_writable_bytes(std::span(&value, 1))); !read) {
      return std::unexpected(read.error());
    }
    return value;
  }
  template <class T>
  Result<void> put(std::uint64_t offset, T value) {
    return front_end->write(offset, bytes_of(value));
  }
  std::uint32_t device_state() { return get<std::uint32_t>(kDeviceState).value(); }
  Result<void> set(std::uint32_t value) { return put(kDeviceState, value); }
  std::uint64_t pending() { return get<std::uint64_t>(kPendingBytes).value(); }

  // The rest of an iteration whose pending_bytes was not 0.
  Bytes chunk(std::size_t access = 1U << 20) {
    const auto offset = get<std::uint64_t>(kDataOffset).value();
    Bytes bytes(get<std::uint64_t>(kDataSize).value());
    for (std::size_t done = 0; done < bytes.size(); done += access) {
      const auto piece = std::span(bytes).subspan(done, std::min(access, bytes.size() - done));
      EXPECT_THAT(front_end->read(offset + done, piece), IsOk());
    }
    return bytes;
  }
  Bytes drain(std::size_t access = 1U << 20) {
    Bytes all;
    while (pending() != 0) {
      const Bytes next = chunk(access);
      all.insert(all.end(), next.begin(), next.end());
    }
    return all;
  }
  Result<void> load(std::span<const std::byte> bytes, std::size_t piece) {
    while (!bytes.empty()) {
      const auto part = bytes.first(std::min(piece, bytes.size()));
      if (auto written = front_end->write(get<std::uint64_t>(kDataOffset).value(), part); !written) return written;
      if (auto committed = put(kDataSize, std::uint64_t{part.size()}); !committed) return committed;
      bytes = bytes.subspan(part.size());
    }
    return {};
  }

  std::unique_ptr<RegionFrontEnd> front_end;
};

constexpr std::uint32_t kStop = 0;
constexpr std::uint32_t kStopCopy = kSaving;
constexpr std::uint32_t kPreCopy = kSaving | kRunning;

// V1-STATES: twice the same is no change.
TEST(RegionFrontEnd, v1_bits_are_states) {
  Region region(Revision::V1);
  EXPECT_EQ(region.device_state(), kRunning);
  for (const std::uint32_t bits : {kStop, kRunning, kPreCopy, kStopCopy, kStopCopy, kStop, kRunning, kResuming}) {
    EXPECT_THAT(region.set(bits), IsOk()) << bits;
    EXPECT_EQ(region.device_state(), bits);
  }
}

// V1-STATES
TEST(RegionFrontEnd, v1_refuses_bits_that_are_no_state_and_stays) {
  Region region(Revision::V1);
  for (const std::uint32_t bits : {5U, 6U, 7U, 0xf5U}) {
    EXPECT_THAT(region.set(bits), FailsWith(EINVAL)) << bits;
    EXPECT_EQ(region.device_state(), kRunning);
    EXPECT_EQ(region.migration.state(), DeviceState::Running);
  }
}

// V1-STATES
TEST(RegionFrontEnd, v1_keeps_the_bits_that_are_the_clients) {
  Region region(Revision::V1);
  ASSERT_THAT(region.set(0xabcd0008 | kPreCopy), IsOk());
  EXPECT_EQ(region.device_state(), 0xabcd0008 | kPreCopy);
  EXPECT_EQ(region.migration.state(), DeviceState::PreCopy);
}

// V1-STATES: a device that can neither stop nor go on.
TEST(RegionFrontEnd, v1_reports_an_error_that_reset_leaves) {
  Region region(Revision::V1, {.p2p = false, .pre_copy = true});
  ASSERT_THAT(region.set(0x100U | kRunning), IsOk());
  region.device.fails = {"stop", "start"};
  EXPECT_FALSE(region.set(kStop));
  ASSERT_EQ(region.migration.state(), DeviceState::Error);
  EXPECT_EQ(region.device_state(), 0x100U | kSaving | kResuming);
  region.device.fails.clear();
  for (const std::uint32_t bits : {kStop, kRunning, kStopCopy, kPreCopy, kResuming}) {
    EXPECT_FALSE(region.set(bits)) << bits;
    EXPECT_EQ(region.device_state() & kStateBits, kSaving | kResuming) << "after " << bits;
  }
  ASSERT_THAT(region.migration.reset(), IsOk());
  region.front_end->reset();
  EXPECT_EQ(region.device_state(), kRunning);
}

TEST(RegionFrontEnd, v1_names_the_error_state) {
  EXPECT_EQ(v1_bits(DeviceState::Error), 6U);
  EXPECT_FALSE(v1_state(6).has_value());
}

// V1-SAVE, V1-LOAD, R2-DATA: with accesses of any size.
TEST(RegionFrontEnd, saves_and_loads_in_pieces_of_any_size) {
  for (const Revision revision : {Revision::V1, Revision::RegionV2}) {
    for (const std::size_t piece : {std::size_t{8}, std::size_t{4096}, std::size_t{1U << 20}}) {
      SCOPED_TRACE(testing::Message() << contract::name(revision) << ", pieces of " << piece);
      const bool v1 = revision == Revision::V1;
      Region source(revision);
      source.device.fill(3);
      source.device.value = "value";
      ASSERT_THAT(source.set(v1 ? kPreCopy : 6), IsOk());
      Bytes stream = source.drain(piece);
      source.device.poke(0, 5000, 77);
      ASSERT_THAT(source.set(v1 ? kStopCopy : 3), IsOk());
      const Bytes rest = source.drain(piece);
      stream.insert(stream.end(), rest.begin(), rest.end());
      EXPECT_EQ(source.pending(), 0U);
      EXPECT_EQ(source.pending(), 0U) << "the end is for ever";

      Region destination(revision);
      ASSERT_THAT(destination.set(v1 ? kResuming : 4), IsOk());
      ASSERT_THAT(destination.load(stream, piece), IsOk());
      ASSERT_THAT(destination.set(v1 ? kRunning : 2), IsOk());
      EXPECT_EQ(destination.device.value, "value");
      EXPECT_EQ(destination.device.memory(0), source.device.memory(0));
    }
  }
}

// V1-SAVE, R2-DATA
TEST(RegionFrontEnd, reads_within_an_iteration_agree) {
  for (const Revision revision : {Revision::V1, Revision::RegionV2}) {
    SCOPED_TRACE(contract::name(revision));
    Region region(revision, test::Rig::kAll, 4U << 20);
    region.device.fill(9);
    ASSERT_THAT(region.set(revision == Revision::V1 ? kStopCopy : 3), IsOk());
    const std::uint64_t pending = region.pending();
    EXPECT_GT(pending, 4U << 20);
    EXPECT_EQ(region.pending(), pending) << "nothing was staged, so nothing was taken";
    const Bytes first = region.chunk();
    EXPECT_EQ(region.chunk(8), first);
    EXPECT_LT(region.pending(), pending);
    EXPECT_NE(region.chunk(), first);
  }
}

// R2-DATA: pending_bytes 0 is a temporary end in pre-copy, after which more may come, and the end in STOP_COPY.
TEST(RegionFrontEnd, region_v2_ends_for_now_in_pre_copy_and_for_ever_in_stop_copy) {
  Region region(Revision::RegionV2);
  ASSERT_THAT(region.set(6), IsOk());
  EXPECT_FALSE(region.drain().empty());
  for (int round = 0; round < 3; ++round) {
    EXPECT_EQ(region.pending(), 0U) << "nothing changed";
    region.device.poke(0, 5000, static_cast<std::uint8_t>(round + 1));
    EXPECT_NE(region.pending(), 0U) << "what changed is pending again";
    EXPECT_FALSE(region.drain().empty());
  }
  ASSERT_THAT(region.set(3), IsOk());
  EXPECT_FALSE(region.drain().empty()) << "the device's state is left, drained or not";
  for (int round = 0; round < 3; ++round) EXPECT_EQ(region.pending(), 0U);
}

// R2-DATA, DAT-SESSION: one session for a stay in the saving group, however its states follow each other.
TEST(RegionFrontEnd, region_v2_has_one_session_for_a_stay) {
  Region source(Revision::RegionV2);
  source.device.fill(3);
  source.device.value = "stayed";
  Bytes stream;
  for (const std::uint32_t state : {6U, 7U, 6U, 3U}) {
    ASSERT_THAT(source.set(state), IsOk());
    if (state == 7) source.device.poke(0, 70'000, 0xee);
    const Bytes part = source.drain(999);
    stream.insert(stream.end(), part.begin(), part.end());
  }
  Region destination(Revision::RegionV2);
  ASSERT_THAT(destination.set(4), IsOk());
  ASSERT_THAT(destination.load(stream, 4000), IsOk());
  ASSERT_THAT(destination.set(2), IsOk());
  EXPECT_EQ(destination.device.value, "stayed");
  EXPECT_EQ(destination.device.memory(0), source.device.memory(0));
}

// R2-DATA, DAT-SESSION: what leaves the saving group ends the session, and the next stay begins a whole stream.
TEST(RegionFrontEnd, region_v2_begins_anew_after_the_saving_group_or_a_reset) {
  Region region(Revision::RegionV2);
  region.device.fill(4);
  ASSERT_THAT(region.set(6), IsOk());
  const Bytes whole = region.drain();
  ASSERT_THAT(region.set(2), IsOk());
  EXPECT_EQ(region.pending(), 0U);
  ASSERT_THAT(region.set(6), IsOk());
  EXPECT_EQ(region.drain(), whole);
  ASSERT_THAT(region.migration.reset(), IsOk());
  region.front_end->reset();
  EXPECT_EQ(region.pending(), 0U);
  region.device.fill(4);
  ASSERT_THAT(region.set(6), IsOk());
  EXPECT_EQ(region.drain(), whole);
}

// V1-CHANGE
TEST(RegionFrontEnd, a_change_of_state_loses_nothing_that_was_not_staged) {
  for (const bool staged : {false, true}) {
    SCOPED_TRACE(staged);
    Region source(Revision::V1);
    source.device.fill(4);
    ASSERT_THAT(source.set(kPreCopy), IsOk());
    ASSERT_NE(source.pending(), 0U);
    Bytes stream;
    if (staged) stream = source.chunk();  // read and not acknowledged
    ASSERT_THAT(source.set(kStopCopy), IsOk());
    const Bytes rest = source.drain();
    stream.insert(stream.end(), rest.begin(), rest.end());
    Region destination(Revision::V1);
    ASSERT_THAT(destination.set(kResuming), IsOk());
    ASSERT_THAT(destination.load(stream, 1000), IsOk());
    EXPECT_THAT(destination.set(kRunning), IsOk());
  }
}

// V1-CHANGE
TEST(RegionFrontEnd, a_cancelled_save_starts_anew) {
  Region region(Revision::V1);
  region.device.fill(4);
  ASSERT_THAT(region.set(kStopCopy), IsOk());
  const Bytes whole = region.drain();
  ASSERT_THAT(region.set(kRunning), IsOk());
  ASSERT_THAT(region.set(kStopCopy), IsOk());
  ASSERT_NE(region.pending(), 0U);
  ASSERT_THAT(region.set(kRunning), IsOk());
  EXPECT_EQ(region.pending(), 0U);
  ASSERT_THAT(region.set(kStopCopy), IsOk());
  EXPECT_EQ(region.drain(), whole);
}

TEST(RegionFrontEnd, a_device_is_saved_when_the_client_has_the_last_chunk_and_knows_it) {
  for (const Revision revision : {Revision::V1, Revision::RegionV2}) {
    Region region(revision);
    ASSERT_THAT(region.set(revision == Revision::V1 ? kStopCopy : static_cast<std::uint32_t>(DeviceState::StopCopy)),
                IsOk());
    ASSERT_NE(region.pending(), 0U);
    EXPECT_TRUE(region.migration.has_unsaved_state()) << "it lies ready, and the client has none of it";
    (void)region.chunk();
    EXPECT_TRUE(region.migration.has_unsaved_state()) << "whether it has been copied is not known";
    ASSERT_EQ(region.pending(), 0U);
    EXPECT_FALSE(region.migration.has_unsaved_state());
  }
}

TEST(RegionFrontEnd, v1_pre_copy_of_a_device_without_one_has_nothing_to_say) {
  Region region(Revision::V1, {.p2p = true, .pre_copy = false});
  ASSERT_THAT(region.set(kPreCopy), IsOk());
  EXPECT_EQ(region.device_state(), kPreCopy);
  EXPECT_EQ(region.migration.state(), DeviceState::Running);
  EXPECT_EQ(region.pending(), 0U);
  ASSERT_THAT(region.set(kStopCopy), IsOk());
  EXPECT_EQ(region.device_state(), kStopCopy);
  EXPECT_FALSE(region.drain().empty());
}

// R2-LAYOUT, R2-STATES
TEST(RegionFrontEnd, region_v2_has_the_states_and_refusals_of_v2) {
  Region region(Revision::RegionV2);
  EXPECT_EQ(region.device_state(), 2U);
  for (const std::uint32_t wrong : {0U, 8U, 0xffffffffU, 2U | (1U << 31)})
    EXPECT_THAT(region.set(wrong), FailsWith(EINVAL));
  ASSERT_THAT(region.set(7), IsOk());
  EXPECT_EQ(region.migration.state(), DeviceState::PreCopyP2p);
  ASSERT_THAT(region.set(3), IsOk());
  EXPECT_THAT(region.set(6), FailsWith(EINVAL)) << "FSM-BLOCKED";
  EXPECT_EQ(region.device_state(), 3U);
}

// DAT-VALIDATE
TEST(RegionFrontEnd, a_truncated_stream_is_refused) {
  Region source(Revision::V1);
  ASSERT_THAT(source.set(kStopCopy), IsOk());
  Bytes stream = source.drain();
  stream.pop_back();
  Region destination(Revision::V1);
  ASSERT_THAT(destination.set(kResuming), IsOk());
  ASSERT_THAT(destination.load(stream, 4096), IsOk());
  EXPECT_FALSE(destination.set(kRunning));
  EXPECT_EQ(destination.device_state(), kResuming);
}

TEST(RegionFrontEnd, a_commit_beyond_the_data_fails_the_load) {
  Region region(Revision::V1);
  ASSERT_THAT(region.set(kResuming), IsOk());
  for (const std::uint64_t size : {RegionFrontEnd::kDataCapacity + 1, ~std::uint64_t{0}}) {
    EXPECT_THAT(region.put(kDataSize, size), FailsWith(EINVAL));
  }
  EXPECT_FALSE(region.set(kRunning));
}

TEST(RegionFrontEnd, parts_of_fields_and_what_is_between_them_are_refused) {
  Region region(Revision::V1);
  for (std::uint64_t offset = 0; offset < RegionFrontEnd::kDataStart; offset += offset < 64 ? 1 : 997) {
    for (const std::size_t size : {1U, 2U, 4U, 8U, 16U}) {
      Bytes bytes(size);
      const bool field = (offset == 0 && size == 4) ||
                         ((offset == kPendingBytes || offset == kDataOffset || offset == kDataSize) && size == 8);
      EXPECT_EQ(region.front_end->read(offset, bytes).has_value(), field) << offset << "+" << size;
      if (offset == 0 && size == 4) continue;
      EXPECT_THAT(region.front_end->write(offset, bytes), FailsWith(EINVAL)) << offset << "+" << size;
    }
  }
  EXPECT_EQ(region.migration.state(), DeviceState::Running);
}

}  // namespace
}  // namespace gangway
