#include <gangway/dma_log.h>

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <set>
#include <thread>
#include <vector>

#include "unit/device/matchers.h"

namespace gangway {
namespace {

using test::FailsWith;
using test::IsOk;

constexpr std::uint64_t kPage = 4096;
constexpr std::uint64_t kGiB = std::uint64_t{1} << 30;
constexpr std::size_t kAnySize = std::size_t{1} << 40;

std::set<std::uint64_t> bits_of(const DirtyReport& report) {
  std::set<std::uint64_t> bits;
  for (const DirtyReport::Extent& extent : report.extents) {
    for (std::size_t i = 0; i < extent.words.size(); ++i) {
      for (unsigned bit = 0; bit < 64; ++bit) {
        if ((extent.words[i] >> bit & 1) != 0) bits.insert((extent.first_word + i) * 64 + bit);
      }
    }
  }
  return bits;
}

std::set<std::uint64_t> dirty(DmaLog& log, IovaRange range, std::uint64_t page_size = kPage) {
  auto report = log.report(range, page_size, kAnySize);
  EXPECT_THAT(report, IsOk());
  return report ? bits_of(*report) : std::set<std::uint64_t>{};
}

using Bits = std::set<std::uint64_t>;

void start(DmaLog& log, IovaRange range, std::uint64_t hint = 0) { ASSERT_THAT(log.start({&range, 1}, hint), IsOk()); }

// LOG-START
TEST(DmaLogStart, refuses_what_linux_refuses) {
  struct Case {
    std::vector<IovaRange> ranges;
    std::uint64_t hint;
    int code;
  };
  const std::vector<Case> cases{
      {{}, 0, EINVAL},
      {std::vector<IovaRange>(DmaLog::kMaxRanges + 1, {Iova{0}, kPage}), 0, E2BIG},
      {{{Iova{0}, 0}}, 0, EINVAL},
      {{{Iova{1}, kPage}}, 0, EINVAL},
      {{{Iova{0}, kPage + 1}}, 0, EINVAL},
      {{{Iova{kPage}, kPage}}, 2 * kPage, EINVAL},
      {{{Iova{0}, 2 * kPage}, {Iova{kPage}, kPage}}, 0, EINVAL},
      {{{Iova{kPage}, kPage}, {Iova{kPage}, kPage}}, 0, EINVAL},
      {{{Iova{~std::uint64_t{0} - kPage + 1}, 2 * kPage}}, 0, EOVERFLOW},
      {{{Iova{~std::uint64_t{0} - kPage + 1}, kPage}}, 0, EOVERFLOW},  // its end is 2^64, as Linux counts
  };
  for (const Case& c : cases) {
    DmaLog log;
    EXPECT_THAT(log.start(c.ranges, c.hint), FailsWith(c.code));
    EXPECT_FALSE(log.started());
  }
}

// LOG-START
TEST(DmaLogStart, returns_the_page_size_used) {
  for (const auto& [hint, used] : std::vector<std::pair<std::uint64_t, std::uint64_t>>{
           {0, 4096}, {1, 4096}, {2048, 4096}, {4096, 4096}, {5000, 4096}, {65536, 65536}, {1 << 21, 1 << 21}}) {
    DmaLog log;
    const IovaRange range{Iova{0}, kGiB};
    EXPECT_EQ(log.start({&range, 1}, hint), used) << "hint " << hint;
  }
}

// LOG-START
TEST(DmaLogStart, a_second_start_fails_and_the_first_goes_on) {
  DmaLog log;
  start(log, {Iova{0}, kGiB});
  const IovaRange other{Iova{0}, kPage};
  EXPECT_THAT(log.start({&other, 1}, 0), FailsWith(EALREADY));
  EXPECT_THAT(log.start_all(0), FailsWith(EALREADY));
  log.mark(Iova{5 * kPage}, 1);
  EXPECT_EQ(dirty(log, {Iova{0}, kGiB}), Bits{5});
}

TEST(DmaLogStart, starts_clean_after_a_stop) {
  DmaLog log;
  start(log, {Iova{0}, kGiB});
  log.mark(Iova{0}, kGiB);
  ASSERT_THAT(log.stop(), IsOk());
  log.mark(Iova{0}, kPage);
  start(log, {Iova{0}, kGiB});
  EXPECT_EQ(dirty(log, {Iova{0}, kGiB}), Bits{});
}

// LOG-REPORT
TEST(DmaLogReport, refuses_what_linux_refuses) {
  DmaLog log;
  EXPECT_THAT(log.report({Iova{0}, kPage}, kPage, kAnySize), FailsWith(EINVAL));
  EXPECT_THAT(log.stop(), FailsWith(EINVAL));
  start(log, {Iova{0}, kGiB});
  EXPECT_THAT(log.report({Iova{0}, kPage}, 0, kAnySize), FailsWith(EINVAL));
  EXPECT_THAT(log.report({Iova{0}, kPage}, 2048, kAnySize), FailsWith(EINVAL));
  EXPECT_THAT(log.report({Iova{0}, kPage}, 3 * kPage, kAnySize), FailsWith(EINVAL));
  EXPECT_THAT(log.report({Iova{0}, 0}, kPage, kAnySize), FailsWith(EINVAL));
  EXPECT_THAT(log.report({Iova{~std::uint64_t{0} - kPage + 1}, kPage}, kPage, kAnySize), FailsWith(EOVERFLOW));
  EXPECT_THAT(log.report({Iova{0}, kGiB}, kPage, kGiB / kPage / 8 - 1), FailsWith(E2BIG));
  EXPECT_THAT(log.report({Iova{0}, kGiB}, kPage, kGiB / kPage / 8), IsOk());
  EXPECT_THAT(log.report({Iova{0}, ~std::uint64_t{0}}, kPage, kGiB), FailsWith(E2BIG));
}

// LOG-REPORT: clears what it reports, and nothing else
TEST(DmaLogReport, clears_what_it_reports_and_nothing_else) {
  DmaLog log;
  start(log, {Iova{0}, kGiB});
  for (const std::uint64_t page : {0U, 1U, 63U, 64U, 511U, 512U, 513U}) log.mark(Iova{page * kPage}, 1);
  EXPECT_EQ(dirty(log, {Iova{kPage}, 63 * kPage}), (Bits{0, 62}));
  EXPECT_EQ(dirty(log, {Iova{64 * kPage}, 448 * kPage}), (Bits{0, 447}));
  EXPECT_EQ(dirty(log, {Iova{0}, kGiB}), (Bits{0, 512, 513}));
  EXPECT_EQ(dirty(log, {Iova{0}, kGiB}), Bits{});
}

// LOG-REPORT: bits outside the range are 0
TEST(DmaLogReport, covers_only_its_range) {
  DmaLog log;
  start(log, {Iova{kGiB}, kGiB});
  log.mark(Iova{kGiB - kPage}, 3 * kPage);  // half of it outside what is logged
  EXPECT_EQ(dirty(log, {Iova{0}, 4 * kGiB}), (Bits{kGiB / kPage, kGiB / kPage + 1}));
  EXPECT_EQ(dirty(log, {Iova{8 * kGiB}, kGiB}), Bits{});
}

// LOG-REPORT: page_size may differ from START's
TEST(DmaLogReport, takes_other_page_sizes) {
  DmaLog log;
  start(log, {Iova{0}, kGiB}, 16384);
  log.mark(Iova{16384}, 1);
  EXPECT_EQ(dirty(log, {Iova{0}, kGiB}, 4096), (Bits{4, 5, 6, 7})) << "finer";
  log.mark(Iova{3 * 65536}, 1);
  EXPECT_EQ(dirty(log, {Iova{0}, kGiB}, 65536), Bits{3}) << "coarser";
  log.mark(Iova{16384}, 1);
  EXPECT_EQ(dirty(log, {Iova{20480}, 4096}, 4096), Bits{0}) << "a page covered in part is reported";
  EXPECT_EQ(dirty(log, {Iova{0}, kGiB}, 16384), Bits{}) << "and cleared whole";
}

TEST(DmaLogReport, joins_dirty_words_and_skips_clean_stretches) {
  DmaLog log;
  start(log, {Iova{0}, 64 * kGiB});
  log.mark(Iova{0}, kGiB);
  log.mark(Iova{32 * kGiB}, kPage);
  auto report = log.report({Iova{0}, 64 * kGiB}, kPage, kAnySize);
  ASSERT_THAT(report, IsOk());
  EXPECT_EQ(report->total_words, 64 * kGiB / kPage / 64);
  ASSERT_EQ(report->extents.size(), 2U);
  EXPECT_EQ(report->extents[0].words.size(), kGiB / kPage / 64);
  EXPECT_EQ(report->extents[1].first_word, 32 * kGiB / kPage / 64);
  EXPECT_EQ(report->extents[1].words, std::vector<std::uint64_t>{1});
  EXPECT_EQ(report->dirty_pages(), kGiB / kPage + 1);
}

// LOG-REPORT: sets bits and never clears the caller's
TEST(DmaLogReport, merges_without_clearing) {
  DmaLog log;
  start(log, {Iova{0}, kGiB});
  log.mark(Iova{64 * kPage}, 1);
  std::vector<std::uint64_t> bitmap{0b10, 0b10, 0};
  auto report = log.report({Iova{0}, 192 * kPage}, kPage, kAnySize);
  ASSERT_THAT(report, IsOk());
  report->merge_into(bitmap);
  EXPECT_EQ(bitmap, (std::vector<std::uint64_t>{0b10, 0b11, 0}));
}

TEST(DmaLogRanges, many_and_unsorted) {
  DmaLog log;
  std::vector<IovaRange> ranges;
  for (std::uint64_t i = 0; i < DmaLog::kMaxRanges; ++i) {
    ranges.push_back({Iova{(i * 2531 % DmaLog::kMaxRanges) * 8 * kPage}, 3 * kPage});
  }
  ASSERT_THAT(log.start(ranges, 0), IsOk());
  log.mark(Iova{0}, DmaLog::kMaxRanges * 8 * kPage);
  const Bits bits = dirty(log, {Iova{0}, DmaLog::kMaxRanges * 8 * kPage});
  EXPECT_EQ(bits.size(), DmaLog::kMaxRanges * 3);
  EXPECT_TRUE(std::ranges::all_of(bits, [](std::uint64_t bit) { return bit % 8 < 3; }));
}

TEST(DmaLogRanges, eight_tebibytes) {
  DmaLog log;
  constexpr std::uint64_t kSize = 8192 * kGiB;
  start(log, {Iova{0}, kSize});
  log.mark(Iova{0}, 1);
  log.mark(Iova{kSize - 1}, 1);
  EXPECT_EQ(dirty(log, {Iova{0}, kSize}), (Bits{0, kSize / kPage - 1}));
}

TEST(DmaLogRanges, beyond_any_memory) {
  DmaLog log;
  start(log, {Iova{0}, ~std::uint64_t{0} - kPage + 1});
  log.mark(Iova{std::uint64_t{1} << 62}, 1);
  EXPECT_EQ(dirty(log, {Iova{std::uint64_t{1} << 62}, kGiB}), Bits{0});
}

// vfio-user: DMA_LOGGING_START without a range
TEST(DmaLogAll, logs_every_address) {
  DmaLog log;
  ASSERT_THAT(log.start_all(0), IsOk());
  constexpr std::uint64_t kLast = ~std::uint64_t{0};
  for (const std::uint64_t page : {std::uint64_t{0}, kGiB, (std::uint64_t{1} << 52) - kPage, std::uint64_t{1} << 52,
                                   std::uint64_t{1} << 60, kLast - kPage + 1}) {
    log.mark(Iova{page}, 1);
    EXPECT_EQ(dirty(log, {Iova{page}, kPage}), Bits{0}) << std::hex << page;
    EXPECT_EQ(dirty(log, {Iova{page}, kPage}), Bits{}) << std::hex << page;
  }
  log.mark(Iova{(std::uint64_t{1} << 52) - kPage}, 2 * kPage);
  EXPECT_EQ(dirty(log, {Iova{(std::uint64_t{1} << 52) - 2 * kPage}, 4 * kPage}), (Bits{1, 2}));
}

// LOG-ERROR: too much to keep counts as all dirty
TEST(DmaLogAll, counts_all_high_pages_dirty_when_there_are_too_many) {
  DmaLog log;
  ASSERT_THAT(log.start_all(0), IsOk());
  log.mark(Iova{std::uint64_t{1} << 60}, kGiB);
  EXPECT_EQ(dirty(log, {Iova{std::uint64_t{1} << 61}, 3 * kPage}), (Bits{0, 1, 2}));
  EXPECT_EQ(dirty(log, {Iova{0}, kGiB}), Bits{});
  ASSERT_THAT(log.stop(), IsOk());
  ASSERT_THAT(log.start_all(0), IsOk());
  EXPECT_EQ(dirty(log, {Iova{std::uint64_t{1} << 61}, 3 * kPage}), Bits{});
}

TEST(DmaLogMark, between_two_ranges_marks_neither) {
  DmaLog log;
  const std::array ranges{IovaRange{Iova{0}, 512 * kPage}, IovaRange{Iova{612 * kPage}, 512 * kPage}};
  ASSERT_THAT(log.start(ranges, 0), IsOk());
  for (const std::uint64_t page : {512U, 600U, 611U, 1124U, 2000U}) log.mark(Iova{page * kPage}, kPage);
  EXPECT_EQ(dirty(log, {Iova{0}, 2048 * kPage}), Bits{});
  for (const std::uint64_t page : {511U, 612U, 1123U}) log.mark(Iova{page * kPage}, kPage);
  EXPECT_EQ(dirty(log, {Iova{0}, 2048 * kPage}), (Bits{511, 612, 1123}));
}

TEST(DmaLogMark, ignores_nothing_and_wraps_nowhere) {
  DmaLog log;
  ASSERT_THAT(log.start_all(0), IsOk());
  log.mark(Iova{0}, 0);
  log.mark(Iova{~std::uint64_t{0} - 1}, kGiB);
  EXPECT_EQ(dirty(log, {Iova{0}, kGiB}), Bits{});
}

// LOG-EXACT: nothing lost while reports run against marks. `spread` pages between two that are marked: close together
// the report takes words one by one, far apart it turns the sides of the bitmap over.
class DmaLogConcurrency : public testing::TestWithParam<std::uint64_t> {};

TEST_P(DmaLogConcurrency, every_mark_is_in_some_report) {
  constexpr std::uint64_t kPages = 1024;
  constexpr int kMarkers = 3;
  constexpr std::uint64_t kRounds = 60;
  const std::uint64_t spread = GetParam();
  const std::uint64_t space = kPages * spread * kPage;
  DmaLog log;
  start(log, {Iova{0}, space});
  // Each marker counts a page up before it marks it; a reporter that gets the mark must see the count.
  std::vector<std::atomic<std::uint64_t>> written(kPages);
  std::vector<std::uint64_t> reported(kPages);
  const auto take = [&](IovaRange range) {
    for (const std::uint64_t bit : dirty(log, range)) {
      const std::uint64_t page = (range.start.value / kPage + bit) / spread;
      reported[page] = written[page].load(std::memory_order_relaxed);
    }
  };
  std::atomic<int> running{kMarkers};
  std::vector<std::jthread> markers;
  for (unsigned m = 0; m < kMarkers; ++m) {
    markers.emplace_back([&, m] {
      for (std::uint64_t i = 0; i < kRounds * kPages; ++i) {
        const std::uint64_t page = (i * 2654435761 + m) % kPages;
        written[page].fetch_add(1, std::memory_order_relaxed);
        std::atomic_thread_fence(std::memory_order_seq_cst);
        log.mark(Iova{page * spread * kPage}, 1);
      }
      --running;
    });
  }
  while (running != 0) {
    take({Iova{0}, space});
    take({Iova{0}, space / 2});
    take({Iova{space / 4}, space / 2});
  }
  markers.clear();
  take({Iova{0}, space});
  for (std::uint64_t page = 0; page < kPages; ++page) {
    ASSERT_EQ(reported[page], written[page].load()) << "page " << page << " was written after its last report";
  }
  EXPECT_EQ(dirty(log, {Iova{0}, space}), Bits{}) << "reported twice";
}

INSTANTIATE_TEST_SUITE_P(Spread, DmaLogConcurrency, testing::Values(1, 256, 512));

// LOG-EXACT: who has seen the bytes finds the page in the report that it asks for then, also where the writer is held
// up between the two.
TEST(DmaLogWriteSection, is_waited_for_by_a_report) {
  constexpr std::uint64_t kRounds = 500;
  DmaLog log;
  start(log, {Iova{0}, 2 * kPage});
  std::atomic<std::uint64_t> written{0};
  std::atomic<std::uint64_t> reported{0};
  std::jthread busy([&](const std::stop_token& stop) {  // sections that go on all the time put no report off
    while (!stop.stop_requested()) {
      const DmaLog::WriteSection section(log);
      log.mark(Iova{kPage}, 1);
    }
  });
  std::jthread writer([&](const std::stop_token& stop) {
    for (std::uint64_t round = 1; round <= kRounds; ++round) {
      while (reported != round - 1 && !stop.stop_requested()) std::this_thread::yield();
      const DmaLog::WriteSection section(log);
      written = round;
      for (int i = 0; i < 20; ++i) std::this_thread::yield();
      log.mark(Iova{0}, 1);
    }
  });
  for (std::uint64_t round = 1; round <= kRounds; ++round) {
    while (written != round) std::this_thread::yield();
    ASSERT_TRUE(dirty(log, {Iova{0}, kPage}).contains(0)) << "round " << round;
    reported = round;
  }
}

// A mark that comes while the log stops and starts anew is harmless.
TEST(DmaLogRestart, marks_survive_stop_and_start) {
  DmaLog log;
  std::atomic<bool> done{false};
  std::jthread marker([&] {
    for (std::uint64_t i = 0; !done; ++i) log.mark(Iova{i * 977 % (1 << 20) * kPage}, (i % 3) * 10 * kPage + 1);
  });
  for (std::uint64_t i = 1; i <= 200; ++i) {
    const std::array<IovaRange, 2> ranges{{{Iova{0}, i * kPage}, {Iova{(i + 7) * kPage}, i * i * kPage}}};
    if (i % 5 == 0) {
      ASSERT_THAT(log.start_all(0), IsOk());
    } else {
      ASSERT_THAT(log.start(ranges, 0), IsOk());
    }
    ASSERT_THAT(log.report({Iova{0}, kGiB}, kPage, kAnySize), IsOk());
    ASSERT_THAT(log.stop(), IsOk());
  }
  done = true;
}

}  // namespace
}  // namespace gangway
