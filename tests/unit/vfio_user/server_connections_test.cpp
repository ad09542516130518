// What a server makes of clients that come, go, say strange things, or nothing.
#include <gtest/gtest.h>

#include <future>

#include <gangway/device_handle.h>

#include "unit/vfio_user/served_device.h"

namespace gangway::vfio_user {
namespace {

using namespace std::chrono_literals;
using test::bytes;
using test::Bytes;
using test::Heard;
using test::RawPeer;
using test::ServedDevice;
using test::TestDevice;
using test::with;

Bytes read_of(std::uint64_t offset, std::uint32_t count) {
  return bytes(RegionAccess{.offset = offset, .region = 0, .count = count});
}
Bytes write_of(std::uint64_t offset, std::uint64_t value) {
  return bytes(RegionAccess{.offset = offset, .region = 0, .count = 8}, value);
}
void expect_served(ServedDevice& served) {
  RawPeer peer = served.connect_negotiated();
  EXPECT_EQ(peer.ask(Command::RegionRead, read_of(0, 4)).error(), 0);
}
// Maps [0, 1 MiB) without a descriptor and has the device copy `length` bytes from 0x1000 to 0x2000.
void start_copy(RawPeer& peer, std::uint64_t length) {
  ASSERT_EQ(peer.ask(Command::DmaMap, bytes(DmaMap{.argsz = 32, .flags = 3, .size = 1 << 20})).error(), 0);
  ASSERT_EQ(peer.ask(Command::RegionWrite, write_of(TestDevice::kSource, 0x1000)).error(), 0);
  ASSERT_EQ(peer.ask(Command::RegionWrite, write_of(TestDevice::kDestination, 0x2000)).error(), 0);
  ASSERT_EQ(peer.ask(Command::RegionWrite, write_of(TestDevice::kLength, length)).error(), 0);
  ASSERT_TRUE(peer.send(Command::RegionWrite, write_of(TestDevice::kGo, 1), {}, kNoReply));
}

TEST(Connection, an_unknown_command_is_refused_and_skipped) {
  ServedDevice served;
  RawPeer peer = served.connect_negotiated();
  for (const auto unknown : std::to_array<std::uint16_t>({0, 11, 12, 14, 19, 999, 65535})) {
    EXPECT_EQ(peer.ask(static_cast<Command>(unknown), Bytes(100)).error(), ENOTSUP) << unknown;
  }
  EXPECT_EQ(peer.ask(Command::DeviceReset).error(), 0) << "still in step";
}

TEST(Connection, a_payload_too_short_for_its_command_is_refused) {
  ServedDevice served;
  RawPeer peer = served.connect_negotiated();
  for (const auto command : std::to_array<std::uint16_t>({2, 3, 4, 5, 6, 7, 8, 9, 10, 15, 16, 17, 18})) {
    for (const std::size_t size : {0U, 1U, 7U}) {
      EXPECT_EQ(peer.ask(static_cast<Command>(command), Bytes(size)).error(), EINVAL) << command << " with " << size;
    }
  }
  EXPECT_EQ(peer.ask(Command::DeviceReset).error(), 0);
}

TEST(Connection, a_request_may_arrive_byte_by_byte) {
  ServedDevice served;
  RawPeer peer = served.connect_negotiated();
  for (const std::byte byte : RawPeer::command(Command::RegionRead, read_of(0, 4))) {
    ASSERT_TRUE(peer.send_bytes(std::span(&byte, 1)));
  }
  EXPECT_EQ(peer.hear()->body.size(), 20U);
}

TEST(Connection, descriptors_that_nobody_expects_are_closed) {
  ServedDevice served;
  RawPeer peer = served.connect_negotiated();
  const std::size_t before = test::open_descriptors();
  const std::vector<int> many(200, peer.fd());
  for (const Command command : {Command::DeviceReset, Command::RegionRead, Command::DmaMap, static_cast<Command>(99)}) {
    (void)peer.ask(command, read_of(0, 4), many);
  }
  EXPECT_EQ(peer.ask(Command::DeviceReset).error(), 0);
  EXPECT_EQ(test::open_descriptors(), before);
}

TEST(Connection, many_commands_may_be_sent_before_the_first_reply_is_read) {
  ServedDevice served;
  RawPeer peer = served.connect_negotiated();
  constexpr std::uint32_t kCommands = 65'536;
  Bytes all;
  for (std::uint32_t i = 0; i < kCommands; ++i) {
    const Bytes one = RawPeer::command(Command::RegionRead, read_of(i % 64, 4), 0, static_cast<std::uint16_t>(i));
    all.insert(all.end(), one.begin(), one.end());
  }
  ASSERT_TRUE(peer.send_bytes(all));
  for (std::uint32_t i = 0; i < kCommands; ++i) {
    const auto heard = peer.hear();
    ASSERT_TRUE(heard) << i;
    ASSERT_EQ(heard->header.id, static_cast<std::uint16_t>(i)) << "replies come in order";
    ASSERT_EQ(heard->as<RegionAccess>().offset, i % 64);
  }
}

TEST(Connection, a_client_that_reads_nothing_is_dropped_and_the_next_is_served) {
  ServedDevice served({}, {.client_timeout = 50ms});
  RawPeer peer = served.connect_negotiated();
  const Bytes command = RawPeer::command(Command::RegionRead, read_of(0, 0x1000));
  while (peer.send_bytes(command)) {
  }
  expect_served(served);
  EXPECT_EQ(served.server().statistics().closed, 1U);
}

TEST(Connection, a_server_stops_while_its_client_is_stalled) {
  ServedDevice served;
  RawPeer peer = served.connect_negotiated();
  const Bytes half = RawPeer::command(Command::RegionRead, read_of(0, 4));
  ASSERT_TRUE(peer.send_bytes(std::span(half).first(5)));
  served.server().stop();
  EXPECT_TRUE(peer.closed());
  EXPECT_FALSE(std::filesystem::exists(served.path()));
}

TEST(Connection, a_gone_client_leaves_the_device_as_new) {
  ServedDevice served;
  {
    RawPeer peer = served.connect_negotiated();
    ASSERT_EQ(peer.ask(Command::DmaMap, bytes(DmaMap{.argsz = 32, .flags = 3, .size = 1 << 20})).error(), 0);
    ASSERT_EQ(peer.ask(Command::DeviceFeature,
                       bytes(FeatureHeader{.argsz = 100, .flags = 6 | kFeatureSet}, FeatureLoggingControl{}))
                  .error(),
              0);
    ASSERT_EQ(peer.ask(Command::DeviceFeature,
                       bytes(FeatureHeader{.argsz = 100, .flags = 2 | kFeatureSet}, FeatureDeviceState{.state = 4}))
                  .error(),
              0);
    const Bytes half = RawPeer::command(Command::MigDataWrite, Bytes(1000));
    ASSERT_TRUE(peer.send_bytes(std::span(half).first(100)));
  }
  expect_served(served);  // served after the first is done with
  EXPECT_EQ(served.endpoint().migration()->state(), DeviceState::Running);
  EXPECT_EQ(served.endpoint().dma().map_count(), 0U);
  EXPECT_FALSE(served.endpoint().log().started());
}

TEST(Connection, an_adopted_socket_serves_its_one_client) {
  auto [ours, theirs] = test::socket_pair();
  const auto endpoint = *Endpoint::create(std::make_unique<TestDevice>());
  auto server = *Server::adopt(std::move(ours), *endpoint);
  ASSERT_TRUE(server->start());
  RawPeer peer(std::move(theirs));
  EXPECT_EQ(peer.negotiate().error(), 0);
  peer.hang_up();
  server->wait();
  EXPECT_EQ(server->statistics().clients, 1U);
}

TEST(Connection, a_socket_file_is_taken_over_only_from_the_dead) {
  ServedDevice served;
  const auto endpoint = *Endpoint::create(std::make_unique<TestDevice>());
  const auto second = Server::listen(served.path(), *endpoint);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, EADDRINUSE);
  expect_served(served);
  const std::filesystem::path left_over = served.path().native() + ".dead";
  {
    Fd dead(::socket(AF_UNIX, SOCK_STREAM, 0));
    sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
    left_over.native().copy(address.sun_path, sizeof address.sun_path - 1);
    ASSERT_EQ(::bind(dead.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  }
  EXPECT_TRUE(Server::listen(left_over, *endpoint));
  EXPECT_FALSE(std::filesystem::exists(left_over)) << "the server that made it removes it";
}

// --- DMA messages: commands of the server meet those of the client ---

struct ServerDma : testing::TestWithParam<bool> {
  // A client over one socket, or with a second for DMA messages.
  static std::string_view capabilities() {
    return GetParam()
               ? R"({"capabilities":{"max_msg_fds":8,"max_data_xfer_size":512,"twin_socket":{"supported":true}}})"
               : R"({"capabilities":{"max_msg_fds":8,"max_data_xfer_size":512}})";
  }
};

struct DmaClient {
  explicit DmaClient(const ServedDevice& served, std::string_view capabilities) : peer(served.connect()) {
    Heard heard = peer.negotiate(capabilities);
    EXPECT_EQ(heard.error(), 0);
    if (!heard.fds.empty()) twin.emplace(std::move(heard.fds[0]));
  }
  RawPeer& dma() { return twin ? *twin : peer; }
  RawPeer peer;
  std::optional<RawPeer> twin;
};

TEST_P(ServerDma, memory_without_a_descriptor_is_reached_by_messages_of_the_clients_size) {
  ServedDevice served;
  DmaClient client(served, capabilities());
  EXPECT_EQ(client.twin.has_value(), GetParam());
  start_copy(client.peer, 1000);
  Bytes written;
  for (const std::uint64_t count : {512U, 488U}) {
    const Heard asked = *client.dma().hear();
    EXPECT_EQ(asked.header.command, 11);
    EXPECT_EQ(asked.as<DmaAccessMessage>().count, count);
    client.dma().reply(asked, with(asked.body, Bytes(count, std::byte{3})));
  }
  for (const std::uint64_t count : {512U, 488U}) {
    const Heard asked = *client.dma().hear();
    EXPECT_EQ(asked.header.command, 12);
    EXPECT_EQ(asked.body.size(), 16 + count);
    EXPECT_EQ(asked.body.back(), std::byte{3});
    client.dma().reply(asked, std::span(asked.body).first(16));
  }
  served.device().wait_until_idle();
  EXPECT_EQ(served.device().failures(), 0U);
}

TEST_P(ServerDma, a_reset_waits_for_dma_that_the_client_is_about_to_answer) {
  ServedDevice served;
  DmaClient client(served, capabilities());
  start_copy(client.peer, 8);
  const Heard read = *client.dma().hear();
  ASSERT_TRUE(client.peer.send(Command::DeviceReset));
  client.dma().reply(read, with(read.body, Bytes(8)));
  const Heard write = *client.dma().hear();
  client.dma().reply(write, std::span(write.body).first(12));  // the specification has 4 bytes of count here
  const auto reset = client.peer.hear();
  ASSERT_TRUE(reset);
  EXPECT_EQ(reset->header.command, 13);
  EXPECT_EQ(reset->error(), 0);
  EXPECT_EQ(served.device().failures(), 0U);
}

TEST_P(ServerDma, a_reset_does_not_wait_for_a_client_that_answers_no_dma_before_it_is_done) {
  ServedDevice served({}, {.client_timeout = std::chrono::hours(1)});
  DmaClient client(served, capabilities());
  start_copy(client.peer, 8);
  const Heard read = *client.dma().hear();
  ASSERT_TRUE(client.peer.send(Command::DeviceReset));
  const auto reset = client.peer.hear();
  ASSERT_TRUE(reset);
  EXPECT_EQ(reset->header.command, 13);
  EXPECT_EQ(reset->error(), 0);
  EXPECT_EQ(served.device().failures(), 1U) << "the device was told";

  client.dma().reply(read, with(read.body, Bytes(8)));  // dropped
  ASSERT_EQ(client.peer.ask(Command::DmaUnmap, bytes(DmaUnmap{.argsz = 24, .flags = kUnmapAll})).error(), 0);
  start_copy(client.peer, 8);
  const auto next = client.dma().hear();
  ASSERT_TRUE(next);
  EXPECT_EQ(next->header.command, 11);
  EXPECT_NE(next->header.id, read.header.id);
}

// LOG-EXACT: a write that has left for memory which is being unmapped is in the bitmap, or else in no bitmap at all.
TEST_P(ServerDma, an_unmap_waits_for_the_write_under_way_and_reports_it) {
  for (const bool answers : {true, false}) {
    ServedDevice served({}, {.client_timeout = std::chrono::hours(1)});
    DmaClient client(served, capabilities());
    ASSERT_TRUE(served.endpoint().log().start_all(4096));
    start_copy(client.peer, 8);
    const Heard read = *client.dma().hear();
    client.dma().reply(read, with(read.body, Bytes(8)));
    const Heard write = *client.dma().hear();
    ASSERT_EQ(write.header.command, 12);
    // What is reported before the client writes does not count.
    ASSERT_TRUE(served.endpoint().log().report({{0}, 1 << 20}, 4096, 32));
    ASSERT_TRUE(client.peer.send(Command::DmaUnmap,
                                 bytes(DmaUnmap{.argsz = 4096, .flags = 1, .size = 1 << 20}, Bitmap{4096, 32})));
    if (answers) client.dma().reply(write, std::span(write.body).first(16));
    const auto unmapped = client.peer.hear();
    ASSERT_TRUE(unmapped);
    ASSERT_EQ(unmapped->header.command, 3);
    ASSERT_EQ(unmapped->error(), 0);
    EXPECT_EQ(unmapped->as<std::uint64_t>(sizeof(DmaUnmap) + sizeof(Bitmap)), 1U << 2);
    served.device().wait_until_idle();
    EXPECT_EQ(served.device().failures(), answers ? 0U : 1U);
  }
}

TEST_P(ServerDma, an_error_reply_fails_the_dma_and_nothing_else) {
  ServedDevice served;
  DmaClient client(served, capabilities());
  start_copy(client.peer, 8);
  const Heard read = *client.dma().hear();
  client.dma().send_bytes(
      bytes(Header{.id = read.header.id, .command = 11, .size = 16, .flags = kTypeReply | kError, .error = EFAULT}));
  served.device().wait_until_idle();
  EXPECT_EQ(served.device().failures(), 1U);
  EXPECT_EQ(client.peer.ask(Command::DeviceReset).error(), 0);
}

TEST_P(ServerDma, a_client_that_does_not_answer_is_dropped) {
  ServedDevice served({}, {.client_timeout = 20ms});
  DmaClient client(served, capabilities());
  start_copy(client.peer, 8);
  EXPECT_TRUE(client.peer.closed());
  expect_served(served);
  EXPECT_EQ(served.server().statistics().closed, 1U);
}

TEST_P(ServerDma, a_wrong_answer_drops_the_client) {
  using Answer = Bytes (*)(const Heard&);
  const std::array<Answer, 5> answers{
      [](const Heard& asked) { return with(bytes(Header{asked.header.id, 11, 16 + 23, 1}), Bytes(23)); },
      [](const Heard& asked) { return bytes(Header{asked.header.id, 11, 16 + 24 + 1, 1}); },
      [](const Heard& asked) { return bytes(Header{asked.header.id, 12, 32, 1}); },
      [](const Heard& asked) { return bytes(Header{static_cast<std::uint16_t>(asked.header.id + 1), 11, 16 + 24, 1}); },
      [](const Heard& asked) {
        return bytes(Header{asked.header.id, 11, 16 + 24, 1}, DmaAccessMessage{0x9999, 8}, std::uint64_t{0});
      }};
  for (const Answer answer : answers) {
    ServedDevice served;
    DmaClient client(served, capabilities());
    start_copy(client.peer, 8);
    client.dma().send_bytes(answer(*client.dma().hear()));
    EXPECT_TRUE(client.peer.closed());
    served.device().wait_until_idle();
    EXPECT_EQ(served.device().failures(), 1U);
    expect_served(served);
  }
}

TEST_P(ServerDma, a_client_that_leaves_in_the_middle_frees_the_device) {
  ServedDevice served;
  {
    DmaClient client(served, capabilities());
    start_copy(client.peer, 8);
    ASSERT_TRUE(client.dma().hear());
    ASSERT_TRUE(client.peer.send(Command::DeviceReset));
  }
  expect_served(served);
  EXPECT_EQ(served.endpoint().migration()->state(), DeviceState::Running);
}

INSTANTIATE_TEST_SUITE_P(Sockets, ServerDma, testing::Bool(),
                         [](const auto& info) { return info.param ? "twin" : "one"; });

TEST(Connection, a_client_without_data_messages_gets_none) {
  ServedDevice served;
  RawPeer peer = served.connect_negotiated(R"({"capabilities":{"max_data_xfer_size":0}})");
  start_copy(peer, 8);
  EXPECT_EQ(peer.ask(Command::RegionRead, read_of(0, 4)).error(), 0) << "after which the copy has begun";
  served.device().wait_until_idle();
  EXPECT_EQ(served.device().failures(), 1U);
  EXPECT_EQ(peer.ask(Command::DeviceReset).error(), 0);
}

TEST(Connection, a_client_that_shortens_its_file_is_dropped) {
  ServedDevice served;
  RawPeer peer = served.connect_negotiated();
  const Fd file(::memfd_create("short", MFD_CLOEXEC));
  ASSERT_EQ(::ftruncate(file.get(), 0x4000), 0);
  ASSERT_EQ(
      peer.ask(Command::DmaMap, bytes(DmaMap{.argsz = 32, .flags = 3, .size = 0x4000}), std::array{file.get()}).error(),
      0);
  ASSERT_EQ(::ftruncate(file.get(), 0), 0);
  Bytes out(8);
  (void)served.endpoint().dma().read({0x2000}, out);
  (void)peer.ask(Command::RegionRead, read_of(0, 4));
  EXPECT_TRUE(peer.closed());
  expect_served(served);
}

}  // namespace
}  // namespace gangway::vfio_user
