#include "guest/dirty_tracker.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <atomic>
#include <cstring>
#include <random>
#include <thread>
#include <vector>

namespace gangway::guest {
namespace {

using Bitmap = std::vector<std::uint64_t>;

bool is_set(const Bitmap& bitmap, std::size_t page) { return (bitmap[page / 64] >> (page % 64) & 1) != 0; }

// The test skips what this machine's kernel or settings do not offer; the fallback "workload" works everywhere.
class DirtyTracker : public testing::TestWithParam<TrackingMethod> {
 protected:
  void SetUp() override {
    auto memory = GuestMemory::create({.size = 16U << 20});
    ASSERT_TRUE(memory.has_value()) << memory.error().message;
    memory_ = std::move(*memory);
    auto tracker = make_dirty_tracker(GetParam(), *memory_);
    if (!tracker && tracker.error().code == ENOTSUP) GTEST_SKIP() << tracker.error().message;
    ASSERT_TRUE(tracker.has_value()) << tracker.error().message;
    tracker_ = std::move(*tracker);
  }

  std::span<std::byte> view(std::size_t block) { return memory_->blocks()[block].cpus.bytes(); }
  std::size_t pages(std::size_t block) { return view(block).size() / kPageSize; }
  void write(std::size_t block, std::size_t page) {
    view(block)[page * kPageSize + 17] = std::byte{1};
    memory_->note_write(&view(block)[page * kPageSize + 17], 1);
  }
  Bitmap collect(std::size_t block) {
    Bitmap bitmap((pages(block) + 63) / 64);
    const auto collected = tracker_->collect(block, bitmap);
    EXPECT_TRUE(collected.has_value()) << collected.error().message;
    return bitmap;
  }
  void start() {
    const auto started = tracker_->start();
    ASSERT_TRUE(started.has_value()) << started.error().message;
  }

