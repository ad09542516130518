// DEVICE_FEATURE in combinations that mean nothing, and device states that do not exist (FSM-INVALID, FSM-BLOCKED).
#include <algorithm>
#include <array>
#include <cerrno>

#include "integration/hostile/hostile_test.h"

namespace gangway::hostile {
namespace {

using FeatureTest = HostileTest;

constexpr std::array kGettable{kFeatureMigration, kFeatureDeviceState, kFeatureLoggingReport, kFeatureDataSize};
constexpr std::array kSettable{kFeatureDeviceState, kFeatureLoggingStart, kFeatureLoggingStop};

bool has(std::span<const std::uint32_t> features, std::uint32_t index) {
  return std::ranges::find(features, index) != features.end();
}

TEST_F(FeatureTest, features_that_do_not_exist_are_refused) {
  ServedDevice& device = serve();
  RawPeer peer = connect(device);
  for (const std::uint32_t index : {0U, 3U, 4U, 5U, 10U, 11U, 13U, 100U, 255U, 256U, 0x7fffU, 0xffffU}) {
    for (const std::uint32_t operation :
         {kFeatureGet, kFeatureSet, kFeatureProbe | kFeatureGet, kFeatureProbe | kFeatureSet, kFeatureProbe}) {
      SCOPED_TRACE(testing::Message() << "feature " << index << ", operation " << operation);
      expect_refused(peer, kFeature, feature(index | operation, pattern(32)));
    }
  }
}

TEST_F(FeatureTest, get_and_set_together_or_neither_are_refused) {
  ServedDevice& device = serve();
  RawPeer peer = connect(device);
  for (std::uint32_t index = 0; index < 16; ++index) {
    SCOPED_TRACE(testing::Message() << "feature " << index);
    expect_refused(peer, kFeature, feature(index, pattern(64)));
    expect_refused(peer, kFeature, feature(index | kFeatureGet | kFeatureSet, pattern(64)));
  }
}

TEST_F(FeatureTest, an_operation_that_a_feature_has_not_is_refused) {
  ServedDevice& device = serve();
  RawPeer peer = connect(device);
  for (const std::uint32_t index : {1U, 2U, 6U, 7U, 8U, 9U}) {
    SCOPED_TRACE(testing::Message() << "feature " << index);
    if (!has(kGettable, index)) expect_refused(peer, kFeature, feature(index | kFeatureGet, pattern(64)));
    if (!has(kSettable, index)) expect_refused(peer, kFeature, feature(index | kFeatureSet, pattern(64)));
  }
}

TEST_F(FeatureTest, a_probe_says_what_there_is_and_does_nothing) {
  ServedDevice& device = serve();
  RawPeer peer = connect(device);
  for (const std::uint32_t index : {1U, 2U, 6U, 7U, 8U, 9U}) {
    const bool get = has(kGettable, index);
    const bool set = has(kSettable, index);
    SCOPED_TRACE(testing::Message() << "feature " << index);
    const auto probe = [&](std::uint32_t operations) {
      return !peer.request(kFeature, feature(index | kFeatureProbe | operations, {})).failed();
    };
    EXPECT_EQ(probe(kFeatureGet), get);
    EXPECT_EQ(probe(kFeatureSet), set);
    EXPECT_EQ(probe(kFeatureGet | kFeatureSet), get && set);
    // "data ... is not used for probing"
    peer.post(kFeature, feature(index | kFeatureProbe | kFeatureSet, pattern(64)));
    expect_in_step(peer);
  }
  EXPECT_EQ(state_of(peer), kStateRunning);
  EXPECT_FALSE(device.endpoint().log().started());
}

TEST_F(FeatureTest, unknown_flag_bits_leave_the_stream_in_step) {
  ServedDevice& device = serve();
  RawPeer peer = connect(device);
  for (std::uint32_t bit = 19; bit < 32; ++bit) {
    SCOPED_TRACE(testing::Message() << "bit " << bit);
    for (const std::uint32_t index : {kFeatureMigration, kFeatureDeviceState, kFeatureLoggingReport}) {
      peer.post(kFeature, feature(index | kFeatureGet | (1U << bit), pattern(24)));
      expect_in_step(peer);
    }
  }
  peer.post(kFeature, feature(kMax32, pattern(64)));
  expect_in_step(peer);
  EXPECT_EQ(state_of(peer), kStateRunning);
}

TEST_F(FeatureTest, states_that_do_not_exist_are_refused_and_the_device_still_migrates) {
  ServedDevice& device = serve();
  RawPeer peer = connect(device);
  for (const std::uint32_t state : {0U, 8U, 9U, 255U, 256U + kStateStop, 1U << 16, 1U << 31, kMax32 - 5, kMax32}) {
    SCOPED_TRACE(testing::Message() << "state " << state);
    expect_refused(peer, kFeature, set_state(state), {EINVAL});  // FSM-INVALID
    EXPECT_EQ(state_of(peer), kStateRunning);
  }
  go_to(peer, kStateStopCopy);
  expect_refused(peer, kFeature, set_state(kStatePreCopy), {EINVAL});  // FSM-BLOCKED
  expect_refused(peer, kFeature, set_state(kStatePreCopyP2p), {EINVAL});
  EXPECT_EQ(state_of(peer), kStateStopCopy);
  EXPECT_GT(read_stream(peer, 1U << 20).size(), kMemorySize);
}

TEST_F(FeatureTest, states_that_the_device_does_not_advertise_are_refused) {
  ServedDevice& device = serve({.endpoint = {.flags = {.p2p = false, .pre_copy = false}}});
  RawPeer peer = connect(device);
  for (const std::uint32_t state : {kStateRunningP2p, kStatePreCopy, kStatePreCopyP2p}) {
    expect_refused(peer, kFeature, set_state(state), {EINVAL});  // FSM-INVALID
    EXPECT_EQ(state_of(peer), kStateRunning);
  }
}

TEST_F(FeatureTest, a_device_that_cannot_migrate_has_no_migration_features_and_works) {
  ServedDevice& device = serve({.endpoint = {.revisions = {.v2 = false}}});
  RawPeer peer = connect(device);
  expect_refused(peer, kFeature, feature(kFeatureGet | kFeatureMigration));
  expect_refused(peer, kFeature, get_state());
  expect_refused(peer, kFeature, set_state(kStateStop));
  expect_refused(peer, kFeature, feature(kFeatureGet | kFeatureDataSize));
  expect_refused(peer, kMigDataRead, mig_data_read(64));
  expect_refused(peer, kMigDataWrite, mig_data_write(pattern(64)));
  write_register<std::uint64_t>(peer, kScratch, 5);
  EXPECT_EQ(read_register(peer, kScratch), 5U);
  SUCCEED();
}

}  // namespace
}  // namespace gangway::hostile
