// What is said about clients that cannot migrate the device they drive, and about nobody else.
#include "vfio_user/migration_watch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/pci_regs.h>

#include <algorithm>
#include <array>

#include <gangway/device_handle.h>
#include <gangway/migration_region.h>

#include "base/bytes.h"
#include "unit/vfio_user/test_device.h"

namespace gangway::vfio_user {
namespace {

using test::TestDevice;
using testing::HasSubstr;
using testing::Optional;

constexpr std::uint32_t kMigrationRegion = to_number(RegionIndex::FirstDeviceSpecific);

std::unique_ptr<Endpoint> make_endpoint(Revisions revisions = {}) {
  return std::move(*Endpoint::create(std::make_unique<TestDevice>(), {.revisions = revisions}));
}

void let_master(Endpoint& endpoint) {
  const std::uint16_t command = PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
  ASSERT_TRUE(endpoint.write(to_number(RegionIndex::Config), PCI_COMMAND, bytes_of(command)));
}

// Where it reaches to is not mapped: it has reached all the same.
void reach_for_memory(Endpoint& endpoint) {
  std::array<std::byte, 4> bytes{};
  EXPECT_FALSE(endpoint.dma().read({0x1000}, bytes));
}

void drive(Endpoint& endpoint) {
  let_master(endpoint);
  reach_for_memory(endpoint);
}

void set(Endpoint& endpoint, DeviceState state) {
  ASSERT_TRUE(endpoint.migration()->set_state(static_cast<std::uint32_t>(state)));
}

template <class T>
Message message(Command command, const T& body) {
  Message made;
  made.header.command = static_cast<std::uint16_t>(command);
  std::ranges::copy(bytes_of(body), made.body.resize(sizeof body).begin());
  return made;
}
Message feature(std::uint16_t number, std::uint32_t flags = kFeatureGet) {
  return message(Command::DeviceFeature, FeatureHeader{.argsz = sizeof(FeatureHeader), .flags = number | flags});
}
Message feature(Feature number, std::uint32_t flags = kFeatureGet) {
  return feature(static_cast<std::uint16_t>(number), flags);
}
Message region_read(std::uint32_t region) {
  return message(Command::RegionRead, RegionAccess{.region = region, .count = 4});
}
Message config_write() {
  return message(Command::RegionWrite, RegionAccess{.region = to_number(RegionIndex::Config), .count = 2});
}

// What is said of a client that does this, and drives the device then.
std::optional<std::string> said_of(const Message& first, Endpoint& endpoint) {
  MigrationWatch watch;
  EXPECT_FALSE(watch.carried_out(first, endpoint)) << "nothing is driven yet";
  let_master(endpoint);
  return watch.carried_out(config_write(), endpoint);
}

TEST(MigrationWatch, who_drives_the_device_without_having_asked_about_migration_is_named_once) {
  const auto endpoint = make_endpoint();
  MigrationWatch watch;
  EXPECT_FALSE(watch.carried_out(message(Command::DeviceGetInfo, DeviceInfo{}), *endpoint)) << "nothing is driven yet";
  let_master(*endpoint);
  EXPECT_THAT(watch.carried_out(config_write(), *endpoint), Optional(HasSubstr("whether it can migrate (by v2)")));
  EXPECT_FALSE(watch.carried_out(config_write(), *endpoint));
  ASSERT_TRUE(endpoint->reset());
  let_master(*endpoint);
  EXPECT_FALSE(watch.carried_out(config_write(), *endpoint));
}

TEST(MigrationWatch, who_asked_for_a_feature_of_migration_is_not_named) {
  for (const Feature asked :
       {Feature::Migration, Feature::MigDeviceState, Feature::MigDataSize, Feature::MigPrecopyInfoV2}) {
    EXPECT_FALSE(said_of(feature(asked), *make_endpoint())) << static_cast<int>(asked);
    EXPECT_FALSE(said_of(feature(asked, kFeatureProbe), *make_endpoint())) << static_cast<int>(asked);
  }
  EXPECT_FALSE(said_of(feature(kFeaturePrecopyInfo), *make_endpoint()));
  EXPECT_FALSE(said_of(feature(kFeatureSharedData), *make_endpoint()));
}

TEST(MigrationWatch, who_logs_dma_alone_has_not_asked) {
  for (const Feature asked : {Feature::DmaLoggingStart, Feature::DmaLoggingStop, Feature::DmaLoggingReport}) {
    EXPECT_TRUE(said_of(feature(asked), *make_endpoint())) << static_cast<int>(asked);
  }
}

TEST(MigrationWatch, who_reaches_into_a_migration_region_has_asked) {
  EXPECT_FALSE(said_of(region_read(kMigrationRegion), *make_endpoint({.v2 = false, .v1 = true})));
  EXPECT_FALSE(said_of(region_read(kMigrationRegion), *make_endpoint({.v2 = false, .region_v2 = true})));
  EXPECT_FALSE(
      said_of(region_read(kMigrationRegion + 1), *make_endpoint({.v2 = false, .v1 = true, .region_v2 = true})));
}

TEST(MigrationWatch, who_reaches_elsewhere_has_not_asked) {
  const auto endpoint = make_endpoint({.v2 = false, .v1 = true});
  EXPECT_THAT(said_of(region_read(to_number(RegionIndex::Bar0)), *endpoint), Optional(HasSubstr("(by v1)")));
  EXPECT_TRUE(said_of(region_read(kMigrationRegion), *make_endpoint())) << "there is none";
}

TEST(MigrationWatch, a_running_device_that_did_dma_is_missed_when_its_client_is_gone) {
  const auto endpoint = make_endpoint();
  MigrationWatch watch;
  EXPECT_FALSE(watch.gone(*endpoint)) << "never driven";
  let_master(*endpoint);
  EXPECT_FALSE(watch.gone(*endpoint)) << "no DMA was done";
  reach_for_memory(*endpoint);
  EXPECT_THAT(watch.gone(*endpoint), Optional(HasSubstr("is in RUNNING")));
}

TEST(MigrationWatch, a_device_that_was_shut_down_is_not_missed) {
  const auto endpoint = make_endpoint();
  drive(*endpoint);
  ASSERT_TRUE(endpoint->write(to_number(RegionIndex::Config), PCI_COMMAND, bytes_of(std::uint16_t{0})));
  EXPECT_FALSE(MigrationWatch().gone(*endpoint));
}

TEST(MigrationWatch, a_device_of_which_nothing_was_read_is_missed_in_every_state) {
  for (const DeviceState state : {DeviceState::Stop, DeviceState::StopCopy, DeviceState::PreCopy}) {
    const auto endpoint = make_endpoint();
    drive(*endpoint);
    set(*endpoint, state);
    EXPECT_THAT(MigrationWatch().gone(*endpoint), Optional(HasSubstr(contract::name(state))));
  }
}

TEST(MigrationWatch, a_device_whose_client_has_all_of_it_is_not_missed) {
  const auto endpoint = make_endpoint();
  drive(*endpoint);
  set(*endpoint, DeviceState::StopCopy);
  endpoint->migration()->read_to_end();
  EXPECT_FALSE(MigrationWatch().gone(*endpoint));
  set(*endpoint, DeviceState::Stop);
  EXPECT_FALSE(MigrationWatch().gone(*endpoint));
}

TEST(MigrationWatch, a_device_that_ran_on_after_it_was_saved_is_missed) {
  for (const DeviceState state : {DeviceState::Running, DeviceState::RunningP2p}) {
    const auto endpoint = make_endpoint();
    drive(*endpoint);
    set(*endpoint, DeviceState::StopCopy);
    endpoint->migration()->read_to_end();
    set(*endpoint, state);
    set(*endpoint, DeviceState::Stop);
    EXPECT_TRUE(MigrationWatch().gone(*endpoint)) << contract::name(state);
  }
}

TEST(MigrationWatch, a_device_that_another_state_is_loaded_into_is_not_missed) {
  const auto endpoint = make_endpoint();
  drive(*endpoint);
  set(*endpoint, DeviceState::Resuming);
  EXPECT_FALSE(MigrationWatch().gone(*endpoint));
}

TEST(MigrationWatch, a_device_that_cannot_migrate_is_not_missed) {
  const auto endpoint = make_endpoint({.v2 = false});
  MigrationWatch watch;
  drive(*endpoint);
  EXPECT_FALSE(watch.carried_out(config_write(), *endpoint));
  EXPECT_FALSE(watch.gone(*endpoint));
}

TEST(MigrationWatch, the_next_client_starts_anew) {
  const auto endpoint = make_endpoint();
  MigrationWatch watch;
  watch.client_came();
  EXPECT_FALSE(watch.carried_out(feature(Feature::Migration), *endpoint));
  drive(*endpoint);
  EXPECT_FALSE(watch.carried_out(config_write(), *endpoint));
  ASSERT_TRUE(endpoint->client_gone());
  watch.client_came();
  let_master(*endpoint);
  EXPECT_TRUE(watch.carried_out(config_write(), *endpoint)) << "it has not asked";
  EXPECT_FALSE(watch.gone(*endpoint)) << "nor was any DMA done for it";
}

TEST(MigrationWatch, of_further_clients_it_is_said_in_short_how_many_there_were_and_ever_more_seldom) {
  const auto endpoint = make_endpoint();
  MigrationWatch watch;
  std::vector<std::string> asking;
  std::vector<std::string> saving;
  for (int client = 0; client < 8; ++client) {
    watch.client_came();
    drive(*endpoint);
    asking.push_back(watch.carried_out(config_write(), *endpoint).value_or("nothing"));
    saving.push_back(watch.gone(*endpoint).value_or("nothing"));
    ASSERT_TRUE(endpoint->client_gone());
  }
  EXPECT_THAT(asking[0], HasSubstr("leaves the device's state behind"));
  EXPECT_THAT(saving[0], HasSubstr("goes on without the device's state"));
  for (const std::size_t client : {1U, 3U, 7U}) {
    const std::string count = "(" + std::to_string(client + 1) + " so far)";
    EXPECT_THAT(asking[client], testing::AllOf(HasSubstr("again"), HasSubstr(count)));
    EXPECT_THAT(saving[client], testing::AllOf(HasSubstr("again"), HasSubstr(count)));
  }
  for (const std::size_t client : {2U, 4U, 5U, 6U}) {
    EXPECT_EQ(asking[client], "nothing");
    EXPECT_EQ(saving[client], "nothing");
  }
}

}  // namespace
}  // namespace gangway::vfio_user
