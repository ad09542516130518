// What is there by negotiation only, and what a command has by a flag or with descriptors: payloads too short and too
// long, replies that are not wanted, numbers that do not fit (WIR-FRAME, WIR-NOREPLY, WIR-FDS).
#include <algorithm>
#include <cerrno>

#include "integration/hostile/command_cases.h"
#include "integration/hostile/hostile_test.h"

namespace gangway::hostile {
namespace {

// docs/vfio-user.md, "What gangway adds".
constexpr std::string_view kEverything =
    R"({"capabilities":{"max_msg_fds":8,"gangway":{"enomsg":true,"precopy_info":true,"shared_data":true}}})";
constexpr std::uint16_t kReadShared = 0xff01;
constexpr std::uint16_t kWriteShared = 0xff02;
constexpr std::uint32_t kFeaturePrecopyInfoV2 = 12;
constexpr std::uint32_t kFeaturePrecopyInfo = 0xff00;
constexpr std::uint32_t kFeatureSharedData = 0xff01;

struct NegotiatedCase : CommandCase {
  std::uint32_t state = kStateRunning;  // where it is carried out
};

Bytes shared(std::uint32_t size, std::uint64_t offset) { return Fields().u32(16).u32(size).u64(offset).take(); }

std::vector<NegotiatedCase> negotiated() {
  const DmaUnmap unmap{.flags = kUnmapDirtyBitmap, .argsz = 48};
  return {
      {{"SET PRECOPY_INFOv2", kFeature, feature(kFeatureSet | kFeaturePrecopyInfoV2, {}, 8), 8}, kStateRunning},
      {{"PROBE PRECOPY_INFOv2", kFeature, feature(kFeatureProbe | kFeatureSet | kFeaturePrecopyInfoV2, {}, 8), 8},
       kStateRunning},
      {{"GET PRECOPY_INFO", kFeature, feature(kFeatureGet | kFeaturePrecopyInfo, {}, 32), 8}, kStatePreCopy},
      {{"PROBE PRECOPY_INFO", kFeature, feature(kFeatureProbe | kFeatureGet | kFeaturePrecopyInfo, {}, 8), 8},
       kStateRunning},
      {{"GET SHARED_DATA", kFeature, feature(kFeatureGet | kFeatureSharedData, {}, 16), 8}, kStateRunning},
      {{"PROBE SHARED_DATA", kFeature, feature(kFeatureProbe | kFeatureGet | kFeatureSharedData, {}, 8), 8},
       kStateRunning},
      {{"MIG_DATA_READ_SHARED", kReadShared, shared(64, 0), 16}, kStatePreCopy},
      {{"MIG_DATA_WRITE_SHARED", kWriteShared, shared(64, 0), 16}, kStateResuming},
      {{"DMA_UNMAP with a bitmap", kDmaUnmap, dma_unmap_bitmap(unmap, 4096, 8), 40}, kStateRunning},
      {{"GET_REGION_INFO of what may be mapped", kGetRegionInfo, get_region_info(kMemory), 12}, kStateRunning},
  };
}

class NegotiatedTest : public HostileTest {
 protected:
  void SetUp() override {
    HostileTest::SetUp();
    device_ = &serve({.memory_size = 64U << 10});
  }
  // A client in the state of the case, with a mapping that is logged.
  [[nodiscard]] RawPeer ready_for(const NegotiatedCase& test) {
    RawPeer peer(device_->socket());
    peer.negotiate(kEverything);
    expect_accepted(peer, kDmaMap, dma_map());
    expect_accepted(peer, kFeature, logging_start(4096, {}));
    if (test.command == kReadShared || test.command == kWriteShared) {
      EXPECT_FALSE(peer.request(kFeature, feature(kFeatureGet | kFeatureSharedData, {}, 16)).failed());
    }
    if (test.state != kStateRunning) go_to(peer, test.state);
    return peer;
  }

