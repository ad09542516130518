// The twin socket carries the device's DMA messages and nothing else; what a client does to it costs that client alone.
#include <chrono>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "integration/hostile/hostile_test.h"

namespace gangway::hostile {
namespace {

using namespace std::chrono_literals;

using TwinSocketTest = HostileTest;

constexpr std::string_view kWithTwin =
    R"({"capabilities":{"max_msg_fds":8,"max_data_xfer_size":1048576,"twin_socket":{"supported":true}}})";
constexpr std::uint64_t kAddress = 0x10000;
constexpr std::uint32_t kLength = 64;

struct Client {
  RawPeer main;
  RawPeer twin;
};

Client connect_with_twin(ServedDevice& device) {
  RawPeer main(device.socket());
  Message reply = main.negotiate(kWithTwin);
  if (reply.fds.size() != 1) throw std::runtime_error("the server brought no twin socket");
  RawPeer twin(std::move(reply.fds[0]));
  return {std::move(main), std::move(twin)};
}

// Maps memory without a descriptor, starts a copy and returns the server's command for it, from the twin socket.
Message begin(Client& client, std::uint32_t copy) {
  expect_accepted(client.main, kDmaMap, dma_map({.address = kAddress}));
  write_register<std::uint64_t>(client.main, kDmaAddress, kAddress);
  write_register<std::uint32_t>(client.main, kDmaLength, kLength);
  client.main.post(kRegionWrite, region_write(kRegisters, kDmaStart, Fields().u32(copy).take()));
  std::optional<Message> command = client.twin.receive();
  if (!command || command->is_reply()) throw std::runtime_error("no DMA command on the twin socket");
  return std::move(*command);
}

Bytes good_reply(const Message& command) {
  const std::span<const std::byte> fixed = std::span(command.body).first(16);
  return command.header.command == kDmaRead ? joined(fixed, pattern(kLength, 5)) : Bytes(fixed.begin(), fixed.end());
}

TEST_F(TwinSocketTest, dma_messages_come_on_it_and_only_there) {
  ServedDevice& device = serve();
  Client client = connect_with_twin(device);  // a command on the main socket would throw
  for (const std::uint32_t copy : {kCopyIn, kCopyOut, kCopyIn | kOnThread, kCopyOut | kOnThread}) {
    SCOPED_TRACE(testing::Message() << "copy " << copy);
    const Message command = begin(client, copy);
    EXPECT_EQ(command.header.command, (copy & kCopyIn) != 0 ? kDmaRead : kDmaWrite);
    client.twin.reply(command, good_reply(command));
    EXPECT_EQ(await_dma(device), 0U);
    expect_in_step(client.main);
    expect_accepted(client.main, kDmaUnmap, dma_unmap({.address = kAddress}));
  }
}

TEST_F(TwinSocketTest, a_command_of_the_client_on_it_ends_the_connection) {
  ServedDevice& device = serve();
  Client client = connect_with_twin(device);
  const Message command = begin(client, kCopyIn);
  client.twin.post(kGetInfo, get_info());
  client.twin.reply(command, good_reply(command));
  client.main.on_command = [](const Message&) {};
  expect_closed(client.main);
  expect_like_new(device);
}

TEST_F(TwinSocketTest, a_twin_that_is_closed_fails_the_copy_or_ends_the_connection) {
  ServedDevice& device = serve({.server = {.spin = 0us, .client_timeout = 60s}});
  for (const std::uint32_t copy : {kCopyIn, kCopyOut, kCopyIn | kOnThread, kCopyOut | kOnThread}) {
    SCOPED_TRACE(testing::Message() << "copy " << copy);
    Client client = connect_with_twin(device);
    static_cast<void>(begin(client, copy));
    const auto begun = std::chrono::steady_clock::now();
    client.twin.close();
    expect_in_step_or_closed(client.main);
    EXPECT_LT(std::chrono::steady_clock::now() - begun, 30s) << "the server waited for a socket that is closed";
    client.main.close();
    expect_like_new(device);
  }
}

TEST_F(TwinSocketTest, a_connection_that_goes_while_its_twin_stays_makes_room) {
  ServedDevice& device = serve({.server = {.spin = 0us, .client_timeout = 300ms}});
  for (const std::uint32_t copy : {kCopyIn, kCopyOut | kOnThread}) {
    SCOPED_TRACE(testing::Message() << "copy " << copy);
    Client client = connect_with_twin(device);
    static_cast<void>(begin(client, copy));
    client.main.close();
    expect_like_new(device);
  }
}

TEST_F(TwinSocketTest, a_server_that_waits_on_it_can_be_stopped) {
  for (const std::uint32_t copy : {kCopyIn, kCopyOut, kCopyIn | kOnThread, kCopyOut | kOnThread}) {
    SCOPED_TRACE(testing::Message() << "copy " << copy);
    ServedDevice device({.server = {.spin = 0us, .client_timeout = 60s}});
    Client client = connect_with_twin(device);
    static_cast<void>(begin(client, copy));
    const auto begun = std::chrono::steady_clock::now();
    device.server().stop();
    EXPECT_LT(std::chrono::steady_clock::now() - begun, 30s) << "stopping waited for the client";
    expect_closed(client.main);
  }
}

}  // namespace
}  // namespace gangway::hostile
