// The sample client of libvfio-user, byte for byte: what it sends, and what it takes for a reply.
// Source: nutanix/libvfio-user samples/client.c (main, migrate_from, migrate_to) and lib/tran_sock.c
// (tran_sock_recv_fds: a payload of exactly the length that was asked for).
#include <sys/eventfd.h>

#include <array>
#include <cerrno>

#include "integration/hostile/hostile_test.h"
#include "integration/hostile/memory_file.h"

namespace gangway::hostile {
namespace {

using LibvfioUserHabitsTest = HostileTest;

constexpr std::string_view kSingleSocket = R"({"capabilities":{"max_msg_fds":32,"max_data_xfer_size":1024}})";
constexpr std::string_view kTwinSocket =
    R"({"capabilities":{"max_msg_fds":32,"max_data_xfer_size":1024,"twin_socket":{"supported":true}}})";
// Its form before the twin socket.
constexpr std::string_view kOlder =
    R"({"capabilities":{"max_msg_fds":32,"max_data_xfer_size":1024,"migration":{"pgsize":4096}}})";

constexpr std::uint32_t kPage = 4096;
constexpr std::uint32_t kTransfer = 1024;
constexpr std::uint32_t kGuestWrite = 0x3000;  // BAR1 of its server, in one access
constexpr std::uint32_t kFeatureSetState = kFeatureSet | kFeatureDeviceState;

ServedOptions with_quirk() {
  ServedOptions options;
  options.server.quirks.libvfio_user_client = true;
  return options;
}

class SampleClient {
 public:
  explicit SampleClient(const ServedDevice& device, std::string_view proposal = kSingleSocket)
      : peer_(device.socket()) {
    const Message reply = call(0xda55, kVersion, version(proposal, 0), std::nullopt);
    EXPECT_EQ(reply.body.back(), std::byte{0}) << "JSON without its NUL is fatal";
  }

  // A message and its reply, as its functions of one message do it. With a length the payload has exactly that; 0: any,
  // which it leaves in the socket if there is one.
  Message call(std::uint16_t id, std::uint16_t command, std::span<const std::byte> body,
               std::optional<std::size_t> payload, const RawPeer::Descriptors& fds = {}) {
    peer_.send(message(id, command, body), fds);
    std::optional<Message> reply = peer_.receive();
    if (!reply) throw std::runtime_error("the server closed the connection");
    EXPECT_TRUE(reply->is_reply()) << "it takes the next message for the reply, whatever it is";
    EXPECT_EQ(reply->header.id, id);
    EXPECT_TRUE(reply->arrived_whole) << "a header that is read alone is fatal";
    if (payload && reply->error() == 0) {
      EXPECT_EQ(reply->body.size(), *payload) << "of command " << command;
    }
    return std::move(*reply);
  }

  int access(std::uint32_t region, std::uint64_t offset, std::span<const std::byte> data) {
    return call(region_id_--, kRegionWrite, region_write(region, offset, data), 16).error();
  }
  Message look(std::uint32_t region, std::uint64_t offset, std::uint32_t size) {
    return call(region_id_--, kRegionRead, region_read(region, offset, size), 16 + size);
  }
  void set_state(std::uint32_t state) {
    const Bytes request = Fields().u32(16).u32(kFeatureSetState).u32(state).u32(kMax32).take();
    const Message reply = call(state_id_--, kFeature, request, 16);
    EXPECT_EQ(reply.error(), 0) << "state " << state;
    EXPECT_EQ(reply.body, request) << "it compares the reply with what it sent";
  }
  // Data of the length that the reply says.
  Bytes read_data() {
    const Message reply =
        call(read_id_--, kMigDataRead, Fields().u32(8 + kTransfer).u32(kTransfer).take(), 8 + kTransfer);
    EXPECT_EQ(reply.error(), 0);
    const auto size = field<std::uint32_t>(reply.body, 4);
    if (size > kTransfer) throw std::runtime_error("more data than it has room for");
    for (std::size_t at = 8 + size; at < reply.body.size(); ++at) EXPECT_EQ(reply.body[at], std::byte{0});
    return {reply.body.begin() + 8, reply.body.begin() + 8 + size};
  }
  void write_data(std::span<const std::byte> data) {
    const auto size = static_cast<std::uint32_t>(data.size());
    const Message reply =
        call(write_id_--, kMigDataWrite, joined(Fields().u32(8 + size).u32(size).take(), data), std::nullopt);
    EXPECT_EQ(reply.error(), 0);
    EXPECT_TRUE(reply.body.empty() || reply.body.size() == 8) << "anything else stays in the socket";
  }
  [[nodiscard]] RawPeer& peer() { return peer_; }