  ServedDevice* device_ = nullptr;
};

TEST_F(NegotiatedTest, whatever_is_short_is_refused_and_the_right_one_is_served_after_it) {
  for (const NegotiatedCase& test : negotiated()) {
    RawPeer peer = ready_for(test);
    for (std::size_t size = 0; size < test.needed; ++size) {
      SCOPED_TRACE(testing::Message() << test.name << " with " << size << " of " << test.needed << " bytes");
      expect_refused(peer, test.command, std::span(test.body).first(size), {EINVAL});
    }
    EXPECT_EQ(state_of(peer), test.state) << test.name;
    EXPECT_EQ(device_->endpoint().dma().map_count(), 1U) << test.name;
    // A load refuses what is no stream, which is no matter of the payload's shape.
    if (test.command == kWriteShared) continue;
    SCOPED_TRACE(test.name);
    expect_accepted(peer, test.command, test.body);
  }
}

TEST_F(NegotiatedTest, whatever_is_long_leaves_the_stream_in_step) {
  for (const NegotiatedCase& test : negotiated()) {
    RawPeer peer = ready_for(test);
    for (const std::size_t extra : {1U, 8U, 4096U, 65536U}) {
      SCOPED_TRACE(testing::Message() << test.name << " with " << extra << " bytes too many");
      peer.post(test.command, joined(test.body, pattern(extra)));
      expect_in_step(peer);
    }
  }
}

// The fixture finds every descriptor that a reply would have brought closed.
TEST_F(NegotiatedTest, nothing_is_answered_that_wants_no_reply) {
  for (const NegotiatedCase& test : negotiated()) {
    SCOPED_TRACE(test.name);
    RawPeer peer = ready_for(test);
    const auto expect_silence = [&](std::span<const std::byte> body) {
      peer.post(test.command, body, {}, kNoReply);
      const std::uint16_t asked = peer.post(kGetInfo, get_info());
      const auto next = peer.receive_reply();
      ASSERT_TRUE(next) << "closed";
      EXPECT_EQ(next->header.id, asked);
      EXPECT_TRUE(next->fds.empty());
    };
    expect_silence(test.body);
    expect_silence(test.body);  // the second unmap fails
    expect_silence(std::span(test.body).first(test.needed - 1));
    expect_silence({});
  }
}

TEST_F(NegotiatedTest, an_argsz_without_room_for_the_reply_has_no_effect) {
  for (const NegotiatedCase& test : negotiated()) {
    if (test.command == kGetRegionInfo) continue;  // has the growth protocol instead
    if (test.command == kWriteShared) continue;    // whose reply has no payload
    RawPeer peer = ready_for(test);
    // Of a feature the reply is longer than the request by what it tells; of the others it is as long or shorter.
    const std::uint32_t enough = test.command == kDmaUnmap ? 48 : field<std::uint32_t>(test.body, 0);
    for (std::uint32_t argsz = 0; argsz < enough; ++argsz) {
      SCOPED_TRACE(testing::Message() << test.name << " with argsz " << argsz << " of " << enough);
      Bytes body = test.body;
      std::ranges::copy(Fields().u32(argsz).take(), body.begin());
      expect_refused(peer, test.command, body, {EINVAL});
    }
    EXPECT_EQ(device_->endpoint().dma().map_count(), 1U) << test.name;
  }
}

TEST_F(NegotiatedTest, what_one_client_negotiated_the_next_does_not_have) {
  const NegotiatedCase opt_in = negotiated().front();
  {
    RawPeer first = ready_for(opt_in);
    first.post(opt_in.command, opt_in.body, {}, kNoReply);
    go_to(first, kStatePreCopy);
    EXPECT_FALSE(first.request(kFeature, feature(kFeatureGet | kFeaturePrecopyInfo, {}, 32)).failed());
  }
  expect_like_new(*device_);
  RawPeer plain = connect(*device_);
  go_to(plain, kStatePreCopy);
  for (const NegotiatedCase& test : negotiated()) {
    if (test.command != kFeature && test.command != kReadShared && test.command != kWriteShared) continue;
    SCOPED_TRACE(test.name);
    expect_refused(plain, test.command, test.body, {ENOTTY, ENOTSUP});
    expect_refused(plain, test.command, {}, {EINVAL, ENOTSUP});
  }
}

}  // namespace
}  // namespace gangway::hostile
