// WIR-REPLY, WIR-FRAME: a reply never exceeds what the client can take (its argsz), and says in argsz how much there
// is.
#include <algorithm>
#include <array>

#include "integration/hostile/hostile_test.h"

namespace gangway::hostile {
namespace {

using ArgszTest = HostileTest;

struct Query {
  std::string name;
  std::uint16_t command = 0;
  std::uint32_t full = 0;  // payload of the whole reply; 0: not asked about
  std::function<Bytes(std::uint32_t)> body;
};

std::vector<Query> queries() {
  const auto get = [](std::uint32_t index) {
    return [index](std::uint32_t argsz) { return feature(kFeatureGet | index, {}, argsz); };
  };
  return {
      {"DEVICE_GET_INFO", kGetInfo, 16, [](std::uint32_t argsz) { return get_info(argsz); }},
      {"DEVICE_GET_REGION_INFO", kGetRegionInfo, 32, [](std::uint32_t argsz) { return get_region_info(0, argsz); }},
      // Two areas that may be mapped: the capability's header, its count, two pairs.
      {"DEVICE_GET_REGION_INFO with capabilities", kGetRegionInfo, 32 + 16 + 2 * 16,
       [](std::uint32_t argsz) { return get_region_info(kMemory, argsz); }},
      {"DEVICE_GET_REGION_IO_FDS", kGetRegionIoFds, 16 + 40,
       [](std::uint32_t argsz) { return get_region_io_fds(0, argsz); }},
      {"DEVICE_GET_IRQ_INFO", kGetIrqInfo, 16, [](std::uint32_t argsz) { return get_irq_info(2, argsz); }},
      {"GET MIGRATION", kFeature, 16, get(kFeatureMigration)},
      {"GET MIG_DEVICE_STATE", kFeature, 16, get(kFeatureDeviceState)},
      {"GET MIG_DATA_SIZE", kFeature, 16, get(kFeatureDataSize)},
  };
}

TEST_F(ArgszTest, a_reply_never_exceeds_argsz) {
  ServedDevice& device = serve();
  RawPeer peer = connect(device);
  for (const Query& query : queries()) {
    for (std::uint32_t argsz = 0; argsz < query.full; ++argsz) {
      SCOPED_TRACE(testing::Message() << query.name << " with argsz " << argsz);
      const Message reply = peer.request(query.command, query.body(argsz));
      if (reply.failed()) continue;
      EXPECT_LE(reply.body.size(), argsz);
      EXPECT_EQ(field<std::uint32_t>(reply.body, 0), query.full) << "argsz tells the size that is needed";
    }
    expect_in_step(peer);
  }
}

TEST_F(ArgszTest, more_room_than_needed_gets_the_whole_reply_and_no_more) {
  ServedDevice& device = serve();
  RawPeer peer = connect(device);
  for (const Query& query : queries()) {
    for (const std::uint32_t argsz : {query.full, query.full + 1, 4096U, 1U << 31, kMax32}) {
      SCOPED_TRACE(testing::Message() << query.name << " with argsz " << argsz);
      const Message reply = peer.request(query.command, query.body(argsz));
      ASSERT_EQ(reply.error(), 0);
      EXPECT_EQ(reply.body.size(), query.full);
      EXPECT_EQ(field<std::uint32_t>(reply.body, 0), query.full);
    }
  }
}

TEST_F(ArgszTest, region_info_is_asked_for_twice_when_the_first_room_is_too_small) {
  ServedDevice& device = serve();
  RawPeer peer = connect(device);
  const Message first = peer.request(kGetRegionInfo, get_region_info(kMemory, 32));
  ASSERT_EQ(first.error(), 0) << "the structure alone must fit, or the client never learns how much it needs";
  ASSERT_EQ(first.body.size(), 32U);
  const auto needed = field<std::uint32_t>(first.body, 0);
  ASSERT_GT(needed, 32U);
  // The kernel leaves 0; a released client refuses an offset before the structure's end.
  const auto offset = field<std::uint32_t>(first.body, 12);
  EXPECT_TRUE(offset == 0 || offset >= 32) << "cap_offset " << offset << " points into the structure itself";
  const Message second = peer.request(kGetRegionInfo, get_region_info(kMemory, needed));
  ASSERT_EQ(second.body.size(), needed);
  EXPECT_EQ(field<std::uint32_t>(second.body, 12), 32U);
}

TEST_F(ArgszTest, feature_reports_and_migration_data_never_exceed_argsz) {
  ServedDevice& device = serve();
  RawPeer peer = connect(device);
  const std::array ranges{LoggedRange{.iova = 0, .length = 1U << 20}};
  expect_accepted(peer, kFeature, logging_start(4096, ranges));
  go_to(peer, kStateStopCopy);
  for (const std::uint32_t argsz : {0U, 1U, 7U, 8U, 9U, 31U, 32U, 39U, 63U, 64U, 65U, 4096U, kMax32}) {
    SCOPED_TRACE(testing::Message() << "argsz " << argsz);
    const Message report = peer.request(kFeature, logging_report(0, 1U << 20, 4096, argsz));
    EXPECT_TRUE(report.failed() || report.body.size() <= argsz);
    EXPECT_TRUE(argsz < 64 || (!report.failed() && report.body.size() == 64)) << "256 pages are 32 bytes of bitmap";
    const Message data = peer.request(kMigDataRead, mig_data_read(64, argsz));
    EXPECT_TRUE(data.failed() || data.body.size() <= argsz);
    EXPECT_TRUE(argsz < 72 || (!data.failed() && data.body.size() == 72)) << "there is a megabyte to read";
  }
  expect_in_step(peer);
}

TEST_F(ArgszTest, an_unmap_with_any_argsz_leaves_the_stream_in_step) {
  ServedDevice& device = serve();
  RawPeer peer = connect(device);
  for (const std::uint32_t argsz : {0U, 1U, 8U, 23U, 24U, 25U, 4096U, kMax32}) {
    SCOPED_TRACE(testing::Message() << "argsz " << argsz);
    expect_accepted(peer, kDmaMap, dma_map());
    const Message reply = peer.request(kDmaUnmap, dma_unmap({.argsz = argsz}));
    EXPECT_TRUE(reply.failed() || reply.body.size() <= argsz);
    EXPECT_EQ(device.endpoint().dma().map_count(), reply.failed() ? 1U : 0U) << "refused or done, not both";
    if (reply.failed()) expect_accepted(peer, kDmaUnmap, dma_unmap());
  }
}

TEST_F(ArgszTest, an_argsz_that_is_not_the_requests_size_does_not_matter_where_there_is_no_reply_payload) {
  ServedDevice& device = serve();
  RawPeer peer = connect(device);
  const SetIrqs unassign{.flags = kIrqNone | kIrqTrigger, .count = 0};
  for (const std::uint32_t argsz : {0U, 1U, 19U, 20U, 31U, 32U, 33U, 4096U, kMax32}) {
    SCOPED_TRACE(testing::Message() << "argsz " << argsz);
    peer.post(kSetIrqs, set_irqs(unassign, argsz));
    expect_in_step(peer);
    const Message map = peer.request(kDmaMap, dma_map({.argsz = argsz}));
    EXPECT_EQ(device.endpoint().dma().map_count(), map.failed() ? 0U : 1U);
    if (!map.failed()) expect_accepted(peer, kDmaUnmap, dma_unmap());
  }
}

}  // namespace
}  // namespace gangway::hostile
