// What each side sees in every pairing of clients and devices that know different revisions of the migration interface.
//
// The promise of docs/compatibility.md: a device migrates when both know a revision in common; otherwise the client
// finds no migration interface, can say so, and everything else of the device works as before.
#include <gtest/gtest.h>

#include <cerrno>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include <gangway/device_handle.h>
#include <gangway/migration_region.h>

#include "base/bytes.h"
#include "unit/vfio_user/served_device.h"

namespace gangway::vfio_user {
namespace {

using test::ServedDevice;
using Bytes = std::vector<std::byte>;

constexpr std::uint32_t kBar0 = 0;
constexpr std::uint64_t kScratch = 0x40;
constexpr std::size_t kMemory = 20'000;
constexpr std::uint32_t kPlainRegions = 9;

std::unique_ptr<DeviceHandle> open(const ServedDevice& served) {
  auto opened = open_device("vfio-user:" + served.path().native());
  EXPECT_TRUE(opened) << opened.error().message;
  return opened ? std::move(*opened) : nullptr;
}

std::unique_ptr<ServedDevice> serve(Revisions revisions) {
  return std::make_unique<ServedDevice>(test::TestDeviceOptions{.state_memory = kMemory}, ServerOptions{},
                                        EndpointOptions{.revisions = revisions});
}

// Migrates by one revision, as a client of it does: from RUNNING to RUNNING, with nothing said about P2P.
class Migrator {
 public:
  virtual ~Migrator() = default;
  virtual Result<Bytes> save() = 0;
  virtual Result<void> load(std::span<const std::byte> stream) = 0;
};

class FeatureMigrator : public Migrator {
 public:
  explicit FeatureMigrator(DeviceHandle& device) : device_(device) {}
  Result<Bytes> save() override {
    if (auto set = device_.set_state(DeviceState::PreCopy); !set) return std::unexpected(set.error());
    Bytes stream;
    if (auto read = drain(stream); !read) return std::unexpected(read.error());
    if (auto set = device_.set_state(DeviceState::StopCopy); !set) return std::unexpected(set.error());
    if (auto read = drain(stream); !read) return std::unexpected(read.error());
    if (auto set = device_.set_state(DeviceState::Stop); !set) return std::unexpected(set.error());
    return stream;
  }
  Result<void> load(std::span<const std::byte> stream) override {
    if (auto set = device_.set_state(DeviceState::Resuming); !set) return set;
    if (auto written = device_.write_data(stream); !written) return written;
    return device_.set_state(DeviceState::Running);
  }

 private:
  Result<void> drain(Bytes& stream) {
    for (;;) {
      Bytes piece(1 << 16);
      const auto read = device_.read_data(piece);
      if (!read) return std::unexpected(read.error());
      stream.insert(stream.end(), piece.begin(), piece.begin() + static_cast<std::ptrdiff_t>(read->size));
      if (read->end != StreamEnd::More) return {};
    }
  }
  DeviceHandle& device_;
};

class RegionMigrator : public Migrator {
 public:
  explicit RegionMigrator(MigrationRegionClient region) : region_(std::move(region)) {}
  Result<Bytes> save() override {
    Bytes stream;
    for (const DeviceState state : {DeviceState::PreCopy, DeviceState::StopCopy}) {
      if (auto set = region_.set_state(state); !set) return std::unexpected(set.error());
      for (;;) {
        const auto chunk = region_.next_chunk();
        if (!chunk) return std::unexpected(chunk.error());
        if (chunk->empty()) break;
        stream.insert(stream.end(), chunk->begin(), chunk->end());
      }
    }
    if (auto set = region_.set_state(DeviceState::Stop); !set) return std::unexpected(set.error());
    return stream;
  }
  Result<void> load(std::span<const std::byte> stream) override {
    if (auto set = region_.set_state(DeviceState::Resuming); !set) return set;
    if (auto loaded = region_.load(stream); !loaded) return loaded;
    return region_.set_state(DeviceState::Running);
  }

