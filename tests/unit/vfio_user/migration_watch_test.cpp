// What is said about clients that cannot migrate the device they drive, and about nobody else.
#include "vfio_user/migration_watch.h"

#include <gtest/gtest.h>
#include <linux/pci_regs.h>

#include <array>

#include "base/bytes.h"
#include "unit/vfio_user/test_device.h"

namespace gangway::vfio_user {
namespace {

using test::TestDevice;

std::unique_ptr<Endpoint> make_endpoint(EndpointOptions options = {}) {
  return std::move(*Endpoint::create(std::make_unique<TestDevice>(), options));
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

TEST(MigrationWatch, who_drives_the_device_without_having_asked_about_migration_is_named_once) {
  const auto endpoint = make_endpoint();
  MigrationWatch watch;
  EXPECT_FALSE(watch.carried_out(Command::DeviceGetInfo, *endpoint)) << "nothing is driven yet";
  let_master(*endpoint);
  EXPECT_TRUE(watch.carried_out(Command::RegionWrite, *endpoint));
  EXPECT_FALSE(watch.carried_out(Command::RegionWrite, *endpoint));
  ASSERT_TRUE(endpoint->reset());
  let_master(*endpoint);
  EXPECT_FALSE(watch.carried_out(Command::RegionWrite, *endpoint));
}

TEST(MigrationWatch, who_asked_first_is_not_named) {
  const auto endpoint = make_endpoint();
  MigrationWatch watch;
  EXPECT_FALSE(watch.carried_out(Command::DeviceFeature, *endpoint));
  let_master(*endpoint);
  EXPECT_FALSE(watch.carried_out(Command::RegionWrite, *endpoint));
}

TEST(MigrationWatch, a_running_device_that_did_dma_is_missed_when_its_client_is_gone) {
  const auto endpoint = make_endpoint();
  const MigrationWatch watch;
  EXPECT_FALSE(watch.gone(*endpoint)) << "never driven";
  let_master(*endpoint);
  EXPECT_FALSE(watch.gone(*endpoint)) << "no DMA was done";
  reach_for_memory(*endpoint);
  EXPECT_TRUE(watch.gone(*endpoint));
}

TEST(MigrationWatch, a_device_that_was_shut_down_is_not_missed) {
  const auto endpoint = make_endpoint();
  let_master(*endpoint);
  reach_for_memory(*endpoint);
  ASSERT_TRUE(endpoint->write(to_number(RegionIndex::Config), PCI_COMMAND, bytes_of(std::uint16_t{0})));
  EXPECT_FALSE(MigrationWatch().gone(*endpoint));
}

TEST(MigrationWatch, a_device_that_was_saved_is_not_missed) {
  const auto endpoint = make_endpoint();
  let_master(*endpoint);
  reach_for_memory(*endpoint);
  ASSERT_TRUE(endpoint->migration()->set_state(static_cast<std::uint32_t>(DeviceState::StopCopy)));
  EXPECT_FALSE(MigrationWatch().gone(*endpoint));
}

TEST(MigrationWatch, a_device_that_cannot_migrate_is_not_missed) {
  const auto endpoint = make_endpoint({.revisions = {.v2 = false}});
  MigrationWatch watch;
  let_master(*endpoint);
  reach_for_memory(*endpoint);
  EXPECT_FALSE(watch.carried_out(Command::RegionWrite, *endpoint));
  EXPECT_FALSE(watch.gone(*endpoint));
}

TEST(MigrationWatch, the_next_client_starts_anew) {
  const auto endpoint = make_endpoint();
  let_master(*endpoint);
  reach_for_memory(*endpoint);
  ASSERT_TRUE(endpoint->client_gone());
  let_master(*endpoint);
  EXPECT_FALSE(MigrationWatch().gone(*endpoint));
}

}  // namespace
}  // namespace gangway::vfio_user
