// WIR-FRAME: counts and sizes that overflow 32 or 64 bits when they are added or multiplied.
#include <array>
#include <cerrno>

#include "integration/hostile/hostile_test.h"

namespace gangway::hostile {
namespace {

using OverflowTest = HostileTest;

struct Access {
  std::uint64_t offset;
  std::uint32_t count;
};

TEST_F(OverflowTest, a_region_access_that_ends_beyond_the_region_or_wraps_is_refused) {
  ServedDevice& device = serve();
  RawPeer peer = connect(device);
  constexpr std::array kAccesses{
      Access{kRegistersSize, 1},
      Access{kRegistersSize - 1, 2},
      Access{kRegistersSize - 4, 8},
      Access{0, kRegistersSize + 1},
      Access{kMax64, 1},
      Access{kMax64 - 3, 8},
      Access{kMax64 - 7, 8},
      Access{1ULL << 63, 4},
      Access{1ULL << 32, 4},
      Access{(1ULL << 32) + 8, 8},
      Access{0xfffffffcULL, 8},
      Access{kMax64 - kRegistersSize + 1, 0x1000},
  };
  for (const Access& access : kAccesses) {
    SCOPED_TRACE(testing::Message() << access.count << " bytes at " << access.offset);
    for (const std::uint32_t region : {kRegisters, kConfig, kMsixBar, kMemory}) {
      // The memory is larger than the registers: there only the wrapping ones are out.
      if (region == kMemory && access.offset < kMemorySize) continue;
      expect_refused(peer, kRegionRead, region_read(region, access.offset, access.count), {EINVAL});
      expect_refused(peer, kRegionWrite, region_write(region, access.offset, Bytes(access.count)), {EINVAL});
    }
  }
}

TEST_F(OverflowTest, a_region_read_of_more_than_a_transfer_is_refused) {
  ServedDevice& device = serve();
  RawPeer peer = connect(device);
  for (const std::uint32_t count : {(1U << 20) + 1, 1U << 31, kMax32 - 15, kMax32 - 16, kMax32}) {
    SCOPED_TRACE(testing::Message() << "count " << count);
    expect_refused(peer, kRegionRead, region_read(kMemory, 0, count), {EINVAL, E2BIG});
  }
}

TEST_F(OverflowTest, a_region_that_does_not_exist_is_refused) {
  ServedDevice& device = serve();
  RawPeer peer = connect(device);
  for (const std::uint32_t region : {kRegions, 10U, 255U, 1U << 16, 1U << 31, kMax32}) {
    SCOPED_TRACE(testing::Message() << "region " << region);
    expect_refused(peer, kRegionRead, region_read(region, 0, 4), {EINVAL});
    expect_refused(peer, kRegionWrite, region_write(region, 0, pattern(4)), {EINVAL});
    expect_refused(peer, kGetRegionInfo, get_region_info(region), {EINVAL});
    expect_refused(peer, kGetRegionIoFds, get_region_io_fds(region), {EINVAL});
    const std::array writes{SingleWrite{.offset = 0, .region = region}};
    expect_refused(peer, kRegionWriteMulti, region_write_multi(1, writes), {EINVAL});
  }
  for (const std::uint32_t index : {5U, 6U, 255U, 1U << 31, kMax32}) {
    SCOPED_TRACE(testing::Message() << "interrupt index " << index);
    expect_refused(peer, kGetIrqInfo, get_irq_info(index), {EINVAL});
  }
}

TEST_F(OverflowTest, accesses_of_no_bytes_leave_the_stream_in_step) {
  ServedDevice& device = serve();
  RawPeer peer = connect(device);
  for (const std::uint64_t offset : std::vector<std::uint64_t>{0, kRegistersSize, kMax64}) {
    for (const std::uint32_t region : {kRegisters, kConfig, kMemory, 99U}) {
      peer.post(kRegionRead, region_read(region, offset, 0));
      peer.post(kRegionWrite, region_write(region, offset, {}));
      expect_in_step(peer);
    }
  }
}

TEST_F(OverflowTest, a_count_of_coalesced_writes_that_overflows_is_refused) {
  ServedDevice& device = serve();
  RawPeer peer = connect(device);
  const std::array one{SingleWrite{.offset = kScratch}};
  // 24 bytes a write: these counts are 1 or 0 once 24 times them is cut to 64, or to 32 bits.
  for (const std::uint64_t count :
       std::vector<std::uint64_t>{1 + (1ULL << 61), 1ULL << 61, 7 * (1ULL << 61) + 1, 1 + (1ULL << 29), 1ULL << 32,
                                  (1ULL << 32) + 1, kMax64, kMax64 / 24, kMax64 / 24 + 1, 2}) {
    SCOPED_TRACE(testing::Message() << "count " << count);
    expect_refused(peer, kRegionWriteMulti, region_write_multi(count, one), {EINVAL, E2BIG});
  }
  EXPECT_EQ(read_register(peer, kWrites), 0U) << "a write of a refused message was carried out";
}

TEST_F(OverflowTest, a_coalesced_write_of_more_than_its_eight_bytes_is_refused) {
  ServedDevice& device = serve();
  RawPeer peer = connect(device);
  for (const std::uint32_t count : {9U, 16U, 24U, 1U << 31, kMax32}) {
    SCOPED_TRACE(testing::Message() << "count " << count);
    const std::array writes{SingleWrite{.offset = 0, .region = kMemory, .count = count}};
    expect_refused(peer, kRegionWriteMulti, region_write_multi(1, writes), {EINVAL});
  }
}

TEST_F(OverflowTest, no_coalesced_writes_at_all_leave_the_stream_in_step) {
  ServedDevice& device = serve();
  RawPeer peer = connect(device);
  peer.post(kRegionWriteMulti, region_write_multi(0, {}));
  expect_in_step(peer);
}

TEST_F(OverflowTest, a_count_of_logged_ranges_that_overflows_is_refused) {
  ServedDevice& device = serve();
  RawPeer peer = connect(device);
  const std::array one{LoggedRange{.iova = 0, .length = 0x1000}};
  // 16 bytes a range: these counts are 1 once 16 times them is cut to 32 bits.
  for (const std::uint32_t count : {0x10000001U, 0x20000001U, 0xf0000001U, 2U, 1U << 20, 1U << 31, kMax32}) {
    SCOPED_TRACE(testing::Message() << "count " << count);
    expect_refused(peer, kFeature, logging_start(4096, count, one), {EINVAL, E2BIG});
  }
  EXPECT_FALSE(device.endpoint().log().started());
}

TEST_F(OverflowTest, a_dirty_bitmap_of_absurd_size_is_refused) {
  ServedDevice& device = serve();
  RawPeer peer = connect(device);
  const std::array one{LoggedRange{.iova = 0, .length = 0x100000}};
  expect_accepted(peer, kFeature, logging_start(4096, one));
  expect_accepted(peer, kDmaMap, dma_map());
  const DmaUnmap unmap{.flags = kUnmapDirtyBitmap, .argsz = kMax32};
  for (const std::uint64_t size :
       std::vector<std::uint64_t>{kMax64, kMax64 - 7, 1ULL << 63, 1ULL << 32, (1ULL << 32) + 8, 1ULL << 40}) {
    SCOPED_TRACE(testing::Message() << "bitmap size " << size);
    const Message reply = peer.request(kDmaUnmap, dma_unmap_bitmap(unmap, 4096, size));
    EXPECT_TRUE(reply.failed()) << "a bitmap of " << reply.body.size() << " bytes came back";
    expect_in_step(peer);
    EXPECT_EQ(device.endpoint().dma().map_count(), 1U) << "a refused unmap unmaps nothing";
  }
  for (const std::uint64_t page_size : std::vector<std::uint64_t>{0, 1, 4095, 12288, 1ULL << 63, kMax64}) {
    SCOPED_TRACE(testing::Message() << "bitmap page size " << page_size);
    peer.post(kDmaUnmap, dma_unmap_bitmap(unmap, page_size, 8));
    expect_in_step(peer);
    if (device.endpoint().dma().map_count() == 0) expect_accepted(peer, kDmaMap, dma_map());
  }
}

}  // namespace
}  // namespace gangway::hostile
