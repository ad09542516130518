// Resets against sets, reads and writes from other threads (RST-CONCURRENT). Meant for TSan, and to end at all.
#include <array>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "unit/device/recording_device.h"
#include "unit/device/stream_ops.h"

namespace gangway::test {
namespace {

using enum DeviceState;

TEST(Concurrency, of_resets_sets_reads_and_writes_ends_in_a_whole_state) {
  Rig rig(RecordingOptions{.memory_sizes = {10'000}, .tracks_dirty = true});
  ASSERT_TRUE(rig.migration.reset());  // a running device that was called: the threads look for no other
  Bytes stream;
  {
    Rig source(RecordingOptions{.memory_sizes = {10'000}, .tracks_dirty = true});
    ASSERT_TRUE(source.go(StopCopy));
    stream = drain(source.migration, pieces_of(kWhole)).bytes;
  }
  constexpr int kRounds = 400;
  std::vector<std::thread> threads;
  threads.emplace_back([&] {
    for (int i = 0; i < kRounds; ++i) EXPECT_TRUE(rig.migration.reset());
  });
  threads.emplace_back([&] {
    constexpr std::array kTour{PreCopy, PreCopyP2p, StopCopy, Stop, Resuming, Running, RunningP2p};
    for (std::size_t i = 0; i < std::size_t{kRounds} * 4; ++i) static_cast<void>(rig.go(kTour[i % kTour.size()]));
  });
  threads.emplace_back([&] {
    Bytes piece(700);
    for (int i = 0; i < kRounds * 4; ++i) {
      const Result<StreamRead> read = rig.migration.read(piece);
      EXPECT_TRUE(!read || read->size <= piece.size());
    }
  });
  threads.emplace_back([&] {
    for (int i = 0; i < kRounds; ++i) {
      static_cast<void>(fill(rig.migration, stream, pieces_of(3000)));
    }
  });
  threads.emplace_back([&] {
    for (int i = 0; i < kRounds; ++i) {
      static_cast<void>(rig.migration.precopy_info());
      EXPECT_GT(rig.migration.data_size() + 1, 0U);
      EXPECT_NE(rig.migration.state(), Error);
      rig.migration.with_state([&](bool stopped) { EXPECT_TRUE(stopped || !rig.device.calls.empty()); });
    }
  });
  for (std::thread& thread : threads) thread.join();
  ASSERT_TRUE(rig.migration.reset());
  EXPECT_EQ(rig.migration.state(), Running);
  ASSERT_TRUE(rig.go(Resuming));
  ASSERT_TRUE(rig.migration.write(stream));
  EXPECT_TRUE(rig.go(Running)) << "and a good stream loads";
}

TEST(Concurrency, a_view_stays_readable_over_a_reset) {
  Rig rig(RecordingOptions{.memory_sizes = {200'000}});
  ASSERT_TRUE(rig.go(StopCopy));
  const Result<StreamView> view = rig.migration.read_view(1U << 20);
  ASSERT_TRUE(view);
  std::thread other([&] { EXPECT_TRUE(rig.migration.reset()); });
  other.join();
  std::size_t bytes = 0;
  for (const std::span<const std::byte> part : view->parts) bytes += Bytes(part.begin(), part.end()).size();
  EXPECT_EQ(bytes, view->size);
}

}  // namespace
}  // namespace gangway::test