 private:
  MigrationRegionClient region_;
};

// What a client comes to: the revision that it and the device have in common and how it migrates by that, or why it
// finds none of those that it knows.
struct Pairing {
  std::optional<Revision> by;
  std::unique_ptr<Migrator> migrator;
  std::string why_not;
};

// How many regions the device has, none of which is that of the revision, as its own descriptions have it.
std::uint32_t regions_without(DeviceHandle& device, Revision revision) {
  const std::uint32_t regions = device.info()->regions;
  for (std::uint32_t index = 0; index < regions; ++index) {
    const auto region = device.region(index);
    EXPECT_TRUE(region) << region.error().message;
    const bool is_it =
        region && region->type == migration_region::kType && region->subtype == migration_region::subtype(revision);
    EXPECT_FALSE(is_it) << "region " << index << " was not found";
  }
  return regions;
}

Pairing pair_up(DeviceHandle& device, std::span<const Revision> known,
                const MigrationRegionClient::Options& options = {}) {
  Pairing pairing;
  for (const Revision revision : known) {
    if (revision == Revision::V2) {
      const auto flags = device.migration_flags();
      if (flags) return {revision, std::make_unique<FeatureMigrator>(device), {}};
      EXPECT_EQ(flags.error().code, ENOTTY) << flags.error().message;
      const std::string asked = fmt::format("feature {}", static_cast<int>(Feature::Migration));
      EXPECT_NE(flags.error().message.find(asked + ": "), std::string::npos) << flags.error().message;
      pairing.why_not += asked + (flags.error().code == ENOTTY ? ": ENOTTY; " : ": another error; ");
      continue;
    }
    auto found = MigrationRegionClient::find(device, revision, options);
    EXPECT_TRUE(found) << found.error().message;
    if (found && *found) return {revision, std::make_unique<RegionMigrator>(std::move(**found)), {}};
    pairing.why_not += fmt::format("no region of type {}.{} among {}; ", migration_region::kType,
                                   migration_region::subtype(revision), regions_without(device, revision));
  }
  if (known.empty()) pairing.why_not = "the client knows none";
  return pairing;
}

std::unique_ptr<Migrator> find_migration(DeviceHandle& device, std::span<const Revision> known,
                                         const MigrationRegionClient::Options& options = {}) {
  return pair_up(device, known, options).migrator;
}

void write_scratch(DeviceHandle& device, std::uint64_t value) {
  EXPECT_TRUE(device.write(kBar0, kScratch, bytes_of(value)));
}
std::uint64_t read_scratch(DeviceHandle& device) {
  std::uint64_t value = 0;
  EXPECT_TRUE(device.read(kBar0, kScratch, std::as_writable_bytes(std::span(&value, 1))));
  return value;
}

std::string name(Revisions revisions) {
  std::string all;
  for (const Revision revision : kAllRevisions) {
    if (revisions.has(revision)) all += (all.empty() ? "" : "+") + std::string(contract::name(revision));
  }
  return all.empty() ? "none" : all;
}

std::vector<Revisions> all_exposures() {
  std::vector<Revisions> all;
  for (unsigned bits = 0; bits < 8; ++bits) {
    all.push_back({.v2 = (bits & 1) != 0, .v1 = (bits & 2) != 0, .region_v2 = (bits & 4) != 0});
  }
  return all;
}

struct KnownRevisions {
  std::string_view name;
  std::vector<Revision> revisions;  // what it takes first, first
};

const std::vector<KnownRevisions>& all_clients() {
  static const std::vector<KnownRevisions> clients{{"v1", {Revision::V1}},
                                                   {"region-v2", {Revision::RegionV2}},
                                                   {"v2", {Revision::V2}},
                                                   {"v1+v2", {Revision::V2, Revision::V1}},
                                                   {"none", {}}};
  return clients;
}

// Outcome of a cell: the revision it migrates by, or none. Rows as all_clients(), columns as all_exposures().
// clang-format off
constexpr auto kNone = std::optional<Revision>{};
constexpr auto kV1 = std::optional{Revision::V1};
constexpr auto kV2 = std::optional{Revision::V2};
constexpr auto kR2 = std::optional{Revision::RegionV2};
constexpr std::array<std::array<std::optional<Revision>, 8>, 5> kExpected{{
    //  none   v2     v1     v2+v1  r2     v2+r2  v1+r2  all
    {{ kNone, kNone, kV1,   kV1,   kNone, kNone, kV1,   kV1   }},  // v1
    {{ kNone, kNone, kNone, kNone, kR2,   kR2,   kR2,   kR2   }},  // region-v2
    {{ kNone, kV2,   kNone, kV2,   kNone, kV2,   kNone, kV2   }},  // v2
    {{ kNone, kV2,   kV1,   kV2,   kNone, kV2,   kV1,   kV2   }},  // v1+v2
    {{ kNone, kNone, kNone, kNone, kNone, kNone, kNone, kNone }},  // none
}};
// clang-format on

// A reason for each revision that the client knows, in the order in which it asks.
std::string reasons(std::span<const Revision> known, std::uint32_t regions) {
  std::string all = known.empty() ? "the client knows none" : "";
  for (const Revision revision : known) {
    all += revision == Revision::V2   ? "feature 1: ENOTTY; "
           : revision == Revision::V1 ? fmt::format("no region of type 3.1 among {}; ", regions)
                                      : fmt::format("no region of type 3.2 among {}; ", regions);
  }
  return all;
}

// V1-HIDDEN, R2-FOUND
TEST(Revisions, every_pairing_migrates_or_works_without) {
  for (std::size_t row = 0; row < all_clients().size(); ++row) {
    const KnownRevisions& client = all_clients()[row];
    const std::vector<Revisions> exposures = all_exposures();
    for (std::size_t column = 0; column < exposures.size(); ++column) {
      SCOPED_TRACE("a client that knows " + std::string(client.name) + ", a device that exposes " +
                   name(exposures[column]));
      const auto served = serve(exposures[column]);
      const auto served_there = serve(exposures[column]);
      const auto source = open(*served);
      const auto destination = open(*served_there);
      const std::uint32_t regions =
          kPlainRegions + (exposures[column].v1 ? 1 : 0) + (exposures[column].region_v2 ? 1 : 0);
      EXPECT_EQ(source->info()->regions, regions);
      write_scratch(*source, 0x1234);
      std::ranges::fill(served->device().memory(), std::byte{7});

      const Pairing from = pair_up(*source, client.revisions);
      const Pairing to = pair_up(*destination, client.revisions);
      ASSERT_EQ(from.by, kExpected[row][column]);
      ASSERT_EQ(to.by, kExpected[row][column]);
      if (from.by) {
        const auto stream = from.migrator->save();
        ASSERT_TRUE(stream) << stream.error().message;
        const auto loaded = to.migrator->load(*stream);
        ASSERT_TRUE(loaded) << loaded.error().message;
        // It was that revision which was driven: every other is refused in this connection (V1-ONE), and it is not.
        if (exposures[column].has(Revision::V2)) {
          EXPECT_EQ(source->set_state(DeviceState::Stop).has_value(), from.by == Revision::V2);
        }
        EXPECT_EQ(read_scratch(*destination), 0x1234U);
        EXPECT_TRUE(served->device().copy_of_memory() == served_there->device().copy_of_memory());
        continue;
      }
      EXPECT_EQ(from.why_not, reasons(client.revisions, regions));
      EXPECT_EQ(read_scratch(*source), 0x1234U) << "a device that does not migrate works";
      write_scratch(*source, 5);
      EXPECT_EQ(read_scratch(*source), 5U);
      EXPECT_TRUE(source->reset());
    }
  }
}

// One engine is under all of them, so what one revision saved another loads.
TEST(Revisions, a_stream_is_the_same_through_each) {
  for (const Revision saved_by : kAllRevisions) {
    for (const Revision loaded_by : kAllRevisions) {
      SCOPED_TRACE(std::string(contract::name(saved_by)) + " to " + std::string(contract::name(loaded_by)));
      const auto served = serve({.v2 = true, .v1 = true, .region_v2 = true});
      const auto served_there = serve({.v2 = true, .v1 = true, .region_v2 = true});
      const auto source = open(*served);
      const auto destination = open(*served_there);
      write_scratch(*source, 99);
      const auto stream = find_migration(*source, std::array{saved_by})->save();
      ASSERT_TRUE(stream) << stream.error().message;
      const auto loaded = find_migration(*destination, std::array{loaded_by})->load(*stream);
      ASSERT_TRUE(loaded) << loaded.error().message;
      EXPECT_EQ(read_scratch(*destination), 99U);
    }
  }
}

// V1-ONE
TEST(Revisions, the_first_that_is_driven_is_the_one_for_the_connection) {
  const auto served = serve({.v2 = true, .v1 = true, .region_v2 = true});
  for (const Revision first : kAllRevisions) {
    SCOPED_TRACE(contract::name(first));
    const auto device = open(*served);
    auto v1 = *MigrationRegionClient::find(*device, Revision::V1);
    auto region_v2 = *MigrationRegionClient::find(*device, Revision::RegionV2);
    const auto set = [&](Revision revision, DeviceState state) {
      if (revision == Revision::V2) return device->set_state(state);
      return (revision == Revision::V1 ? v1 : region_v2)->set_state(state);
    };
    const auto get = [&](Revision revision) {
      if (revision == Revision::V2) return device->state();
      return (revision == Revision::V1 ? v1 : region_v2)->state();
    };
    for (const Revision revision : kAllRevisions) EXPECT_TRUE(get(revision)) << "looking is not driving";
    EXPECT_TRUE(device->migration_flags());
    ASSERT_TRUE(set(first, DeviceState::Stop));
    for (const Revision other : kAllRevisions) {
      if (other == first) continue;
      EXPECT_EQ(set(other, DeviceState::Running).error().code, EBUSY) << contract::name(other);
      EXPECT_EQ(get(other).error().code, EBUSY) << contract::name(other);
    }
    EXPECT_EQ(get(first).value(), DeviceState::Stop);
    ASSERT_TRUE(set(first, DeviceState::Running));
    ASSERT_TRUE(device->reset());
    for (const Revision other : kAllRevisions) {
      if (other == first) continue;
      EXPECT_EQ(get(other).error().code, EBUSY) << "a reset is not a new connection";
    }
  }
}

// V1-ONE: data of another revision never reaches the device.
TEST(Revisions, migration_data_of_another_revision_is_refused) {
  const auto served = serve({.v2 = true, .v1 = true});
  const auto device = open(*served);
  auto v1 = *MigrationRegionClient::find(*device, Revision::V1);
  ASSERT_TRUE(v1->set_state(DeviceState::Resuming));
  Bytes bytes(4096);
  EXPECT_EQ(device->write_data(bytes).error().code, EBUSY);
  EXPECT_EQ(device->read_data(bytes).error().code, EBUSY);
  EXPECT_EQ(device->data_size().error().code, EBUSY);
  EXPECT_EQ(device->precopy_info().error().code, EBUSY);
  EXPECT_EQ(device->feature_set(Feature::MigPrecopyInfoV2, {}).error().code, EBUSY);
  EXPECT_EQ(v1->state().value(), DeviceState::Resuming);
}

// V1-LOAD: clients in the field move the data by accesses of 8 bytes.
TEST(Revisions, v1_works_by_accesses_of_eight_bytes) {
  const auto served = serve({.v2 = false, .v1 = true});
  const auto served_there = serve({.v2 = false, .v1 = true});
  served->device().memory()[1000] = std::byte{42};
  const auto source = open(*served);
  const auto destination = open(*served_there);
  const MigrationRegionClient::Options by_access{.map = false, .access_size = 8};
  const std::array known{Revision::V1};
  const auto stream = find_migration(*source, known, by_access)->save();
  ASSERT_TRUE(stream) << stream.error().message;
  ASSERT_TRUE(find_migration(*destination, known, by_access)->load(*stream));
  EXPECT_EQ(served_there->device().copy_of_memory()[1000], std::byte{42});
}

// WIR-GONE
TEST(Revisions, a_client_that_vanishes_within_an_iteration_leaves_nothing) {
  const auto served = serve({.v2 = true, .v1 = true});
  {
    const auto device = open(*served);
    auto v1 = *MigrationRegionClient::find(*device, Revision::V1);
    ASSERT_TRUE(v1->set_state(DeviceState::StopCopy));
    ASSERT_FALSE(v1->next_chunk()->empty());
  }
  const auto device = open(*served);
  EXPECT_EQ(device->state().value(), DeviceState::Running);
  EXPECT_EQ(MigrationRegionClient::find(*device, Revision::V1).value()->pending_bytes().value(), 0U);
}

}  // namespace
}  // namespace gangway::vfio_user
