// WIR-FRAME: "A client may pipeline multiple commands without waiting for previous command replies. The server will
// process commands in the order they are received."
#include <thread>

#include "integration/hostile/hostile_test.h"
#include "integration/hostile/memory_file.h"

namespace gangway::hostile {
namespace {

using PipeliningTest = HostileTest;

constexpr std::uint32_t kMany = 65'536;

TEST_F(PipeliningTest, sixty_five_thousand_commands_in_flight_are_answered_in_order) {
  ServedDevice& device = serve();
  RawPeer peer = connect(device);
  std::thread sender([&peer] {
    Bytes block;
    for (std::uint32_t i = 0; i < kMany; ++i) {
      block = joined(block, message(static_cast<std::uint16_t>(i), kRegionRead, region_read(kRegisters, kWrites, 4)));
      if (i % 64 != 63) continue;
      peer.send(block);
      block.clear();
    }
  });
  std::uint32_t answered = 0;
  std::uint32_t wrong = 0;
  for (; answered < kMany; ++answered) {
    const std::optional<Message> reply = peer.receive_reply();
    if (!reply) break;
    if (reply->header.id != static_cast<std::uint16_t>(answered) || reply->body.size() != 20) ++wrong;
  }
  if (answered < kMany) peer.close();
  sender.join();
  EXPECT_EQ(answered, kMany) << "the connection was closed";
  EXPECT_EQ(wrong, 0U) << "replies were out of order or incomplete";
  expect_in_step(peer);
}

TEST_F(PipeliningTest, sixty_five_thousand_writes_without_replies_are_all_carried_out) {
  ServedDevice& device = serve();
  RawPeer peer = connect(device);
  const Bytes value = pattern(8);
  const Bytes write = message(1, kRegionWrite, region_write(kRegisters, kScratch, value), kNoReply);
  Bytes block;
  for (int i = 0; i < 256; ++i) block = joined(block, write);
  for (std::uint32_t i = 0; i < kMany / 256; ++i) ASSERT_TRUE(peer.send(block));
  EXPECT_EQ(read_register(peer, kWrites), kMany);
}

TEST_F(PipeliningTest, commands_that_fail_in_a_pipeline_do_not_disturb_those_that_succeed) {
  ServedDevice& device = serve();
  RawPeer peer = connect(device);
  std::thread sender([&peer] {
    for (std::uint16_t i = 0; i < 4000; ++i) {
      const bool good = i % 2 == 0;
      peer.send(message(i, good ? kGetInfo : 99, good ? get_info() : pattern(i % 97)));
    }
  });
  std::uint32_t wrong = 0;
  for (std::uint16_t i = 0; i < 4000; ++i) {
    const std::optional<Message> reply = peer.receive_reply();
    if (!reply) {
      wrong = kMax32;
      peer.close();
      break;
    }
    if (reply->header.id != i || reply->failed() != (i % 2 != 0)) ++wrong;
  }
  sender.join();
  EXPECT_EQ(wrong, 0U);
}

TEST_F(PipeliningTest, pipelined_maps_with_descriptors_each_get_their_own) {
  // A released client maps in transactions: it sends many maps and waits for the last reply only.
  ServedDevice& device = serve();
  RawPeer peer = connect(device);
  constexpr std::uint64_t kMaps = 64;
  const Fd file = memory_file(kMaps * 0x1000);
  for (std::uint64_t i = 0; i < kMaps; ++i) {
    write_file(file, i * 0x1000, Fields().u64(0x1000 + i).take());
    peer.post(kDmaMap, dma_map({.address = i * 0x1000, .size = 0x1000, .offset = i * 0x1000}), {file.get()});
  }
  for (std::uint64_t i = 0; i < kMaps; ++i) {
    const std::optional<Message> reply = peer.receive_reply();
    ASSERT_TRUE(reply) << "closed";
    ASSERT_EQ(reply->error(), 0);
  }
  for (std::uint64_t i = 0; i < kMaps; ++i) {
    ASSERT_EQ(run_dma(peer, i * 0x1000, 8, kCopyIn), 0U);
    const Message read = peer.request(kRegionRead, region_read(kMemory, 0, 8));
    ASSERT_EQ(field<std::uint64_t>(read.body, 16), 0x1000 + i) << "map " << i << " has another map's descriptor";
  }
}

}  // namespace
}  // namespace gangway::hostile
