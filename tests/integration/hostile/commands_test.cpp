// WIR-FRAME: commands that do not exist, flags that mean nothing, replies to nothing.
#include <array>
#include <cerrno>

#include "integration/hostile/command_cases.h"
#include "integration/hostile/hostile_test.h"

namespace gangway::hostile {
namespace {

using CommandsTest = HostileTest;

TEST_F(CommandsTest, an_unknown_command_is_refused_and_the_stream_stays_in_step) {
  ServedDevice& device = serve();
  RawPeer peer = connect(device);
  for (const std::uint16_t command :
       std::vector<std::uint16_t>{0, 14, 19, 20, 31, 100, 255, 256, 257, 0x7fff, 0x8000, 0xfffe, 0xffff}) {
    for (const std::size_t size : {0U, 1U, 16U, 40U, 4096U, 65536U}) {
      SCOPED_TRACE(testing::Message() << "command " << command << " with " << size << " bytes");
      // What a released client takes for "not there"; anything else it takes for a failure.
      expect_refused(peer, command, pattern(size), {ENOTSUP, ENOSYS, EINVAL});
    }
  }
}

TEST_F(CommandsTest, a_command_of_the_servers_direction_is_refused) {
  ServedDevice& device = serve();
  RawPeer peer = connect(device);
  const Bytes read = Fields().u64(0x10000).u64(8).take();
  expect_refused(peer, kDmaRead, read, {ENOTSUP, ENOSYS, EINVAL});
  expect_refused(peer, kDmaWrite, joined(read, pattern(8)), {ENOTSUP, ENOSYS, EINVAL});
  expect_refused(peer, kDmaRead, {}, {ENOTSUP, ENOSYS, EINVAL});
  expect_refused(peer, kDmaWrite, {}, {ENOTSUP, ENOSYS, EINVAL});
}

TEST_F(CommandsTest, unknown_flag_bits_leave_the_stream_in_step) {
  ServedDevice& device = serve();
  for (std::uint32_t bit = 5; bit < 32; ++bit) {
    SCOPED_TRACE(testing::Message() << "flag bit " << bit);
    RawPeer peer = connect(device);
    peer.post(kGetInfo, get_info(), {}, 1U << bit);
    expect_in_step_or_closed(peer);
  }
  RawPeer peer = connect(device);
  peer.post(kGetInfo, get_info(), {}, 0xffffffe0U);
  expect_in_step_or_closed(peer);
}

TEST_F(CommandsTest, an_unknown_message_type_leaves_the_stream_in_step) {
  ServedDevice& device = serve();
  for (std::uint32_t type = 2; type < 16; ++type) {
    SCOPED_TRACE(testing::Message() << "type " << type);
    RawPeer peer = connect(device);
    peer.post(kGetInfo, get_info(), {}, type);
    expect_in_step_or_closed(peer);
  }
}

TEST_F(CommandsTest, a_reply_to_nothing_is_ignored_or_ends_the_connection) {
  ServedDevice& device = serve();
  for (const std::uint16_t command : std::vector<std::uint16_t>{1, 4, 9, 10, 11, 12, 14, 0xffff}) {
    for (const std::size_t size : {0U, 16U, 24U, 4096U}) {
      SCOPED_TRACE(testing::Message() << "reply to command " << command << " with " << size << " bytes");
      RawPeer peer = connect(device);
      peer.post(command, pattern(size), {}, kTypeReply);
      expect_in_step_or_closed(peer);
      RawPeer failing = connect(device);
      failing.post(command, pattern(size), {}, kTypeReply | kErrorBit);
      expect_in_step_or_closed(failing);
    }
  }
}

TEST_F(CommandsTest, a_reply_instead_of_version_is_no_negotiation) {
  ServedDevice& device = serve();
  RawPeer peer(device.socket());
  peer.post(kVersion, version(RawPeer::kCapabilities), {}, kTypeReply);
  peer.post(kGetInfo, get_info());
  const std::optional<Message> answer = peer.receive_reply();
  EXPECT_TRUE(!answer || answer->failed()) << "the device answered a client that has not negotiated";
}

TEST_F(CommandsTest, the_error_field_of_a_command_is_reserved_and_does_not_matter) {
  ServedDevice& device = serve();
  RawPeer peer = connect(device);
  const Bytes body = get_info();
  peer.send(joined(encode({.id = 9, .command = kGetInfo, .size = 32, .flags = 0, .error = 0xdeadbeef}), body));
  const std::optional<Message> reply = peer.receive_reply();
  ASSERT_TRUE(reply) << "closed";
  EXPECT_EQ(reply->header.id, 9);
  EXPECT_EQ(reply->error(), 0);
}

TEST_F(CommandsTest, message_ids_belong_to_the_sender) {
  ServedDevice& device = serve();
  RawPeer peer = connect(device);
  // "can be re-used (even concurrently) and the receiver must not make any assumptions about their uniqueness"
  const Bytes value = pattern(8);
  Bytes bytes = message(5, kRegionWrite, region_write(kRegisters, kScratch, value));
  for (int i = 0; i < 3; ++i) bytes = joined(bytes, message(5, kRegionRead, region_read(kRegisters, kScratch, 8)));
  bytes = joined(bytes, message(0, kGetInfo, get_info()));
  bytes = joined(bytes, message(0xffff, kGetInfo, get_info()));
  peer.send(bytes);
  for (const std::uint16_t id : std::vector<std::uint16_t>{5, 5, 5, 5, 0, 0xffff}) {
    const std::optional<Message> reply = peer.receive_reply();
    ASSERT_TRUE(reply) << "closed";
    EXPECT_EQ(reply->header.id, id);
    EXPECT_EQ(reply->error(), 0);
  }
}

TEST_F(CommandsTest, random_bytes_never_put_the_stream_out_of_step) {
  ServedDevice& device = serve();
  std::uint32_t seed = 12345;
  const auto random = [&seed] { return seed = seed * 1664525U + 1013904223U, seed >> 8; };
  for (int round = 0; round < 200; ++round) {
    SCOPED_TRACE(testing::Message() << "round " << round);
    RawPeer peer = connect(device);
    // Headers that are right but for what is drawn, and bodies that are noise.
    for (int count = 0; count < 8; ++count) {
      Bytes body(random() % 96);
      for (std::byte& byte : body) byte = static_cast<std::byte>((random() % 4 == 0) ? random() : 0);
      peer.post(static_cast<std::uint16_t>(random() % 20), body, {}, (random() % 8 == 0) ? kNoReply : 0);
    }
    peer.on_command = [&peer](const Message& command) { peer.reply(command, {}, kTypeReply | kErrorBit, EFAULT); };
    expect_in_step_or_closed(peer);
  }
}

}  // namespace
}  // namespace gangway::hostile
