// Memory that is taken back after it was mapped: the device's access meets no page. No SIGBUS ends the process; the
// client is dropped, and the server lives.
#include <fcntl.h>

#include <array>
#include <cerrno>

#include "integration/hostile/hostile_test.h"
#include "integration/hostile/memory_file.h"

namespace gangway::hostile {
namespace {

using TruncatedMemoryTest = HostileTest;

constexpr std::uint64_t kAddress = 0x100000;
constexpr std::size_t kSize = 0x40000;

// The register write that starts the copy may still be answered; then the connection ends.
void expect_dropped(RawPeer& peer) { expect_closed(peer); }

void start_copy(RawPeer& peer, std::uint64_t offset, std::uint32_t length, std::uint32_t command) {
  const auto write = [&peer](std::uint64_t at, std::span<const std::byte> bytes) {
    peer.post(kRegionWrite, region_write(kRegisters, at, bytes));
  };
  write(kDmaAddress, Fields().u64(kAddress + offset).take());
  write(kDmaLength, Fields().u32(length).take());
  write(kDmaStart, Fields().u32(command).take());
}

TEST_F(TruncatedMemoryTest, a_copy_into_a_file_that_was_cut_drops_the_client) {
  ServedDevice& device = serve();
  for (const std::uint32_t how : {0U, kOnThread}) {
    for (const std::uint32_t direction : {kCopyIn, kCopyOut}) {
      SCOPED_TRACE(testing::Message() << "copy " << (direction | how));
      RawPeer peer = connect(device);
      const Fd file = memory_file(kSize);
      expect_accepted(peer, kDmaMap, dma_map({.address = kAddress, .size = kSize}), {file.get()});
      EXPECT_EQ(run_dma(peer, kAddress, 0x1000, direction | how), 0U) << "while it is whole";
      truncate_file(file, 0);
      start_copy(peer, 0, 0x10000, direction | how);
      for (int answers = 0; answers < 3 && peer.receive_reply(); ++answers) continue;  // it has begun, or the end came
      // Whoever asks on finds the connection ended, and is asked to notice: the device's thread alone has no say in it.
      static_cast<void>(await_dma(device));
      peer.post(kGetInfo, get_info());
      expect_dropped(peer);
      expect_like_new(device);
    }
  }
}

TEST_F(TruncatedMemoryTest, a_copy_across_the_cut_drops_the_client) {
  ServedDevice& device = serve();
  RawPeer peer = connect(device);
  const Fd file = memory_file(kSize);
  expect_accepted(peer, kDmaMap, dma_map({.address = kAddress, .size = kSize}), {file.get()});
  truncate_file(file, 0x3800);  // in the middle of a page
  EXPECT_EQ(run_dma(peer, kAddress, 0x3800, kCopyOut), 0U) << "what is left is reachable";
  start_copy(peer, 0x2000, 0x4000, kCopyOut);
  peer.post(kGetInfo, get_info());
  expect_dropped(peer);
}

TEST_F(TruncatedMemoryTest, a_file_cut_again_and_again_during_copies_hurts_nobody) {
  ServedDevice& device = serve();
  for (int round = 0; round < 10; ++round) {
    RawPeer peer = connect(device);
    const Fd file = memory_file(kSize);
    expect_accepted(peer, kDmaMap, dma_map({.address = kAddress, .size = kSize}), {file.get()});
    start_copy(peer, 0, kSize, kCopyOut | kOnThread);
    truncate_file(file, static_cast<std::size_t>(round) * 0x1000);
    truncate_file(file, kSize);
    truncate_file(file, 0);
    static_cast<void>(await_dma(device));
    expect_in_step_or_closed(peer);
  }
}

TEST_F(TruncatedMemoryTest, a_file_that_was_cut_and_is_never_touched_hurts_nobody) {
  ServedDevice& device = serve();
  RawPeer peer = connect(device);
  const Fd file = memory_file(kSize);
  expect_accepted(peer, kDmaMap, dma_map({.address = kAddress, .size = kSize}), {file.get()});
  truncate_file(file, 0);
  expect_in_step(peer);
  expect_accepted(peer, kDmaUnmap, dma_unmap({.address = kAddress, .size = kSize}));
  truncate_file(file, kSize);
  expect_accepted(peer, kDmaMap, dma_map({.address = kAddress, .size = kSize}), {file.get()});
  EXPECT_EQ(run_dma(peer, kAddress, 0x1000, kCopyOut), 0U);
}

TEST_F(TruncatedMemoryTest, a_hole_punched_into_the_file_reads_as_zeros) {
  ServedDevice& device = serve();
  RawPeer peer = connect(device);
  const Fd file = memory_file(kSize);
  write_file(file, 0, pattern(0x2000));
  expect_accepted(peer, kDmaMap, dma_map({.address = kAddress, .size = kSize}), {file.get()});
  ASSERT_EQ(::fallocate(file.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 0x1000), 0);
  EXPECT_EQ(run_dma(peer, kAddress, 0x2000, kCopyIn), 0U);
  const Message read = peer.request(kRegionRead, region_read(kMemory, 0, 8));
  EXPECT_EQ(field<std::uint64_t>(read.body, 16), 0U);
}

TEST_F(TruncatedMemoryTest, a_file_without_room_for_its_pages_drops_the_client) {
  ServedDevice& device = serve();
  const std::optional<Fd> file = file_without_room(kSize);
  if (!file) GTEST_SKIP() << "this process may not mount a small file system";
  RawPeer peer = connect(device);
  expect_accepted(peer, kDmaMap, dma_map({.address = kAddress, .size = kSize}), {file->get()});
  start_copy(peer, 0, kSize, kCopyOut);
  peer.post(kGetInfo, get_info());
  expect_dropped(peer);
}

TEST_F(TruncatedMemoryTest, a_client_with_broken_memory_does_not_touch_another_device) {
  ServedDevice& broken = serve();
  ServedDevice& whole = serve();
  RawPeer victim = connect(whole);
  const Fd memory = memory_file(kSize);
  expect_accepted(victim, kDmaMap, dma_map({.address = kAddress, .size = kSize}), {memory.get()});
  RawPeer peer = connect(broken);
  const Fd file = memory_file(kSize);
  expect_accepted(peer, kDmaMap, dma_map({.address = kAddress, .size = kSize}), {file.get()});
  truncate_file(file, 0);
  start_copy(peer, 0, kSize, kCopyOut);
  peer.post(kGetInfo, get_info());
  expect_dropped(peer);
  EXPECT_EQ(run_dma(victim, kAddress, 0x1000, kCopyOut), 0U);
  expect_in_step(victim);
}

}  // namespace
}  // namespace gangway::hostile