 private:
  RawPeer peer_;
  std::uint16_t region_id_ = 0xf00f;
  std::uint16_t state_id_ = 0xfab1;
  std::uint16_t read_id_ = 0x6904;
  std::uint16_t write_id_ = 0x2023;
};

void look_around(SampleClient& client) {
  EXPECT_EQ(client.look(0xdeadbeef, 0, 4).error(), EINVAL) << "anything else ends it";
  const Message info = client.call(0xb10c, kGetInfo, get_info(), 16);
  const auto regions = field<std::uint32_t>(info.body, 8);
  for (std::uint32_t index = 0; index < regions; ++index) {
    const Message first = client.call(0xabcd, kGetRegionInfo, get_region_info(index, 32), 32);
    const auto size = field<std::uint32_t>(first.body, 0);
    if (size > 32) {
      const Message whole = client.call(0xabcd, kGetRegionInfo, get_region_info(index, size), size);
      EXPECT_EQ(field<std::uint32_t>(whole.body, 0), size);
    }
  }
  EXPECT_EQ(client.look(kConfig, 0, 64).error(), 0);
  EXPECT_EQ(client.call(1, kReset, {}, std::nullopt).body.size(), 0U);
}

void configure_irqs(SampleClient& client) {
  for (std::uint32_t index = 0; index < 5; ++index) client.call(0x1bad, kGetIrqInfo, get_irq_info(index), 16);
  const Fd event(::eventfd(0, EFD_CLOEXEC));
  const Bytes request =
      set_irqs({.flags = kIrqEventfds | kIrqTrigger, .index = 0, .start = 0, .count = 1, .data = {}}, 20);
  EXPECT_EQ(client.call(0x1bae, kSetIrqs, request, std::nullopt, {event.get()}).error(), 0);
}

Bytes logging(std::uint32_t feature_number) {
  return Fields().u32(24).u32(feature_number | kFeatureSet).u64(kPage).u32(0).u32(0).take();
}

// As many reads as were asked for, or to the end; empty parts are no parts.
std::vector<Bytes> do_migrate(SampleClient& client, std::size_t most) {
  std::vector<Bytes> parts;
  while (parts.size() < most) {
    Bytes part = client.read_data();
    if (part.empty()) break;
    parts.push_back(std::move(part));
  }
  return parts;
}

std::vector<Bytes> migrate_from(SampleClient& client, const Bytes& content) {
  client.set_state(kStatePreCopy);
  EXPECT_EQ(client.access(kMemory, 0, content), 0) << "more than it said that it transfers, in one access";
  std::vector<Bytes> parts = do_migrate(client, 16);
  client.set_state(kStateStopCopy);
  std::ranges::move(do_migrate(client, 1U << 20), std::back_inserter(parts));
  client.set_state(kStateStop);
  return parts;
}

void migrate_to(SampleClient& client, const std::vector<Bytes>& parts, const Bytes& content) {
  client.set_state(kStateResuming);
  for (const Bytes& part : parts) client.write_data(part);
  client.set_state(kStateStop);
  const Message found = client.look(kMemory, 0, kGuestWrite);
  EXPECT_TRUE(std::ranges::equal(std::span(found.body).subspan(16), content)) << "it compares what it wrote";
  client.set_state(kStateRunning);
  configure_irqs(client);
}

TEST_F(LibvfioUserHabitsTest, it_migrates_where_its_quirk_is_served) {
  for (const std::string_view proposal : {kSingleSocket, kTwinSocket, kOlder}) {
    SCOPED_TRACE(proposal);
    ServedDevice& source = serve(with_quirk());
    const Bytes content = pattern(kGuestWrite, 9);
    std::vector<Bytes> parts;
    {
      SampleClient client(source, proposal);
      look_around(client);
      const Fd memory = memory_file(16 * kPage);
      for (std::uint16_t i = 0; i < 16; ++i) {
        const Bytes map = dma_map({.address = i * std::uint64_t{kPage}, .offset = i * std::uint64_t{kPage}});
        EXPECT_EQ(client.call(0x1234 + i, kDmaMap, map, std::nullopt, {memory.get()}).error(), 0);
      }
      configure_irqs(client);
      EXPECT_EQ(client.call(0, kFeature, logging(kFeatureLoggingStart), 24).error(), 0) << "0 ranges";
      const Message report = client.call(0x99, kFeature, logging_report(0, kPage, kPage, 40), 40);
      EXPECT_EQ(report.error(), 0);
      EXPECT_EQ(client.call(0, kFeature, logging(kFeatureLoggingStop), 24).error(), 0);
      EXPECT_EQ(client.call(7, kDmaUnmap, dma_unmap({.address = 0, .size = kPage}), 24).error(), 0);
      parts = migrate_from(client, content);
    }
    EXPECT_GT(parts.size(), 16U);
    SampleClient client(serve(with_quirk()), proposal);
    migrate_to(client, parts, content);
  }
}

TEST_F(LibvfioUserHabitsTest, without_the_quirk_the_end_is_shorter_than_it_takes) {
  ServedDevice& device = serve();
  RawPeer peer(device.socket());
  peer.request(kVersion, version(kSingleSocket));
  go_to(peer, kStateStopCopy);
  while (peer.request(kMigDataRead, mig_data_read(kTransfer)).body.size() == 8 + kTransfer) {
  }
  EXPECT_EQ(peer.request(kMigDataRead, mig_data_read(kTransfer)).body.size(), 8U);
}

TEST_F(LibvfioUserHabitsTest, whoever_does_not_show_the_quirk_does_not_notice_it) {
  constexpr std::string_view kQemu =
      R"({"capabilities": {"migration": {"max_bitmap_size": 268435456, "pgsize": 4096}, "max_msg_fds": 16, )"
      R"("max_data_xfer_size": 1048576, "write_multiple": true, "pgsizes": 4096, "max_dma_maps": 65535}})";
  constexpr std::string_view kOurs =
      R"({"capabilities":{"max_msg_fds":8,"max_data_xfer_size":1024,"gangway":{"enomsg":true}}})";
  for (const std::string_view proposal : {RawPeer::kCapabilities, kQemu, kOurs, std::string_view("{}")}) {
    SCOPED_TRACE(proposal);
    ServedDevice& device = serve(with_quirk());
    RawPeer peer(device.socket());
    peer.request(kVersion, version(proposal));
    go_to(peer, kStateStopCopy);
    EXPECT_GT(read_stream(peer, kTransfer).size(), kMemorySize);
    const Message end = peer.request(kMigDataRead, mig_data_read(kTransfer));
    EXPECT_EQ(end.body.size(), 8U) << "WIR-MIGREAD: a shorter reply means the end";
  }
}

// Serves what the server sends now, as it does between two of its calls.
void serve_dma(SampleClient& client, std::uint16_t command, std::uint64_t address, std::uint64_t count) {
  std::optional<Message> message = client.peer().receive();
  ASSERT_TRUE(message) << "closed";
  ASSERT_FALSE(message->is_reply());
  ASSERT_EQ(message->header.command, command);
  ASSERT_EQ(field<std::uint64_t>(message->body, 0), address);
  ASSERT_EQ(field<std::uint64_t>(message->body, 8), count);
  const Bytes fixed(message->body.begin(), message->body.begin() + 16);
  client.peer().reply(*message, command == kDmaRead ? joined(fixed, pattern(count)) : fixed);
}

TEST_F(LibvfioUserHabitsTest, dma_messages_come_one_by_one_and_never_between_a_command_and_its_reply) {
  ServedDevice& device = serve(with_quirk());
  for (const std::string_view proposal : {kSingleSocket, kOlder}) {
    SampleClient client(device, proposal);
    constexpr std::uint64_t kAddress = 0x10000;
    EXPECT_EQ(client.call(0x1234, kDmaMap, dma_map({.address = kAddress}), std::nullopt).error(), 0);
    const auto write = [&](std::uint64_t offset, Bytes value) {
      EXPECT_EQ(client.access(kRegisters, offset, value), 0);
    };
    for (int round = 0; round < 50; ++round) {
      for (const auto& [copy, command] : {std::pair{kCopyOut, kDmaWrite}, std::pair{kCopyIn, kDmaRead}}) {
        write(kDmaAddress, Fields().u64(kAddress).take());
        write(kDmaLength, Fields().u32(kPage).take());
        write(kDmaStart, Fields().u32(copy | kOnThread).take());  // its reply comes before the first message
        for (std::uint32_t done = 0; done < kPage; done += kTransfer) {
          serve_dma(client, command, kAddress + done, kTransfer);
          if (HasFatalFailure()) return;
        }
        EXPECT_EQ(await_dma(device), 0U);
      }
    }
  }
}

// A command that waits for the device's copy must not wait for ever for the copy that waits for the command.
TEST_F(LibvfioUserHabitsTest, a_command_that_waits_for_a_transfer_is_no_deadlock) {
  ServedDevice& device = serve(with_quirk());
  SampleClient client(device);
  constexpr std::uint64_t kAddress = 0x10000;
  client.call(0x1234, kDmaMap, dma_map({.address = kAddress}), std::nullopt);
  client.access(kRegisters, kDmaAddress, Fields().u64(kAddress).take());
  client.access(kRegisters, kDmaLength, Fields().u32(64).take());
  client.set_state(kStateRunningP2p);
  client.access(kRegisters, kDmaStart, Fields().u32(kCopyOut | kOnThread).take());
  // It runs and stops at once: the stop waits for the copy.
  RawPeer& peer = client.peer();
  peer.on_command = [&](const Message& command) {
    peer.reply(command, Bytes(command.body.begin(), command.body.begin() + 16));
  };
  peer.post(kFeature, set_state(kStateRunning));
  peer.post(kFeature, set_state(kStateStop));
  for (int i = 0; i < 2; ++i) {
    const std::optional<Message> reply = peer.receive_reply();
    ASSERT_TRUE(reply) << "closed";
    EXPECT_EQ(reply->error(), 0);
  }
}

}  // namespace
}  // namespace gangway::hostile