  std::unique_ptr<GuestMemory> memory_;
  std::unique_ptr<migrate::DirtyTracker> tracker_;
};

TEST_P(DirtyTracker, exactly_the_written_pages_are_found) {
  write(0, 5);  // before the start: not of interest
  start();
  for (const std::size_t page : {0U, 1U, 63U, 64U, 1023U}) write(0, page);
  write(1, 2047);
  const Bitmap low = collect(0);
  for (std::size_t page = 0; page < pages(0); ++page) {
    const bool written = page == 0 || page == 1 || page == 63 || page == 64 || page == 1023;
    ASSERT_EQ(is_set(low, page), written) << "page " << page;
  }
  Bitmap expected(collect(1).size());
  expected.back() = 1ULL << 63;
  write(1, 2047);
  EXPECT_EQ(collect(1), expected);
}

TEST_P(DirtyTracker, a_page_is_found_again_each_time_it_is_written) {
  start();
  for (int round = 0; round < 5; ++round) {
    write(0, 100);
    EXPECT_TRUE(is_set(collect(0), 100)) << "round " << round;
    EXPECT_FALSE(is_set(collect(0), 100)) << "round " << round;
  }
}

TEST_P(DirtyTracker, bits_of_the_caller_are_kept) {
  start();
  write(0, 3);
  Bitmap bitmap((pages(0) + 63) / 64);
  bitmap[0] = 1U << 9;
  ASSERT_TRUE(tracker_->collect(0, bitmap).has_value());
  EXPECT_EQ(bitmap[0], (1U << 9) | (1U << 3));
}

TEST_P(DirtyTracker, a_written_page_that_the_kernel_drops_from_its_tables_is_found) {
  start();
  write(0, 8);
  ASSERT_EQ(::madvise(&view(0)[8 * kPageSize], kPageSize, MADV_DONTNEED), 0);
  EXPECT_TRUE(is_set(collect(0), 8));
}

TEST_P(DirtyTracker, a_read_and_a_write_through_the_other_view_are_not_found) {
  start();
  memory_->blocks()[0].migration.bytes()[4 * kPageSize] = std::byte{1};
  EXPECT_EQ(view(0)[4 * kPageSize], std::byte{1});
  EXPECT_FALSE(is_set(collect(0), 4));
}

TEST_P(DirtyTracker, after_a_stop_it_can_be_started_anew) {
  start();
  write(0, 1);
  ASSERT_TRUE(tracker_->stop().has_value());
  write(0, 2);
  start();
  write(0, 3);
  const Bitmap bitmap = collect(0);
  EXPECT_EQ(bitmap[0], 1U << 3);
  ASSERT_TRUE(tracker_->stop().has_value());
}

// Writers count up in random pages while a copier does what migration does: collects, and copies what was found. When
// the writers stop and one more round was made, the copy equals the memory, or a page was lost.
TEST_P(DirtyTracker, no_page_is_lost_under_concurrent_writers) {
  constexpr std::size_t kBlock = 1;
  constexpr unsigned kWriters = 3;
  constexpr std::size_t kWrites = 100'000;  // of each at least, and on until the copier made its rounds
  constexpr std::size_t kRounds = 20;
  constexpr std::size_t kPages = 256;  // few, so that the same ones are written again and again
  const auto source = memory_->blocks()[kBlock].migration.bytes();
  std::vector<std::byte> copy(source.size());
  start();

  std::atomic<unsigned> running{kWriters};
  std::atomic<std::size_t> rounds{0};
  std::vector<std::thread> writers;
  for (unsigned writer = 0; writer < kWriters; ++writer) {
    writers.emplace_back([&, writer] {
      std::minstd_rand random(writer + 1);
      for (std::size_t n = 0; n < kWrites || rounds.load() < kRounds; ++n) {
        // Every writer has its own word in a page.
        std::byte* word = &view(kBlock)[(random() % kPages) * kPageSize + writer * sizeof(std::uint64_t)];
        std::atomic_ref(*reinterpret_cast<std::uint64_t*>(word)).fetch_add(1);
        memory_->note_write(word, sizeof(std::uint64_t));
      }
      running.fetch_sub(1);
    });
  }
  const auto copy_found = [&] {
    const Bitmap bitmap = collect(kBlock);
    for (std::size_t page = 0; page < pages(kBlock); ++page) {
      if (is_set(bitmap, page)) std::memcpy(&copy[page * kPageSize], &source[page * kPageSize], kPageSize);
    }
  };
  while (running.load() != 0) {
    copy_found();
    rounds.fetch_add(1);
  }
  for (std::thread& writer : writers) writer.join();
  copy_found();
  EXPECT_GE(rounds.load(), kRounds);
  for (std::size_t page = 0; page < pages(kBlock); ++page) {
    ASSERT_EQ(std::memcmp(&copy[page * kPageSize], &source[page * kPageSize], kPageSize), 0) << "page " << page;
  }
}

INSTANTIATE_TEST_SUITE_P(Methods, DirtyTracker,
                         testing::Values(TrackingMethod::WriteProtectScan, TrackingMethod::Userfaultfd,
                                         TrackingMethod::Workload),
                         [](const auto& parameter) {
                           std::string text(name(parameter.param));
                           for (char& letter : text) letter = letter == ' ' || letter == '-' ? '_' : letter;
                           return text;
                         });

TEST(DirtyTrackerChoice, the_best_method_that_works_is_chosen) {
  const auto memory = GuestMemory::create({.size = GuestMemory::kSmallest});
  ASSERT_TRUE(memory.has_value()) << memory.error().message;
  const auto best = make_best_dirty_tracker(**memory);
  ASSERT_TRUE(best.has_value()) << best.error().message;
  for (const TrackingMethod method :
       {TrackingMethod::WriteProtectScan, TrackingMethod::Userfaultfd, TrackingMethod::Workload}) {
    if (!make_dirty_tracker(method, **memory)) continue;
    EXPECT_EQ((*best)->method(), name(method));
    break;
  }
}

TEST(DirtyTrackerChoice, names_and_methods_correspond) {
  for (const TrackingMethod method :
       {TrackingMethod::WriteProtectScan, TrackingMethod::Userfaultfd, TrackingMethod::Workload}) {
    EXPECT_EQ(tracking_method_from_name(name(method)), method);
  }
  EXPECT_EQ(tracking_method_from_name("guesswork"), std::nullopt);
}

}  // namespace
}  // namespace gangway::guest
