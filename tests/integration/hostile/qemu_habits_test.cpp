// WIR-NEGOTIATE, WIR-REPLY: what the one VMM in wide use does, and what it gives up on. Source: QEMU hw/vfio-user/.
#include <array>
#include <cerrno>
#include <nlohmann/json.hpp>

#include "integration/hostile/command_cases.h"
#include "integration/hostile/hostile_test.h"
#include "integration/hostile/memory_file.h"

namespace gangway::hostile {
namespace {

using QemuHabitsTest = HostileTest;

// As its proxy proposes it: version 0.0, and these keys.
constexpr std::string_view kProposal =
    R"({"capabilities": {"migration": {"max_bitmap_size": 268435456, "pgsize": 4096}, "max_msg_fds": 16, )"
    R"("max_data_xfer_size": 1048576, "write_multiple": true, "pgsizes": 4096, "max_dma_maps": 65535}})";

nlohmann::json capabilities(const Message& reply) {
  const std::string text(reinterpret_cast<const char*>(reply.body.data()) + 4, reply.body.size() - 5);
  const nlohmann::json json = nlohmann::json::parse(text, nullptr, false);
  EXPECT_TRUE(json.is_object()) << text;
  return json.value("capabilities", nlohmann::json::object());
}

TEST_F(QemuHabitsTest, the_version_reply_holds_nothing_that_it_gives_up_on) {
  ServedDevice& device = serve();
  RawPeer peer(device.socket());
  const Message reply = peer.request(kVersion, version(kProposal));
  ASSERT_EQ(reply.error(), 0);
  EXPECT_EQ(field<std::uint16_t>(reply.body, 0), 0U);
  EXPECT_EQ(field<std::uint16_t>(reply.body, 2), 0U) << "a greater minor version is fatal";
  ASSERT_GT(reply.body.size(), 4U);
  EXPECT_EQ(reply.body.back(), std::byte{0}) << "a reply without NUL is fatal";
  const nlohmann::json keys = capabilities(reply);
  EXPECT_LE(keys.value("max_msg_fds", 1U), 16U);
  EXPECT_LE(keys.value("max_data_xfer_size", 0U), 64U << 20);
  EXPECT_EQ(keys.value("pgsizes", 4096U) % 4096U, 0U);
  EXPECT_GT(keys.value("pgsizes", 4096U), 0U);
  EXPECT_LE(keys.value("max_dma_maps", 65535U), 65535U);
  if (keys.contains("migration")) {
    EXPECT_EQ(keys["migration"].value("pgsize", 4096U) % 4096U, 0U);
    EXPECT_LE(keys["migration"].value("max_bitmap_size", 0U), 256U << 20);
  }
  if (keys.contains("write_multiple")) {
    EXPECT_TRUE(keys["write_multiple"].is_boolean());
  }
  expect_in_step(peer);
}

TEST_F(QemuHabitsTest, a_reply_is_there_as_a_whole_when_its_header_is) {
  ServedDevice& device = serve();
  RawPeer peer(device.socket());
  EXPECT_TRUE(peer.request(kVersion, version(kProposal)).arrived_whole);
  for (int round = 0; round < 20; ++round) {
    for (const CommandCase& test : all_commands()) {
      SCOPED_TRACE(test.name);
      EXPECT_TRUE(peer.request(test.command, test.body).arrived_whole) << "a header read alone is fatal";
    }
    EXPECT_TRUE(peer.request(kGetRegionInfo, get_region_info(kMemory)).arrived_whole);
    // The kernel delivers what is longer than 32 KiB in parts; of a body, QEMU takes the rest when it comes.
    EXPECT_TRUE(peer.request(kRegionRead, region_read(kMemory, 0, 16U << 10)).arrived_whole);
  }
}

TEST_F(QemuHabitsTest, maps_of_a_boot_come_in_transactions_and_are_changed) {
  ServedDevice& device = serve();
  RawPeer peer(device.socket());
  peer.request(kVersion, version(kProposal));
  const Fd ram = memory_file(1U << 20);
  // Everything at first; then a hole is cut and filled with what is not writeable and has no descriptor.
  std::vector<std::uint16_t> ids;
  ids.push_back(peer.post(kDmaMap, dma_map({.address = 0, .size = 0x100000}), {ram.get()}));
  ids.push_back(peer.post(kDmaUnmap, dma_unmap({.address = 0, .size = 0x100000})));
  ids.push_back(peer.post(kDmaMap, dma_map({.address = 0, .size = 0xc0000}), {ram.get()}));
  ids.push_back(
      peer.post(kDmaMap, dma_map({.address = 0xc0000, .size = 0x20000, .offset = 0xc0000, .flags = 1}), {ram.get()}));
  ids.push_back(peer.post(kDmaMap, dma_map({.address = 0xe0000, .size = 0x20000, .flags = 0})));
  ids.push_back(peer.post(kDmaMap, dma_map({.address = 0xfffc0000, .size = 0x40000, .flags = 1})));
  for (const std::uint16_t id : ids) {
    const std::optional<Message> reply = peer.receive_reply();
    ASSERT_TRUE(reply) << "closed";
    EXPECT_EQ(reply->header.id, id);
    EXPECT_EQ(reply->error(), 0);
  }
  EXPECT_EQ(device.endpoint().dma().map_count(), 4U);
  expect_accepted(peer, kReset, {});  // "it resets once at boot"
  EXPECT_EQ(device.endpoint().dma().map_count(), 4U) << "a reset leaves the maps";

  write_file(ram, 0xc0000, pattern(16));
  EXPECT_EQ(run_dma(peer, 0xc0000, 16, kCopyIn), 0U) << "readable";
  EXPECT_NE(run_dma(peer, 0xc0000, 16, kCopyOut), 0U) << "not writeable";
  EXPECT_NE(run_dma(peer, 0xe0000, 16, kCopyIn), 0U) << "flags 0: kept and not accessible";
  EXPECT_EQ(read_file(ram, 0xc0000, 16), pattern(16));

  for (const auto& [address, size] : {std::pair<std::uint64_t, std::uint64_t>{0xc0000, 0x20000}, {0xe0000, 0x20000}}) {
    expect_accepted(peer, kDmaUnmap, dma_unmap({.address = address, .size = size}));
    expect_accepted(peer, kDmaMap, dma_map({.address = address, .size = size, .offset = address}), {ram.get()});
    EXPECT_EQ(run_dma(peer, address, 16, kCopyOut), 0U);
  }
}

TEST_F(QemuHabitsTest, everything_is_unmapped_at_once) {
  ServedDevice& device = serve();
  RawPeer peer = connect(device);
  for (std::uint64_t i = 0; i < 5; ++i) expect_accepted(peer, kDmaMap, dma_map({.address = i << 20}));
  expect_accepted(peer, kDmaUnmap, dma_unmap({.address = 0, .size = 0, .flags = kUnmapAll}));
  EXPECT_EQ(device.endpoint().dma().map_count(), 0U);
}

TEST_F(QemuHabitsTest, a_command_from_a_later_version_gets_an_errno_that_means_not_there) {
  ServedDevice& device = serve();
  RawPeer peer = connect(device);
  for (std::uint16_t command = 19; command < 64; ++command) {
    expect_refused(peer, command, pattern(24), {ENOTSUP, ENOSYS, EINVAL});
  }
}

TEST_F(QemuHabitsTest, migration_data_is_filled_while_there_is_more) {
  ServedDevice& device = serve();
  RawPeer peer = connect(device);
  const Bytes content = pattern(kMemorySize, 3);
  expect_accepted(peer, kRegionWrite, region_write(kMemory, 0, content));
  go_to(peer, kStateStopCopy);
  // WIR-MIGREAD: shorter than asked means the end. So with any transfer size the stream is the same.
  const Bytes stream = read_stream(peer, 1U << 20);
  EXPECT_GT(stream.size(), kMemorySize);
  for (int again = 0; again < 3; ++again) {
    const Message end = peer.request(kMigDataRead, mig_data_read(4096));
    EXPECT_EQ(end.error(), 0);
    EXPECT_EQ(field<std::uint32_t>(end.body, 4), 0U) << "DAT-EOS-STOP: the end stays the end";
  }
  for (const std::uint32_t transfer : {4096U, 65537U, 300'000U}) {
    go_to(peer, kStateStop);
    go_to(peer, kStateStopCopy);
    EXPECT_EQ(read_stream(peer, transfer).size(), stream.size()) << transfer << " bytes at a time";
  }
}

// Memory without a descriptor, as QEMU serves it: counts of 4 bytes, data behind 12, writes answered with a header
// alone.
class PackedMemory {
 public:
  void answer(RawPeer& peer, const Message& command) {
    EXPECT_TRUE(command.fds.empty()) << "a command with descriptors is refused";
    EXPECT_LE(command.header.size, (1U << 20) + 32) << "a longer command is dropped unanswered";
    ASSERT_GE(command.body.size(), 16U) << "a shorter command is refused";
    const auto count = field<std::uint32_t>(command.body, 8);
    const std::uint64_t at = field<std::uint64_t>(command.body, 0) - kAddress;
    ASSERT_LE(at + count, bytes.size());
    if (command.header.command == kDmaRead) {
      EXPECT_LE(count, 64U << 10) << "what the socket does not take at once is lost";
      const Bytes head(command.body.begin(), command.body.begin() + 12);
      peer.reply(command, joined(joined(head, std::span(bytes).subspan(at, count)), Bytes(4)));
      return;
    }
    ASSERT_LE(count, command.body.size() - 16) << "a write of more than came is refused";
    std::ranges::copy(std::span(command.body).subspan(12, count), bytes.begin() + static_cast<std::ptrdiff_t>(at));
    peer.reply(command, {});
  }

  static constexpr std::uint64_t kAddress = 0x10000;
  Bytes bytes = Bytes(0x40000);
};

TEST_F(QemuHabitsTest, dma_messages_are_packed) {
  ServedDevice& device = serve();
  RawPeer peer(device.socket());
  peer.request(kVersion, version(kProposal));
  expect_accepted(peer, kDmaMap, dma_map({.address = PackedMemory::kAddress, .size = 0x40000}));
  PackedMemory memory;
  constexpr std::uint32_t kLong = 0x30001;  // several reads
  peer.on_command = [&](const Message& command) { memory.answer(peer, command); };
  for (const std::uint32_t how : {0U, kOnThread}) {
    for (const std::uint32_t length : {1U, 3U, 4U, 5U, 64U, 4096U, kLong}) {
      SCOPED_TRACE(testing::Message() << length << " bytes, how " << how);
      const Bytes content = pattern(length, static_cast<std::uint8_t>(length));
      expect_accepted(peer, kRegionWrite, region_write(kMemory, 0, content));
      memory.bytes.assign(memory.bytes.size(), std::byte{0xee});
      ASSERT_EQ(run_dma(peer, PackedMemory::kAddress, length, kCopyOut | how), 0U);
      EXPECT_TRUE(std::ranges::equal(std::span(memory.bytes).first(length), content));
      EXPECT_EQ(memory.bytes[length], std::byte{0xee}) << "nothing is written behind";
      const Bytes other = pattern(length, 77);
      std::ranges::copy(other, memory.bytes.begin());
      ASSERT_EQ(run_dma(peer, PackedMemory::kAddress, length, kCopyIn | how), 0U);
      const Message read = peer.request(kRegionRead, region_read(kMemory, 0, length));
      EXPECT_EQ(Bytes(read.body.begin() + 16, read.body.end()), other);
    }
  }
  expect_in_step(peer);
}

TEST_F(QemuHabitsTest, who_proposes_the_same_and_keeps_to_the_specification_is_served_by_it) {
  for (const bool takes_empty_writes : {true, false}) {
    ServedDevice& device = serve();
    RawPeer peer(device.socket());
    peer.request(kVersion, version(kProposal));
    expect_accepted(peer, kDmaMap, dma_map({.address = PackedMemory::kAddress}));
    peer.on_command = [&](const Message& command) {
      const Bytes fixed(command.body.begin(), command.body.begin() + 16);
      const auto count = field<std::uint64_t>(command.body, 8);
      if (count == 0 && !takes_empty_writes) {
        peer.reply(command, {}, kTypeReply | kErrorBit, EINVAL);
        return;
      }
      peer.reply(command, command.header.command == kDmaRead ? joined(fixed, pattern(count, 5)) : fixed);
    };
    EXPECT_EQ(run_dma(peer, PackedMemory::kAddress, 64, kCopyOut), 0U);
    EXPECT_EQ(run_dma(peer, PackedMemory::kAddress, 64, kCopyIn), 0U);
    const Message read = peer.request(kRegionRead, region_read(kMemory, 0, 64));
    EXPECT_EQ(Bytes(read.body.begin() + 16, read.body.end()), pattern(64, 5));
  }
}

}  // namespace
}  // namespace gangway::hostile
