// What a client may answer our DMA_READ and DMA_WRITE with: wrongly, late, twice, not at all.
#include <array>
#include <cerrno>
#include <chrono>
#include <functional>

#include "integration/hostile/hostile_test.h"

namespace gangway::hostile {
namespace {

using namespace std::chrono_literals;

using DmaReplyTest = HostileTest;

constexpr std::uint64_t kAddress = 0x10000;
constexpr std::uint32_t kLength = 64;

// Maps memory without a descriptor, starts a copy and returns the server's command for it.
Message begin(RawPeer& peer, std::uint32_t copy) {
  expect_accepted(peer, kDmaMap, dma_map({.address = kAddress}));
  write_register<std::uint64_t>(peer, kDmaAddress, kAddress);
  write_register<std::uint32_t>(peer, kDmaLength, kLength);
  peer.post(kRegionWrite, region_write(kRegisters, kDmaStart, Fields().u32(copy).take()));
  for (;;) {
    std::optional<Message> message = peer.receive();
    if (!message) throw std::runtime_error("closed instead of a DMA command");
    if (message->is_reply()) continue;  // of the register write, when the copy is on the device's thread
    EXPECT_EQ(message->header.command, (copy & kCopyIn) != 0 ? kDmaRead : kDmaWrite);
    EXPECT_EQ(field<std::uint64_t>(message->body, 0), kAddress);
    EXPECT_EQ(field<std::uint64_t>(message->body, 8), kLength);
    EXPECT_TRUE(message->arrived_whole);
    return std::move(*message);
  }
}

Bytes good_reply(const Message& command) {
  const std::span<const std::byte> fixed = std::span(command.body).first(16);
  return command.header.command == kDmaRead ? joined(fixed, pattern(kLength, 5)) : Bytes(fixed.begin(), fixed.end());
}

constexpr std::array kCopies{kCopyIn, kCopyOut, kCopyIn | kOnThread, kCopyOut | kOnThread};

TEST_F(DmaReplyTest, a_right_reply_moves_the_bytes) {
  ServedDevice& device = serve();
  for (const std::uint32_t copy : kCopies) {
    SCOPED_TRACE(testing::Message() << "copy " << copy);
    RawPeer peer = connect(device);
    const Message command = begin(peer, copy);
    peer.reply(command, good_reply(command));
    EXPECT_EQ(await_dma(device), 0U);
    if ((copy & kCopyIn) == 0) continue;
    expect_in_step(peer);
    const Message read = peer.request(kRegionRead, region_read(kMemory, 0, kLength));
    EXPECT_EQ(Bytes(read.body.begin() + 16, read.body.end()), pattern(kLength, 5));
  }
}

struct WrongReply {
  std::string what;
  std::function<void(RawPeer&, const Message&)> answer;
};

std::vector<WrongReply> wrong_replies() {
  const auto sized = [](std::uint64_t count, std::size_t size) {
    return [count, size](RawPeer& peer, const Message& command) {
      peer.reply(command, joined(Fields().u64(kAddress).u64(count).take(), pattern(size)));
    };
  };
  return {
      {"a count that is smaller", sized(kLength - 1, kLength - 1)},
      {"a count that is greater", sized(kLength + 1, kLength + 1)},
      {"a count beyond 32 bits", sized((1ULL << 32) + kLength, kLength)},
      {"no bytes at all", sized(0, 0)},
      {"a count without its bytes", sized(kLength, 3)},
      {"more bytes than counted", sized(kLength, kLength + 100)},
      {"an enormous reply", sized(kLength, 1U << 20)},
      {"a count of all ones", sized(kMax64, kLength)},
      {"half of the structure",
       [](RawPeer& peer, const Message& command) { peer.reply(command, std::span(command.body).first(7)); }},
      {"another command's number",
       [](RawPeer& peer, const Message& command) {
         const Bytes body = good_reply(command);
         peer.send(message(command.header.id, kRegionRead, body, kTypeReply));
       }},
      {"another id",
       [](RawPeer& peer, const Message& command) {
         const Bytes body = good_reply(command);
         const auto id = static_cast<std::uint16_t>(command.header.id + 1);
         peer.send(message(id, command.header.command, body, kTypeReply));
         peer.reply(command, body);
       }},
      {"twice",
       [](RawPeer& peer, const Message& command) {
         peer.reply(command, good_reply(command));
         peer.reply(command, good_reply(command));
       }},
      {"a size below the header",
       [](RawPeer& peer, const Message& command) {
         peer.send(
             encode({.id = command.header.id, .command = command.header.command, .size = 8, .flags = kTypeReply}));
       }},
      {"a huge size",
       [](RawPeer& peer, const Message& command) {
         peer.send(
             encode({.id = command.header.id, .command = command.header.command, .size = kMax32, .flags = kTypeReply}));
       }},
      {"another address",
       [](RawPeer& peer, const Message& command) {
         peer.reply(command, joined(Fields().u64(kMax64).u64(kLength).take(), pattern(kLength)));
       }},
      {"descriptors on it",
       [](RawPeer& peer, const Message& command) {
         const Bytes body = good_reply(command);
         peer.send(message(command.header.id, command.header.command, body, kTypeReply),
                   RawPeer::Descriptors(8, peer.socket()));
       }},
      {"an unknown type", [](RawPeer& peer, const Message& command) { peer.reply(command, good_reply(command), 5); }},
      {"the command echoed",
       [](RawPeer& peer, const Message& command) {
         peer.send(message(command.header.id, command.header.command, command.body));
         peer.reply(command, good_reply(command));
       }},
      {"the end of the stream", [](RawPeer& peer, const Message&) { peer.finish_sending(); }},
  };
}

TEST_F(DmaReplyTest, a_wrong_reply_fails_the_copy_or_ends_the_connection_and_the_server_lives) {
  ServedDevice& device = serve();
  for (const WrongReply& wrong : wrong_replies()) {
    for (const std::uint32_t copy : kCopies) {
      SCOPED_TRACE(testing::Message() << wrong.what << ", copy " << copy);
      RawPeer peer = connect(device);
      peer.on_command = [](const Message&) {};
      const Message command = begin(peer, copy);
      wrong.answer(peer, command);
      expect_in_step_or_closed(peer);
    }
    expect_like_new(device);
  }
}

TEST_F(DmaReplyTest, wrong_data_is_never_taken_for_right) {
  ServedDevice& device = serve();
  const std::array<std::uint64_t, 4> counts{kLength - 1, kLength + 1, 0, (1ULL << 32) + kLength};
  for (const std::uint64_t count : counts) {
    SCOPED_TRACE(testing::Message() << "count " << count);
    RawPeer peer = connect(device);
    const Message command = begin(peer, kCopyIn);
    peer.reply(command, joined(Fields().u64(kAddress).u64(count).take(), pattern(kLength, 7)));
    if (aftermath(peer) == Aftermath::Closed) continue;
    EXPECT_NE(device.device().status(), 0U);
  }
}

TEST_F(DmaReplyTest, an_error_reply_fails_the_copy_alone) {
  ServedDevice& device = serve();
  RawPeer peer = connect(device);
  for (const std::uint32_t copy : kCopies) {
    for (const std::uint32_t error : {14U, 0U, 22U, 4095U, 1U << 31, kMax32}) {
      SCOPED_TRACE(testing::Message() << "copy " << copy << ", errno " << error);
      const Message command = begin(peer, copy);
      peer.reply(command, {}, kTypeReply | kErrorBit, error);
      EXPECT_NE(await_dma(device), 0U) << "an error is an error, with errno or without";
      expect_in_step(peer);
      expect_accepted(peer, kDmaUnmap, dma_unmap({.address = kAddress}));
    }
  }
}

TEST_F(DmaReplyTest, a_client_that_never_answers_costs_a_time_limit_and_no_more) {
  ServedDevice& device = serve({.server = {.spin = 0us, .client_timeout = 100ms}});
  for (const std::uint32_t copy : kCopies) {
    SCOPED_TRACE(testing::Message() << "copy " << copy);
    RawPeer peer = connect(device);
    static_cast<void>(begin(peer, copy));
    const std::uint32_t status = await_dma(device);
    peer.on_command = [](const Message&) {};
    // A client that is dropped leaves a device that was reset.
    EXPECT_TRUE(aftermath(peer) == Aftermath::Closed || status != 0) << "the copy was done without the client";
  }
}

TEST_F(DmaReplyTest, a_late_reply_is_not_taken_for_the_next_one) {
  ServedDevice& device = serve({.server = {.spin = 0us, .client_timeout = 100ms}});
  RawPeer peer = connect(device);
  const Message first = begin(peer, kCopyIn | kOnThread);
  static_cast<void>(await_dma(device));
  peer.reply(first, good_reply(first));
  if (aftermath(peer) == Aftermath::Closed) return;  // an answer too: the stream is not to be trusted any more
  expect_accepted(peer, kDmaUnmap, dma_unmap({.address = kAddress}));
  const Message second = begin(peer, kCopyIn | kOnThread);
  peer.reply(first, good_reply(first));
  const Bytes other = pattern(kLength, 99);
  peer.reply(second, joined(std::span(second.body).first(16), other));
  if (aftermath(peer) == Aftermath::Closed) return;
  ASSERT_EQ(await_dma(device), 0U);
  const Message read = peer.request(kRegionRead, region_read(kMemory, 0, kLength));
  EXPECT_EQ(Bytes(read.body.begin() + 16, read.body.end()), other);
}

// A VMM may serve no DMA while it waits for a reset to be done.
TEST_F(DmaReplyTest, a_reset_does_not_wait_for_a_client_that_answers_after_it) {
  ServedDevice& device = serve({.server = {.spin = 0us, .client_timeout = 3600s}});
  for (const std::uint32_t copy : {kCopyIn | kOnThread, kCopyOut | kOnThread}) {
    SCOPED_TRACE(testing::Message() << "copy " << copy);
    RawPeer peer = connect(device);
    const Message command = begin(peer, copy);
    ASSERT_EQ(aftermath(peer), Aftermath::InStep) << "the access that began the copy was answered";
    expect_accepted(peer, kReset, {});
    peer.reply(command, good_reply(command));
    expect_in_step(peer);
    const Message read = peer.request(kRegionRead, region_read(kMemory, 0, kLength));
    EXPECT_EQ(Bytes(read.body.begin() + 16, read.body.end()), Bytes(kLength)) << "nothing of it reached the device";
  }
}

TEST_F(DmaReplyTest, a_client_that_goes_instead_of_answering_leaves_the_device_free) {
  ServedDevice& device = serve();
  for (const std::uint32_t copy : kCopies) {
    SCOPED_TRACE(testing::Message() << "copy " << copy);
    {
      RawPeer peer = connect(device);
      static_cast<void>(begin(peer, copy));
    }
    expect_like_new(device);
  }
}

TEST_F(DmaReplyTest, copies_larger_than_the_client_takes_come_in_pieces) {
  ServedDevice& device = serve();
  RawPeer peer(device.socket());
  peer.negotiate(R"({"capabilities":{"max_data_xfer_size":4096}})");
  expect_accepted(peer, kDmaMap, dma_map({.address = kAddress, .size = 0x40000}));
  std::uint64_t moved = 0;
  peer.on_command = [&](const Message& command) {
    const auto count = field<std::uint64_t>(command.body, 8);
    EXPECT_LE(count, 4096U) << "WIR-NEGOTIATE";
    moved += count;
    const std::span<const std::byte> fixed = std::span(command.body).first(16);
    peer.reply(command,
               command.header.command == kDmaRead ? joined(fixed, Bytes(count)) : Bytes(fixed.begin(), fixed.end()));
  };
  EXPECT_EQ(run_dma(peer, kAddress + 5, 30'000, kCopyIn), 0U);
  EXPECT_EQ(run_dma(peer, kAddress + 5, 30'000, kCopyOut), 0U);
  EXPECT_EQ(moved, 60'000U);
}

}  // namespace
}  // namespace gangway::hostile
