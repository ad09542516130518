// WIR-FRAME: header and body may arrive split at any byte; a bad size gets an error reply or a clean close, and the
// stream is never out of step.
#include <sys/resource.h>

#include <array>

#include "integration/hostile/command_cases.h"
#include "integration/hostile/hostile_test.h"

namespace gangway::hostile {
namespace {

using FramingTest = HostileTest;

// Sends the bytes in pieces, each read by the server before the next leaves.
void send_in_pieces(RawPeer& peer, std::span<const std::byte> bytes, std::size_t first, std::size_t rest) {
  ASSERT_TRUE(peer.send(bytes.first(first)));
  bytes = bytes.subspan(first);
  while (!bytes.empty()) {
    peer.await_taken();
    const std::size_t size = std::min(rest, bytes.size());
    ASSERT_TRUE(peer.send(bytes.first(size)));
    bytes = bytes.subspan(size);
  }
}

long peak_memory_kib() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss;
}

TEST_F(FramingTest, a_size_below_the_header_ends_the_connection) {
  ServedDevice& device = serve();
  for (const std::uint32_t size : {0U, 1U, 4U, 15U}) {
    SCOPED_TRACE(testing::Message() << "size " << size);
    RawPeer peer = connect(device);
    peer.send(encode({.id = 1, .command = kGetInfo, .size = size}));
    expect_closed(peer);
  }
}

TEST_F(FramingTest, a_size_below_the_header_ends_the_connection_before_version_too) {
  ServedDevice& device = serve();
  RawPeer peer(device.socket());
  peer.send(encode({.id = 1, .command = kVersion, .size = 15}));
  expect_closed(peer);
}

TEST_F(FramingTest, a_huge_size_ends_the_connection_without_waiting_for_the_body_or_making_room_for_it) {
  ServedDevice& device = serve();
  const long before = peak_memory_kib();
  for (const std::uint16_t command : std::array{kRegionWrite, kMigDataWrite, kFeature, kVersion, kGetInfo}) {
    for (const std::uint32_t size : {kMax32, 0x80000000U, 0x40000000U}) {
      SCOPED_TRACE(testing::Message() << "command " << command << ", size " << size);
      RawPeer peer = connect(device);
      peer.send(encode({.id = 1, .command = command, .size = size}));
      expect_closed(peer);
    }
  }
  EXPECT_LT(peak_memory_kib() - before, 256L << 10) << "KiB were taken on a client's word";
}

TEST_F(FramingTest, a_huge_reply_that_nobody_asked_for_is_not_waited_for) {
  ServedDevice& device = serve();
  RawPeer peer = connect(device);
  peer.send(encode({.id = 1, .command = kDmaRead, .size = kMax32, .flags = kTypeReply}));
  expect_closed(peer);
}

TEST_F(FramingTest, the_largest_transfer_that_was_negotiated_is_taken_and_a_larger_one_is_not) {
  ServedDevice& device = serve();
  RawPeer peer = connect(device);
  const Bytes data = pattern((1U << 20) + 1);
  expect_accepted(peer, kRegionWrite, region_write(kMemory, 0, std::span(data).first(1U << 20)));
  const Message reply = peer.request(kRegionRead, region_read(kMemory, 0, 1U << 20));
  ASSERT_EQ(reply.body.size(), 16U + (1U << 20));
  EXPECT_TRUE(std::equal(reply.body.begin() + 16, reply.body.end(), data.begin()));

  peer.post(kRegionWrite, region_write(kMemory, 0, data));
  expect_in_step_or_closed(peer);
}

TEST_F(FramingTest, a_header_may_be_split_at_every_byte) {
  ServedDevice& device = serve();
  RawPeer peer = connect(device);
  for (std::size_t at = 1; at < kHeaderSize; ++at) {
    SCOPED_TRACE(testing::Message() << "split at byte " << at);
    const std::uint16_t id = peer.next_id();
    send_in_pieces(peer, message(id, kGetInfo, get_info()), at, kMax32);
    const std::optional<Message> reply = peer.receive_reply();
    ASSERT_TRUE(reply) << "closed";
    EXPECT_EQ(reply->header.id, id);
    EXPECT_EQ(reply->error(), 0);
  }
  expect_in_step(peer);
}

TEST_F(FramingTest, every_command_may_be_split_at_every_byte) {
  ServedDevice& device = serve();
  RawPeer peer = connect(device);
  // Maps, so that every DMA_UNMAP finds something: each round of splits carries out DMA_MAP first.
  const std::vector<CommandCase> commands = all_commands();
  for (std::size_t at = 1; at < kHeaderSize + 60; ++at) {
    for (const CommandCase& test : commands) {
      const std::uint16_t id = peer.next_id();
      const Bytes bytes = message(id, test.command, test.body);
      SCOPED_TRACE(testing::Message() << test.name << " split at byte " << at);
      send_in_pieces(peer, bytes, std::min(at, bytes.size()), kMax32);
      const std::optional<Message> reply = peer.receive_reply();
      ASSERT_TRUE(reply) << "closed";
      ASSERT_EQ(reply->header.id, id);
      ASSERT_EQ(reply->error(), 0);
    }
  }
  expect_in_step(peer);
}

TEST_F(FramingTest, every_command_may_arrive_byte_by_byte) {
  ServedDevice& device = serve();
  RawPeer peer = connect(device);
  for (const CommandCase& test : all_commands()) {
    SCOPED_TRACE(test.name);
    const std::uint16_t id = peer.next_id();
    send_in_pieces(peer, message(id, test.command, test.body), 1, 1);
    const std::optional<Message> reply = peer.receive_reply();
    ASSERT_TRUE(reply) << "closed";
    EXPECT_EQ(reply->header.id, id);
    EXPECT_EQ(reply->error(), 0);
  }
  expect_in_step(peer);
}

TEST_F(FramingTest, version_may_be_split_at_every_byte) {
  ServedDevice& device = serve();
  const Bytes bytes = message(7, kVersion, version(RawPeer::kCapabilities));
  for (std::size_t at = 1; at < bytes.size(); at += at < 24 ? 1 : 13) {
    SCOPED_TRACE(testing::Message() << "split at byte " << at);
    RawPeer peer(device.socket());
    send_in_pieces(peer, bytes, at, kMax32);
    const std::optional<Message> reply = peer.receive_reply();
    ASSERT_TRUE(reply) << "closed";
    EXPECT_EQ(reply->error(), 0);
    expect_in_step(peer);
  }
}

TEST_F(FramingTest, commands_may_share_a_write_and_be_cut_anywhere) {
  ServedDevice& device = serve();
  RawPeer peer = connect(device);
  const Bytes value = pattern(8);
  Bytes bytes = message(1, kGetInfo, get_info());
  bytes = joined(bytes, message(2, kRegionWrite, region_write(kRegisters, kScratch, value)));
  bytes = joined(bytes, message(3, kRegionRead, region_read(kRegisters, kScratch, 8)));
  for (std::size_t at = 1; at < bytes.size(); ++at) {
    SCOPED_TRACE(testing::Message() << "cut at byte " << at);
    send_in_pieces(peer, bytes, at, kMax32);
    for (const std::uint16_t id : std::vector<std::uint16_t>{1, 2, 3}) {
      const std::optional<Message> reply = peer.receive_reply();
      ASSERT_TRUE(reply) << "closed";
      ASSERT_EQ(reply->header.id, id) << "replies come in the order of the commands";
      ASSERT_EQ(reply->error(), 0);
    }
  }
  expect_in_step(peer);
}

TEST_F(FramingTest, a_long_body_may_arrive_in_pieces_of_any_size) {
  ServedDevice& device = serve();
  RawPeer peer = connect(device);
  const Bytes data = pattern(100'000, 9);
  for (const std::size_t piece : {1000U, 4096U, 8192U, 8208U, 65536U}) {
    SCOPED_TRACE(testing::Message() << "pieces of " << piece);
    send_in_pieces(peer, message(peer.next_id(), kRegionWrite, region_write(kMemory, 0, data)), 17, piece);
    const std::optional<Message> reply = peer.receive_reply();
    ASSERT_TRUE(reply) << "closed";
    EXPECT_EQ(reply->error(), 0);
    const Message read = peer.request(kRegionRead, region_read(kMemory, 0, 100'000));
    ASSERT_EQ(read.body.size(), 16U + data.size());
    EXPECT_TRUE(std::equal(data.begin(), data.end(), read.body.begin() + 16));
  }
}

TEST_F(FramingTest, a_client_that_stops_in_the_middle_of_a_message_is_done_with) {
  ServedDevice& device = serve();
  const Bytes bytes = message(1, kRegionWrite, region_write(kRegisters, kScratch, pattern(8)));
  for (std::size_t at = 0; at < bytes.size(); ++at) {
    SCOPED_TRACE(testing::Message() << at << " bytes of a command, then the end of the stream");
    RawPeer peer = connect(device);
    peer.send(std::span(bytes).first(at));
    peer.finish_sending();
    expect_closed(peer);
  }
}

}  // namespace
}  // namespace gangway::hostile
