#include "devices/nvme/prp.h"

#include <gtest/gtest.h>

#include "unit/devices/nvme/host.h"

namespace gangway::nvme::test {
namespace {

class NvmePrp : public testing::Test {
 protected:
  NvmePrp() { ram_.map_into(dma_); }
  auto walk(std::uint64_t prp1, std::uint64_t prp2, std::uint32_t length) {
    return walker_.walk(dma_, prp1, prp2, length, 4096);
  }
  Status failure(std::uint64_t prp1, std::uint64_t prp2, std::uint32_t length) {
    const auto walked = walk(prp1, prp2, length);
    return walked ? Status::Success : walked.error();
  }

  DmaLog log_;
  DmaSpace dma_{log_};
  HostRam ram_;
  PrpWalker walker_;
};

using Segments = std::vector<DataSegment>;

Segments segments(std::expected<std::span<const DataSegment>, Status> walked) {
  EXPECT_TRUE(walked);
  return walked ? Segments(walked->begin(), walked->end()) : Segments();
}

TEST_F(NvmePrp, one_entry_reaches_to_the_end_of_its_page) {
  EXPECT_EQ(segments(walk(0x10f00, 0xdead'beef, 0x100)), (Segments{{{0x10f00}, 0x100}}));
}

TEST_F(NvmePrp, the_second_entry_takes_the_rest_of_two_pages) {
  EXPECT_EQ(segments(walk(0x10f00, 0x20000, 0x200)), (Segments{{{0x10f00}, 0x100}, {{0x20000}, 0x100}}));
}

TEST_F(NvmePrp, neighbouring_pages_are_joined) {
  EXPECT_EQ(segments(walk(0x10f00, 0x11000, 0x1100)), (Segments{{{0x10f00}, 0x1100}}));
}

TEST_F(NvmePrp, a_list_may_begin_anywhere_in_its_page) {
  const Iova list = ram_.allocate(4096) + 0xfe8;
  ram_.put(list, std::array<std::uint64_t, 3>{0x30000, 0x50000, 0x70000});
  EXPECT_EQ(segments(walk(0x10000, list.value, 4 * 4096)),
            (Segments{{{0x10000}, 4096}, {{0x30000}, 4096}, {{0x50000}, 4096}, {{0x70000}, 4096}}));
}

TEST_F(NvmePrp, the_last_entry_of_a_full_page_leads_to_the_next) {
  const Iova first = ram_.allocate(4096) + 0xff0;
  const Iova second = ram_.allocate(4096);
  ram_.put(first, std::array<std::uint64_t, 2>{0x30000, second.value});
  ram_.put(second, std::array<std::uint64_t, 2>{0x50000, 0x70000});
  EXPECT_EQ(segments(walk(0x10000, first.value, 3 * 4096 + 512)),
            (Segments{{{0x10000}, 4096}, {{0x30000}, 4096}, {{0x50000}, 4096}, {{0x70000}, 512}}));
}

TEST_F(NvmePrp, misaligned_entries_are_refused) {
  EXPECT_EQ(failure(0x10002, 0, 512), Status::InvalidPrpOffset);
  EXPECT_EQ(failure(0x10000, 0x20200, 8192), Status::InvalidPrpOffset);
  EXPECT_EQ(failure(0x10000, ram_.allocate(4096).value + 4, 3 * 4096), Status::InvalidPrpOffset);
  const Iova list = ram_.allocate(4096);
  ram_.put(list, std::array<std::uint64_t, 2>{0x30000, 0x50010});
  EXPECT_EQ(failure(0x10000, list.value, 3 * 4096), Status::InvalidPrpOffset);
}

TEST_F(NvmePrp, a_chain_pointer_with_an_offset_is_refused) {
  const Iova list = ram_.allocate(4096) + 0xff8;
  ram_.put(list, list.value);  // points at itself, and would bring no data for ever
  EXPECT_EQ(failure(0x10000, list.value, 3 * 4096), Status::InvalidPrpOffset);
}

TEST_F(NvmePrp, a_list_that_loops_ends_with_the_data) {
  const Iova list = ram_.allocate(4096);
  for (std::uint64_t entry = 0; entry < 512; ++entry) ram_.put(list + entry * 8, list.value);
  const auto walked = walk(0x10000, list.value, 16U << 20);
  ASSERT_TRUE(walked);
  std::uint64_t total = 0;
  for (const DataSegment& segment : *walked) total += segment.length;
  EXPECT_EQ(total, 16U << 20);
}

TEST_F(NvmePrp, a_list_outside_of_memory_is_a_transfer_error) {
  EXPECT_EQ(failure(0x10000, 0xffff'ffff'ffff'f000, 3 * 4096), Status::DataTransferError);
  EXPECT_EQ(failure(0x10000, 0x7000, 3 * 4096), Status::DataTransferError);
}

}  // namespace
}  // namespace gangway::nvme::test
