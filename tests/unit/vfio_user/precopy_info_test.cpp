// PRE-INFO-V2 on a served device: who may opt in, what it brings, and for how long.
#include <gtest/gtest.h>

#include <cerrno>
#include <memory>
#include <vector>

#include <gangway/device_handle.h>

#include "unit/vfio_user/served_device.h"

namespace gangway::vfio_user {
namespace {

using test::Bytes;
using test::ServedDevice;

constexpr std::size_t kMemory = 20'000;

std::unique_ptr<DeviceHandle> open(const ServedDevice& served) {
  auto opened = open_device("vfio-user:" + served.path().native());
  EXPECT_TRUE(opened) << opened.error().message;
  return opened ? std::move(*opened) : nullptr;
}

int opt_in(DeviceHandle& device) {
  const auto set = device.feature_set(Feature::MigPrecopyInfoV2, {});
  return set ? 0 : set.error().code;
}

// To pre-copy, and everything read.
void pre_copy(DeviceHandle& device) {
  ASSERT_TRUE(device.set_state(DeviceState::PreCopy));
  Bytes buffer(1 << 20);
  ASSERT_EQ(device.read_data(buffer)->end, StreamEnd::Temporary);
  ASSERT_EQ(device.precopy_info()->initial_bytes, 0U);
}

TEST(PrecopyInfoV2, is_for_devices_with_pre_copy) {
  for (const MigrationFlags flags : kAllMigrationFlags) {
    const ServedDevice served({}, {}, {.flags = flags});
    const auto device = open(served);
    EXPECT_EQ(opt_in(*device), flags.pre_copy ? 0 : EINVAL) << "flags " << flags.bits();
    EXPECT_EQ(device->state(), DeviceState::Running);
    EXPECT_EQ(opt_in(*device), flags.pre_copy ? 0 : EINVAL) << "and the same again, flags " << flags.bits();
  }
}

TEST(PrecopyInfoV2, new_initial_data_is_announced_once_and_then_read) {
  ServedDevice served({.state_memory = kMemory});
  const auto device = open(served);
  ASSERT_EQ(opt_in(*device), 0);
  pre_copy(*device);
  EXPECT_FALSE(device->precopy_info()->reinit);
  served.device().renew();
  const PrecopyInfo anew = *device->precopy_info();
  EXPECT_TRUE(anew.reinit);
  EXPECT_GT(anew.initial_bytes, kMemory);
  EXPECT_EQ(anew.dirty_bytes, 0U);
  EXPECT_FALSE(device->precopy_info()->reinit);
  Bytes buffer(1 << 20);
  EXPECT_EQ(device->read_data(buffer)->size, anew.initial_bytes);
  EXPECT_EQ(device->precopy_info()->initial_bytes, 0U);
}

TEST(PrecopyInfoV2, without_the_opt_in_flags_say_nothing_and_initial_bytes_only_fall) {
  ServedDevice served({.state_memory = kMemory});
  const auto device = open(served);
  pre_copy(*device);
  served.device().renew();
  for (int i = 0; i < 2; ++i) {
    EXPECT_FALSE(device->precopy_info()->reinit);
    EXPECT_EQ(device->precopy_info()->initial_bytes, 0U);
  }
  ASSERT_EQ(opt_in(*device), 0);
  EXPECT_TRUE(device->precopy_info()->reinit) << "who opts in late hears of it then";
}

TEST(PrecopyInfoV2, the_opt_in_ends_with_the_last_close) {
  ServedDevice served({.state_memory = kMemory});
  auto device = open(served);
  ASSERT_EQ(opt_in(*device), 0);
  device.reset();
  device = open(served);
  pre_copy(*device);
  served.device().renew();
  EXPECT_FALSE(device->precopy_info()->reinit);
  EXPECT_EQ(device->precopy_info()->initial_bytes, 0U);
}

TEST(PrecopyInfoV2, the_opt_in_outlives_resets_and_other_states) {
  ServedDevice served({.state_memory = kMemory});
  const auto device = open(served);
  ASSERT_EQ(opt_in(*device), 0);
  ASSERT_TRUE(device->set_state(DeviceState::StopCopy));
  ASSERT_TRUE(device->reset());
  pre_copy(*device);
  served.device().renew();
  EXPECT_TRUE(device->precopy_info()->reinit);
}

}  // namespace
}  // namespace gangway::vfio_user
