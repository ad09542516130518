// LOG-START, LOG-REPORT over the wire: nonsense ranges, absurd reports.
#include <algorithm>
#include <array>
#include <cerrno>

#include "integration/hostile/hostile_test.h"
#include "integration/hostile/memory_file.h"

namespace gangway::hostile {
namespace {

using DmaLogTest = HostileTest;

TEST_F(DmaLogTest, ranges_that_make_no_sense_are_refused_and_nothing_starts) {
  ServedDevice& device = serve();
  RawPeer peer = connect(device);
  struct Case {
    std::string what;
    std::vector<LoggedRange> ranges;
    std::vector<int> errors;
  };
  const std::array cases{
      Case{"empty", {{0x10000, 0}}, {EINVAL}},
      Case{"start misaligned", {{0x10001, 0x1000}}, {EINVAL}},
      Case{"length misaligned", {{0x10000, 0x1001}}, {EINVAL}},
      Case{"the same twice", {{0x10000, 0x1000}, {0x10000, 0x1000}}, {EINVAL}},
      Case{"overlapping", {{0x10000, 0x3000}, {0x12000, 0x3000}}, {EINVAL}},
      Case{"overlapping, out of order", {{0x50000, 0x1000}, {0x12000, 0x3000}, {0x10000, 0x3000}}, {EINVAL}},
      Case{"wrapping", {{0xfffffffffffff000, 0x2000}}, {EOVERFLOW, EINVAL}},
      Case{"wrapping to zero length", {{0x1000, 0xfffffffffffff000}}, {}},
      Case{"the last of several wraps", {{0x1000, 0x1000}, {0xfffffffffffff000, 0x3000}}, {EOVERFLOW, EINVAL}},
  };
  for (const Case& test : cases) {
    SCOPED_TRACE(test.what);
    const Message reply = peer.request(kFeature, logging_start(4096, test.ranges));
    if (!test.errors.empty()) {
      EXPECT_TRUE(std::ranges::find(test.errors, reply.error()) != test.errors.end()) << "errno " << reply.error();
    }
    if (!reply.failed()) expect_accepted(peer, kFeature, logging_stop());
    EXPECT_FALSE(device.endpoint().log().started());
    expect_in_step(peer);
  }
}

TEST_F(DmaLogTest, any_page_size_is_a_hint) {
  ServedDevice& device = serve();
  RawPeer peer = connect(device);
  const std::array ranges{LoggedRange{.iova = 0, .length = 0x100000}};
  for (const std::uint64_t page_size :
       std::vector<std::uint64_t>{0, 1, 3, 4095, 4097, 1ULL << 20, 1ULL << 63, kMax64}) {
    SCOPED_TRACE(testing::Message() << "page size " << page_size);
    const Message reply = peer.request(kFeature, logging_start(page_size, ranges));
    if (reply.failed()) {
      expect_in_step(peer);
      continue;
    }
    const auto used = field<std::uint64_t>(reply.body, 8);  // "On output the device will return the page size"
    EXPECT_TRUE(used >= 4096 && (used & (used - 1)) == 0) << used;
    expect_accepted(peer, kFeature, logging_stop());
  }
}

TEST_F(DmaLogTest, as_many_ranges_as_fit_are_taken_and_more_are_refused) {
  ServedDevice& device = serve();
  RawPeer peer = connect(device);
  std::vector<LoggedRange> ranges;
  for (std::uint64_t i = 0; i < DmaLog::kMaxRanges + 1; ++i) ranges.push_back({.iova = i * 0x2000, .length = 0x1000});
  expect_refused(peer, kFeature, logging_start(4096, ranges), {E2BIG});
  EXPECT_FALSE(device.endpoint().log().started());
  ranges.pop_back();
  expect_accepted(peer, kFeature, logging_start(4096, ranges));
}

TEST_F(DmaLogTest, a_million_ranges_are_refused_or_end_the_connection) {
  ServedDevice& device = serve();
  RawPeer peer = connect(device);
  std::vector<LoggedRange> ranges(1U << 20);
  for (std::uint64_t i = 0; i < ranges.size(); ++i) ranges[i] = {.iova = i * 0x2000, .length = 0x1000};
  const Bytes body = logging_start(4096, ranges);
  peer.post(kFeature, body);
  expect_in_step_or_closed(peer);
  EXPECT_FALSE(device.endpoint().log().started());
}

TEST_F(DmaLogTest, starting_twice_and_stopping_twice_are_refused) {
  ServedDevice& device = serve();
  RawPeer peer = connect(device);
  const std::array ranges{LoggedRange{.iova = 0, .length = 0x1000}};
  expect_refused(peer, kFeature, logging_stop());
  expect_refused(peer, kFeature, logging_report(0, 0x1000, 4096));
  expect_accepted(peer, kFeature, logging_start(4096, ranges));
  expect_refused(peer, kFeature, logging_start(4096, ranges));
  EXPECT_TRUE(device.endpoint().log().started());
  expect_accepted(peer, kFeature, logging_stop());
  expect_refused(peer, kFeature, logging_stop());
  expect_refused(peer, kFeature, logging_report(0, 0x1000, 4096));
}

TEST_F(DmaLogTest, absurd_reports_are_refused) {
  ServedDevice& device = serve();
  RawPeer peer = connect(device);
  const std::array ranges{LoggedRange{.iova = 0, .length = 0x100000}};
  expect_accepted(peer, kFeature, logging_start(4096, ranges));
  struct Case {
    std::uint64_t iova;
    std::uint64_t length;
    std::uint64_t page_size;
  };
  constexpr std::array kCases{
      Case{0, 0, 4096},
      Case{0, 0x1000, 0},
      Case{0, 0x1000, 1},
      Case{0, 0x1000, 2048},
      Case{0, 0x1000, 4097},
      Case{0, 0x1000, 12288},
      Case{0, 0x1000, kMax64},
      Case{0xfffffffffffff000, 0x2000, 4096},
      Case{kMax64, kMax64, 4096},
      Case{0x1000, kMax64, 4096},
      Case{0, kMax64, 4096},            // a bitmap of 2^49 bytes
      Case{0, 1ULL << 63, 4096},        // of 2^48
      Case{0, 1ULL << 52, 4096},        // of 2^37
      Case{0, (1ULL << 47) + 1, 4096},  // of 2^32, more than a message can be
  };
  for (const Case& test : kCases) {
    SCOPED_TRACE(testing::Message() << test.length << " bytes from " << test.iova << " by " << test.page_size);
    expect_refused(peer, kFeature, logging_report(test.iova, test.length, test.page_size, kMax32));
  }
  EXPECT_TRUE(device.endpoint().log().started()) << "a refused report changes nothing";
}

TEST_F(DmaLogTest, reports_of_odd_shape_stay_in_step) {
  ServedDevice& device = serve();
  RawPeer peer = connect(device);
  const std::array ranges{LoggedRange{.iova = 0x100000, .length = 0x100000}};
  expect_accepted(peer, kFeature, logging_start(4096, ranges));
  for (const std::uint64_t page_size : std::vector<std::uint64_t>{1ULL << 12, 1ULL << 20, 1ULL << 40, 1ULL << 63}) {
    for (const std::uint64_t iova : std::vector<std::uint64_t>{0, 0x1001, 0x1ff000, 1ULL << 62}) {
      for (const std::uint64_t length : std::vector<std::uint64_t>{1, 0x1001, 0x1000000}) {
        SCOPED_TRACE(testing::Message() << length << " bytes from " << iova << " by " << page_size);
        const Message reply = peer.request(kFeature, logging_report(iova, length, page_size));
        if (reply.failed()) continue;
        const std::uint64_t pages = length / page_size + (length % page_size != 0 ? 1 : 0);
        EXPECT_EQ(reply.body.size(), 32 + (pages + 63) / 64 * 8) << "one bit a page, in whole words";
      }
    }
  }
  expect_in_step(peer);
}

TEST_F(DmaLogTest, a_refused_report_loses_no_dirty_page) {
  ServedDevice& device = serve();
  RawPeer peer = connect(device);
  const Fd file = memory_file(0x10000);
  expect_accepted(peer, kDmaMap, dma_map({.address = 0, .size = 0x10000}), {file.get()});
  const std::array ranges{LoggedRange{.iova = 0, .length = 0x10000}};
  expect_accepted(peer, kFeature, logging_start(4096, ranges));
  ASSERT_EQ(run_dma(peer, 0x3000, 16, kCopyOut), 0U);
  expect_refused(peer, kFeature, logging_report(0, 0x10000, 0));
  const Message small = peer.request(kFeature, logging_report(0, 0x10000, 4096, 39));  // the bitmap does not fit
  EXPECT_LE(small.body.size(), 39U);
  const Message reply = peer.request(kFeature, logging_report(0, 0x10000, 4096));
  ASSERT_EQ(reply.body.size(), 40U);
  EXPECT_EQ(field<std::uint64_t>(reply.body, 32), 1U << 3) << "LOG-EXACT";
}

}  // namespace
}  // namespace gangway::hostile
