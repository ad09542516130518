// Acts on the migration region, of v1 and of region-v2.
#include <gangway/migration_region.h>

#include "base/bytes.h"
#include "integration/faulty/acts.h"

namespace gangway::faulty {
namespace {

using namespace migration_region;
using enum DeviceState;

constexpr std::uint32_t kPreCopyBits = kSaving | kRunning;

class Region {
 public:
  Region(Bench& bench, Revision revision, std::size_t access = 1U << 16)
      : device_(bench.device()), client_(find(device_, revision, access)) {}
  [[nodiscard]] MigrationRegionClient& client() { return client_; }

  void set(std::uint32_t value) { need(client_.set_device_state(value), "write device_state"); }
  [[nodiscard]] std::uint32_t state() { return need(client_.device_state(), "read device_state"); }
  void refuses(std::uint32_t value) { refused(client_.set_device_state(value), "an impossible device_state"); }

  [[nodiscard]] std::uint64_t read(std::uint64_t field) {
    std::uint64_t value = 0;
    need(device_.read(client_.region(), field, std::as_writable_bytes(std::span(&value, 1))), "read the header");
    return value;
  }
  [[nodiscard]] Bytes drain() {
    Bytes all;
    for (;;) {
      const Bytes chunk = need(client_.next_chunk(), "read a chunk");
      if (chunk.empty()) return all;
      all.insert(all.end(), chunk.begin(), chunk.end());
    }
  }
  // From RUNNING to RUNNING, by the words of both revisions.
  [[nodiscard]] Bytes save() {
    need(client_.set_state(StopCopy), "stop-and-copy");
    Bytes stream = drain();
    need(client_.set_state(Running), "run");
    return stream;
  }
  void load(std::span<const std::byte> stream) {
    need(client_.set_state(Resuming), "resume");
    need(client_.load(stream), "load");
    need(client_.set_state(Running), "run what was loaded");
  }
  void write_low_byte(std::byte value) {
    std::ignore = device_.write(client_.region(), kDeviceState, std::span(&value, 1));
  }

 private:
  static MigrationRegionClient find(DeviceHandle& device, Revision revision, std::size_t access) {
    auto found = need(MigrationRegionClient::find(device, revision, {.map = false, .access_size = access}), "look");
    right(found.has_value(), "no migration region");
    return std::move(*found);
  }

