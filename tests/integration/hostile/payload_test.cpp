// WIR-FRAME, WIR-SHAPE: payloads too short and too long for every command and every feature, and the shape of what
// comes back for a right one.
#include <algorithm>
#include <array>
#include <cerrno>

#include "integration/hostile/command_cases.h"
#include "integration/hostile/hostile_test.h"

namespace gangway::hostile {
namespace {

using PayloadTest = HostileTest;

void expect_short_ones_refused(RawPeer& peer, const CommandCase& test) {
  for (std::size_t size = 0; size < test.needed; ++size) {
    SCOPED_TRACE(testing::Message() << test.name << " with " << size << " of " << test.needed << " bytes");
    expect_refused(peer, test.command, std::span(test.body).first(size), {EINVAL});
  }
}

TEST_F(PayloadTest, every_command_with_a_short_payload_is_refused) {
  ServedDevice& device = serve();
  RawPeer peer = connect(device);
  for (const CommandCase& test : all_commands()) {
    // GET_INFO and its like need no more of the request than argsz and what they ask about.
    if (test.command == kGetRegionInfo || test.command == kGetInfo) continue;
    expect_short_ones_refused(peer, test);
  }
  expect_short_ones_refused(peer, {"DEVICE_GET_INFO", kGetInfo, get_info(), 4});
  expect_short_ones_refused(peer, {"DEVICE_GET_REGION_INFO", kGetRegionInfo, get_region_info(0), 12});
  EXPECT_EQ(device.endpoint().dma().map_count(), 0U);
}

TEST_F(PayloadTest, a_query_that_stops_short_of_its_structure_leaves_the_stream_in_step) {
  ServedDevice& device = serve();
  RawPeer peer = connect(device);
  for (std::size_t size = 4; size < 16; ++size) {
    peer.post(kGetInfo, std::span<const std::byte>(get_info()).first(size));
    expect_in_step(peer);
  }
  for (std::size_t size = 12; size < 32; ++size) {
    peer.post(kGetRegionInfo, std::span<const std::byte>(get_region_info(0)).first(size));
    expect_in_step(peer);
  }
}

TEST_F(PayloadTest, every_feature_with_a_short_payload_is_refused) {
  ServedDevice& device = serve();
  RawPeer peer = connect(device);
  for (const CommandCase& test : all_features()) expect_short_ones_refused(peer, test);
  EXPECT_EQ(state_of(peer), kStateRunning);
  EXPECT_FALSE(device.endpoint().log().started());
}

TEST_F(PayloadTest, migration_data_with_a_short_payload_is_refused) {
  ServedDevice& device = serve();
  RawPeer peer = connect(device);
  go_to(peer, kStateStopCopy);
  expect_short_ones_refused(peer, {"MIG_DATA_READ", kMigDataRead, mig_data_read(64), 8});
  go_to(peer, kStateStop);
  go_to(peer, kStateResuming);
  expect_short_ones_refused(peer, {"MIG_DATA_WRITE", kMigDataWrite, mig_data_write(pattern(64)), 72});
}

TEST_F(PayloadTest, a_payload_longer_than_the_command_leaves_the_stream_in_step) {
  ServedDevice& device = serve();
  std::vector<CommandCase> tests = all_commands();
  std::ranges::copy(all_features(), std::back_inserter(tests));
  for (const CommandCase& test : tests) {
    for (const std::size_t extra : {1U, 8U, 4096U, 65536U}) {
      SCOPED_TRACE(testing::Message() << test.name << " with " << extra << " bytes too many");
      RawPeer peer = connect(device);
      peer.post(test.command, joined(test.body, pattern(extra)));
      expect_in_step(peer);
    }
  }
}

TEST_F(PayloadTest, a_payload_of_the_greatest_legal_size_leaves_the_stream_in_step) {
  ServedDevice& device = serve();
  RawPeer peer = connect(device);
  const Bytes zeros((1U << 20) + 16);
  for (const CommandCase& test : all_commands()) {
    SCOPED_TRACE(test.name);
    peer.post(test.command, zeros);
    expect_in_step(peer);
  }
}

TEST_F(PayloadTest, a_write_whose_count_is_not_its_data_is_refused) {
  ServedDevice& device = serve();
  RawPeer peer = connect(device);
  const Bytes data = pattern(8);
  for (const std::uint32_t count : {9U, 16U, 4096U, 1U << 20, (1U << 20) + 1, 1U << 31, kMax32}) {
    SCOPED_TRACE(testing::Message() << "count " << count);
    expect_refused(peer, kRegionWrite, region_write(kRegisters, kScratch, count, data), {EINVAL, E2BIG});
  }
  EXPECT_EQ(read_register(peer, kWrites), 0U);
  // Fewer bytes counted than sent: nothing is written beyond the count.
  peer.post(kRegionWrite, region_write(kMemory, 0, 4, data));
  expect_in_step(peer);
  const Message read = peer.request(kRegionRead, region_read(kMemory, 4, 4));
  EXPECT_EQ(field<std::uint32_t>(read.body, 16), 0U);
}

TEST_F(PayloadTest, replies_have_the_shape_that_the_specification_gives) {
  ServedDevice& device = serve();
  RawPeer peer = connect(device);
  const auto size_of = [&peer](std::uint16_t command, const Bytes& body) {
    const Message reply = peer.request(command, body);
    EXPECT_EQ(reply.error(), 0) << "command " << command;
    return reply.body.size();
  };
  const Bytes data = pattern(8);
  const std::array<SingleWrite, 1> writes{SingleWrite{.offset = kScratch}};
  EXPECT_EQ(size_of(kDmaMap, dma_map()), 0U);
  EXPECT_EQ(peer.request(kDmaUnmap, dma_unmap()).body, dma_unmap()) << "the request's DMA entry comes back";
  EXPECT_EQ(size_of(kGetInfo, get_info()), 16U);
  EXPECT_EQ(size_of(kGetRegionInfo, get_region_info(kRegisters)), 32U) << "a region without capabilities";
  EXPECT_EQ(size_of(kGetIrqInfo, get_irq_info(2)), 16U);
  EXPECT_EQ(size_of(kSetIrqs, set_irqs({.flags = kIrqNone | kIrqTrigger, .count = 0})), 0U);
  EXPECT_EQ(size_of(kRegionRead, region_read(kRegisters, kScratch, 8)), 24U);
  EXPECT_EQ(size_of(kRegionWrite, region_write(kRegisters, kScratch, data)), 16U);
  EXPECT_EQ(size_of(kRegionWriteMulti, region_write_multi(1, writes)), 8U);
  EXPECT_EQ(size_of(kReset, {}), 0U);
  EXPECT_EQ(size_of(kFeature, feature(kFeatureGet | kFeatureMigration)), 16U);
  EXPECT_EQ(size_of(kFeature, get_state()), 16U);
  EXPECT_EQ(size_of(kFeature, feature(kFeatureGet | kFeatureDataSize)), 16U);
  // "The reply payload must be the same as the request payload for setting or probing a feature."
  EXPECT_EQ(peer.request(kFeature, set_state(kStateStop)).body, set_state(kStateStop));
  const Bytes probe = feature(kFeatureProbe | kFeatureGet | kFeatureMigration);
  EXPECT_EQ(peer.request(kFeature, probe).body, probe);
  EXPECT_EQ(size_of(kFeature, set_state(kStateResuming)), 16U);
  EXPECT_EQ(size_of(kMigDataWrite, mig_data_write(data)), 0U);
}

}  // namespace
}  // namespace gangway::hostile
