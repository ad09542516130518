// Commands in both directions at once: "unrelated messages sent from the server to the client can appear in between a
// client to server request/reply and vice versa" (WIR-FRAME).
#include <array>
#include <cerrno>
#include <deque>

#include "integration/hostile/hostile_test.h"

namespace gangway::hostile {
namespace {

using CollisionTest = HostileTest;

constexpr std::uint64_t kAddress = 0x10000;

void map_and_aim(RawPeer& peer, std::uint32_t length = 64) {
  expect_accepted(peer, kDmaMap, dma_map({.address = kAddress, .size = 0x100000}));
  write_register<std::uint64_t>(peer, kDmaAddress, kAddress);
  write_register<std::uint32_t>(peer, kDmaLength, length);
}

void answer(RawPeer& peer, const Message& command, std::uint8_t seed = 1) {
  const std::span<const std::byte> fixed = std::span(command.body).first(16);
  const auto count = field<std::uint64_t>(command.body, 8);
  peer.reply(command, command.header.command == kDmaRead ? joined(fixed, pattern(count, seed))
                                                         : Bytes(fixed.begin(), fixed.end()));
}

Message next_command(RawPeer& peer, std::vector<Message>& replies) {
  for (;;) {
    std::optional<Message> message = peer.receive();
    if (!message) throw std::runtime_error("closed instead of a DMA command");
    if (!message->is_reply()) return std::move(*message);
    replies.push_back(std::move(*message));
  }
}

TEST_F(CollisionTest, commands_sent_before_the_answer_to_the_servers_are_all_carried_out) {
  ServedDevice& device = serve();
  for (const std::uint32_t how : {0U, kOnThread}) {
    for (const std::uint32_t copy : {kCopyIn, kCopyOut}) {
      SCOPED_TRACE(testing::Message() << "copy " << (copy | how));
      RawPeer peer = connect(device);
      map_and_aim(peer);
      std::vector<std::uint16_t> asked;
      asked.push_back(peer.post(kRegionWrite, region_write(kRegisters, kDmaStart, Fields().u32(copy | how).take())));
      for (int i = 0; i < 100; ++i) asked.push_back(peer.post(kRegionRead, region_read(kRegisters, kWrites, 4)));
      std::vector<Message> replies;
      const Message command = next_command(peer, replies);
      for (int i = 0; i < 100; ++i) asked.push_back(peer.post(kGetInfo, get_info()));
      answer(peer, command);
      while (replies.size() < asked.size()) {
        std::optional<Message> reply = peer.receive_reply();
        ASSERT_TRUE(reply) << "closed after " << replies.size() << " replies";
        replies.push_back(std::move(*reply));
      }
      for (std::size_t i = 0; i < asked.size(); ++i) {
        ASSERT_EQ(replies[i].header.id, asked[i]) << "replies come in the order of the commands";
        ASSERT_EQ(replies[i].error(), 0);
      }
      EXPECT_EQ(await_dma(device), 0U);
    }
  }
}

TEST_F(CollisionTest, the_same_message_id_in_both_directions_is_no_confusion) {
  ServedDevice& device = serve();
  RawPeer peer = connect(device);
  map_and_aim(peer);
  for (int round = 0; round < 50; ++round) {
    peer.post(kRegionWrite, region_write(kRegisters, kDmaStart, Fields().u32(kCopyIn | kOnThread).take()));
    std::vector<Message> replies;
    const Message command = next_command(peer, replies);
    peer.send(message(command.header.id, kGetInfo, get_info()));  // ours, with the id of theirs
    answer(peer, command, static_cast<std::uint8_t>(round));
    bool answered = false;
    while (!answered) {
      const std::optional<Message> reply = peer.receive_reply();
      ASSERT_TRUE(reply) << "closed";
      answered = reply->header.command == kGetInfo;
      if (answered) {
        EXPECT_EQ(reply->header.id, command.header.id);
      }
    }
    EXPECT_EQ(await_dma(device), 0U);
    const Message read = peer.request(kRegionRead, region_read(kMemory, 0, 8));
    EXPECT_EQ(Bytes(read.body.begin() + 16, read.body.end()), pattern(8, static_cast<std::uint8_t>(round)));
  }
}

TEST_F(CollisionTest, large_transfers_cross_each_other_without_a_deadlock) {
  ServedDevice& device = serve();
  RawPeer peer = connect(device);
  constexpr std::uint32_t kLarge = 1U << 20;
  map_and_aim(peer, kLarge);
  // The client has a megabyte on its way in, unread, when the server has one on its way out.
  for (int round = 0; round < 4; ++round) {
    peer.post(kRegionWrite, region_write(kRegisters, kDmaStart, Fields().u32(kCopyOut | kOnThread).take()));
    std::vector<Message> replies;
    const Bytes write = message(peer.next_id(), kRegionWrite, region_write(kMsixBar, 0, Bytes(kLarge / 2)));
    ASSERT_TRUE(peer.send(write));  // refused by the device, for it is too long; in step all the same
    const Message command = next_command(peer, replies);
    ASSERT_EQ(command.body.size(), 16U + kLarge);
    answer(peer, command);
    EXPECT_EQ(await_dma(device), 0U);
    expect_in_step(peer);
  }
}

TEST_F(CollisionTest, a_reset_while_the_device_waits_for_the_client_completes_once_it_is_answered) {
  ServedDevice& device = serve();
  RawPeer peer = connect(device);
  for (const std::uint16_t command : std::array{kReset, kFeature}) {  // a reset, and a change of state that drains
    map_and_aim(peer);
    peer.post(kRegionWrite, region_write(kRegisters, kDmaStart, Fields().u32(kCopyIn | kOnThread).take()));
    std::vector<Message> replies;
    const Message dma = next_command(peer, replies);
    const std::uint16_t id = peer.post(command, command == kReset ? Bytes{} : set_state(kStateStop));
    peer.await_taken();
    answer(peer, dma);
    std::optional<Message> reply;
    do {
      reply = peer.receive_reply();
      ASSERT_TRUE(reply) << "closed";
    } while (reply->header.id != id);
    EXPECT_EQ(reply->error(), 0);
    if (command == kFeature) go_to(peer, kStateRunning);
    expect_accepted(peer, kDmaUnmap, dma_unmap({.address = kAddress, .size = 0x100000}));
  }
}

TEST_F(CollisionTest, an_unmap_while_the_device_waits_for_the_client_completes_once_it_is_answered) {
  ServedDevice& device = serve();
  RawPeer peer = connect(device);
  map_and_aim(peer);
  peer.post(kRegionWrite, region_write(kRegisters, kDmaStart, Fields().u32(kCopyIn | kOnThread).take()));
  std::vector<Message> replies;
  const Message dma = next_command(peer, replies);
  const std::uint16_t id = peer.post(kDmaUnmap, dma_unmap({.address = kAddress, .size = 0x100000}));
  peer.await_taken();
  answer(peer, dma);
  std::optional<Message> reply;
  do {
    reply = peer.receive_reply();
    ASSERT_TRUE(reply) << "closed";
  } while (reply->header.id != id);
  EXPECT_EQ(reply->error(), 0);
  static_cast<void>(await_dma(device));
  EXPECT_EQ(device.endpoint().dma().map_count(), 0U);
  EXPECT_NE(run_dma(peer, kAddress, 64, kCopyIn), 0U) << "no mapping, no access";
}

TEST_F(CollisionTest, a_busy_conversation_in_both_directions_stays_in_order) {
  ServedDevice& device = serve();
  RawPeer peer = connect(device);
  map_and_aim(peer, 256);
  std::deque<std::uint16_t> asked;
  std::uint32_t commands = 0;
  std::uint32_t seed = 7;
  const auto random = [&seed] { return (seed = seed * 1664525U + 1013904223U) >> 16; };
  std::deque<Message> unanswered;
  for (int step = 0; step < 5000; ++step) {
    switch (random() % 4) {
      case 0:
        asked.push_back(
            peer.post(kRegionWrite, region_write(kRegisters, kDmaStart, Fields().u32(kCopyIn | kOnThread).take())));
        break;
      case 1:
        asked.push_back(peer.post(kGetInfo, get_info()));
        break;
      case 2:
        if (!unanswered.empty()) {
          answer(peer, unanswered.front());
          unanswered.pop_front();
        }
        break;
      default:
        while (peer.readable(std::chrono::milliseconds(0))) {
          std::optional<Message> message = peer.receive();
          ASSERT_TRUE(message) << "closed";
          if (!message->is_reply()) {
            ++commands;
            unanswered.push_back(std::move(*message));
            continue;
          }
          ASSERT_FALSE(asked.empty());
          ASSERT_EQ(message->header.id, asked.front());
          asked.pop_front();
        }
    }
  }
  peer.on_command = [&peer](const Message& command) { answer(peer, command); };
  for (const Message& command : unanswered) answer(peer, command);
  while (!asked.empty()) {
    const std::optional<Message> reply = peer.receive_reply();
    ASSERT_TRUE(reply) << "closed";
    ASSERT_EQ(reply->header.id, asked.front());
    asked.pop_front();
  }
  EXPECT_GT(commands, 0U);
  std::uint32_t status = kDmaBusy;
  while (status == kDmaBusy) status = read_register(peer, kDmaStatus);
  EXPECT_EQ(status, 0U);
}

}  // namespace
}  // namespace gangway::hostile