  DeviceHandle& device_;
  MigrationRegionClient client_;
};

void saves_and_loads(Region region) { region.load(region.save()); }

Bytes in_two_states(Region& region) {
  need(region.client().set_state(PreCopy), "pre-copy");
  Bytes stream = region.drain();
  need(region.client().set_state(StopCopy), "stop-and-copy");
  const Bytes rest = region.drain();
  stream.insert(stream.end(), rest.begin(), rest.end());
  need(region.client().set_state(Running), "run");
  return stream;
}

void migrates_with_pre_copy(Bench& bench) {
  Region region(bench, Revision::RegionV2);
  region.load(in_two_states(region));
}

}  // namespace

Acts region_acts() {
  return {
      {"v1_region_without_v1", [](Bench& b) { right((Region(b, Revision::V1).state() & kStateBits) == kRunning, ""); }},
      {"revisions_at_once",
       [](Bench& b) {
         Region(b, Revision::V1).set(0);
         refused(b.device().state(), "v2 beside v1");
       }},
      {"v1_invalid_state_accepted", [](Bench& b) { Region(b, Revision::V1).refuses(kResuming | kRunning); }},
      {"v1_refused_state_stops",
       [](Bench& b) {
         Region region(b, Revision::V1);
         region.refuses(kStateBits);
         right(region.state() == kRunning, "the device is stopped");
       }},
      {"v1_other_bits_change",
       [](Bench& b) {
         Region region(b, Revision::V1);
         region.set(kSaving);
         right(region.state() == kSaving, "another bit is set");
       }},
      {"v1_other_bits_lost",
       [](Bench& b) {
         Region region(b, Revision::V1);
         region.set(0x10U | kSaving);
         right(region.state() == (0x10U | kSaving), "another bit is lost");
       }},
      {"v1_state_reads_as_written",
       [](Bench& b) {
         Region region(b, Revision::V1);
         region.set(0);
         need(b.device().reset(), "reset");
         right(region.state() == kRunning, "the state of before the reset");
       }},
      {"region_v2_found_as_v1", [](Bench& b) { right(Region(b, Revision::V1).state() == kRunning, "no state of v1"); }},
      {"region_v2_bits", [](Bench& b) { Region(b, Revision::RegionV2).refuses(0x100U | 1U); }},
      {"region_v2_half_state",
       [](Bench& b) {
         Region region(b, Revision::RegionV2);
         region.write_low_byte(std::byte{1});
         right(region.state() == 2, "a byte set the state");
       }},
      {"region_v2_refusal_is_eio",
       [](Bench& b) {
         const auto set = Region(b, Revision::RegionV2).client().set_device_state(0);
         right(!set && set.error().code == EINVAL, "not EINVAL");
       }},
      {"region_v2_refused_pair_accepted",
       [](Bench& b) {
         Region region(b, Revision::RegionV2);
         need(region.client().set_state(StopCopy), "STOP_COPY");
         refused(region.client().set_state(PreCopy), "STOP_COPY to PRE_COPY");
       }},
      {"region_v2_hides_p2p",
       [](Bench& b) {
         Region region(b, Revision::RegionV2);
         need(region.client().set_state(RunningP2p), "RUNNING_P2P");
         right(region.state() == static_cast<std::uint32_t>(RunningP2p), "another state");
       }},
      {"v1_pending_moves_on",
       [](Bench& b) {
         Region region(b, Revision::V1);
         region.set(kSaving);
         right(region.read(kPendingBytes) == region.read(kPendingBytes), "the chunk is lost");
       }},
      {"v1_offset_moves_on",
       [](Bench& b) {
         Region region(b, Revision::V1);
         region.set(kSaving);
         std::ignore = region.read(kPendingBytes);
         std::ignore = region.read(kDataOffset);
         const std::uint64_t size = region.read(kDataSize);
         std::ignore = region.read(kDataOffset);
         right(region.read(kDataSize) == size, "the chunk is lost");
       }},
      {"v1_size_reads_once",
       [](Bench& b) {
         Region region(b, Revision::V1);
         region.set(kSaving);
         std::ignore = region.read(kPendingBytes);
         right(region.read(kDataSize) == region.read(kDataSize), "data_size changes");
       }},
      {"v1_pending_never_ends",
       [](Bench& b) {
         Region region(b, Revision::V1);
         region.set(kSaving);
         std::ignore = region.drain();
         right(region.read(kPendingBytes) == 0, "no end");
       }},
      {"v1_commit_ignored", [](Bench& b) { saves_and_loads(Region(b, Revision::V1)); }},
      {"v1_small_writes_refused", [](Bench& b) { saves_and_loads(Region(b, Revision::V1, 8)); }},
      {"v1_chunk_over_cancel",
       [](Bench& b) {
         Region region(b, Revision::V1);
         region.set(kSaving);
         std::ignore = need(region.client().next_chunk(), "read a chunk");
         region.set(kRunning);
         region.load(region.save());
       }},
      {"v1_change_loses_chunk",
       [](Bench& b) {
         Region region(b, Revision::V1);
         region.set(kPreCopyBits);
         right(region.read(kPendingBytes) != 0, "nothing is pending");
         region.load(region.save());
       }},
      {"region_v2_whole_pages", [](Bench& b) { saves_and_loads(Region(b, Revision::RegionV2)); }},
      {"region_v2_stop_copy_starts_anew", migrates_with_pre_copy},
      {"region_v2_pre_copy_end_is_final", migrates_with_pre_copy},
      {"region_v2_commit_in_words",
       [](Bench& b) {
         Region region(b, Revision::RegionV2);
         const Bytes stream = region.save();
         need(region.client().set_state(Resuming), "resume");
         need(region.client().load(std::span(stream).first(13)), "load");
         need(region.client().load(std::span(stream).subspan(13)), "load");
         need(region.client().set_state(Running), "run what was loaded");
       }},
  };
}

}  // namespace gangway::faulty
