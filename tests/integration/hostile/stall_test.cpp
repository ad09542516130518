// A client that stalls costs itself: the server gives up on it within the time limit, the next client is served,
// another device of the process does not notice, and the server can be stopped meanwhile.
#include <sys/socket.h>

#include <chrono>
#include <functional>

#include "integration/hostile/hostile_test.h"

namespace gangway::hostile {
namespace {

using namespace std::chrono_literals;

using StallTest = HostileTest;

const ServedOptions kImpatient{.server = {.spin = 0us, .client_timeout = 100ms}};

struct Stall {
  std::string what;
  std::function<void(RawPeer&)> act;
};

// Sends without ever waiting for the server: as much as it takes until the socket is full.
void fill(RawPeer& peer, std::span<const std::byte> bytes) {
  for (int i = 0; i < 64; ++i) {
    if (::send(peer.socket(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL) < 0) return;
  }
}

std::vector<Stall> stalls() {
  return {
      {"says nothing", [](RawPeer&) {}},
      {"stops within a header",
       [](RawPeer& peer) { peer.send(std::span<const std::byte>(message(1, kGetInfo, get_info())).first(9)); }},
      {"stops within a body",
       [](RawPeer& peer) { peer.send(std::span<const std::byte>(message(1, kGetInfo, get_info())).first(20)); }},
      {"stops within a megabyte",
       [](RawPeer& peer) {
         const Bytes bytes = message(1, kRegionWrite, region_write(kMemory, 0, Bytes(1U << 20)));
         peer.send(std::span(bytes).first(70'000));
       }},
      {"reads no reply", [](RawPeer& peer) { fill(peer, message(1, kRegionRead, region_read(kMemory, 0, 1U << 20))); }},
      {"answers no DMA_READ within an access",
       [](RawPeer& peer) {
         peer.send(message(1, kDmaMap, dma_map({.address = 0})));
         peer.send(message(2, kRegionWrite, region_write(kRegisters, kDmaLength, Fields().u32(64).take())));
         peer.send(message(3, kRegionWrite, region_write(kRegisters, kDmaStart, Fields().u32(kCopyIn).take())));
       }},
      {"answers no DMA_WRITE of the device's thread",
       [](RawPeer& peer) {
         peer.send(message(1, kDmaMap, dma_map({.address = 0})));
         peer.send(message(2, kRegionWrite, region_write(kRegisters, kDmaLength, Fields().u32(64).take())));
         peer.send(
             message(3, kRegionWrite, region_write(kRegisters, kDmaStart, Fields().u32(kCopyOut | kOnThread).take())));
       }},
      {"reads neither replies nor DMA_WRITE",
       [](RawPeer& peer) {
         peer.send(message(1, kDmaMap, dma_map({.address = 0, .size = 1U << 20})));
         peer.send(message(2, kRegionWrite, region_write(kRegisters, kDmaLength, Fields().u32(1U << 20).take())));
         peer.send(
             message(3, kRegionWrite, region_write(kRegisters, kDmaStart, Fields().u32(kCopyOut | kOnThread).take())));
         fill(peer, message(4, kRegionRead, region_read(kMemory, 0, 1U << 20)));
       }},
  };
}

TEST_F(StallTest, a_client_that_stops_reading_is_given_up_and_the_next_is_served) {
  ServedDevice& device = serve(kImpatient);
  RawPeer stalled = connect(device);
  fill(stalled, message(1, kRegionRead, region_read(kMemory, 0, 1U << 20)));
  RawPeer next = connect(device);  // is answered once the server has given up on the other
  expect_in_step(next);
  expect_closed(stalled);
}

TEST_F(StallTest, a_client_that_reads_neither_replies_nor_commands_is_given_up) {
  ServedDevice& device = serve(kImpatient);
  RawPeer stalled = connect(device);
  stalls().back().act(stalled);
  RawPeer next = connect(device);
  expect_in_step(next);
}

TEST_F(StallTest, a_slow_reader_within_the_limit_gets_everything) {
  ServedDevice& device = serve();
  RawPeer peer = connect(device);
  const Bytes read = message(1, kRegionRead, region_read(kMemory, 0, 1U << 20));
  for (int i = 0; i < 16; ++i) peer.send(read);
  for (int i = 0; i < 16; ++i) {
    const std::optional<Message> reply = peer.receive_reply();
    ASSERT_TRUE(reply) << "closed";
    ASSERT_EQ(reply->body.size(), 16U + (1U << 20));
  }
}

TEST_F(StallTest, a_stalled_client_stalls_no_other_device_of_the_process) {
  for (const Stall& stall : stalls()) {
    SCOPED_TRACE(stall.what);
    // The limit is far away: were the two in each other's way, this would take as long.
    ServedDevice stalled_device({.server = {.spin = 0us, .client_timeout = 60s}});
    ServedDevice other_device;
    RawPeer stalled = connect(stalled_device);
    stall.act(stalled);
    RawPeer other = connect(other_device);
    const auto begin = std::chrono::steady_clock::now();
    for (int i = 0; i < 100; ++i) expect_in_step(other);
    write_register<std::uint64_t>(other, kScratch, 1);
    go_to(other, kStateStopCopy);
    EXPECT_GT(read_stream(other, 1U << 20).size(), kMemorySize);
    EXPECT_LT(std::chrono::steady_clock::now() - begin, 30s) << "the other device waited for the stalled client";
    stalled.close();
  }
}

TEST_F(StallTest, a_server_with_a_stalled_client_can_be_stopped) {
  for (const Stall& stall : stalls()) {
    SCOPED_TRACE(stall.what);
    auto device = std::make_unique<ServedDevice>(ServedOptions{.server = {.spin = 0us, .client_timeout = 60s}});
    RawPeer stalled = connect(*device);
    stall.act(stalled);
    const auto begin = std::chrono::steady_clock::now();
    device->server().stop();
    EXPECT_LT(std::chrono::steady_clock::now() - begin, 30s) << "stopping waited for the stalled client";
    stalled.on_command = [](const Message&) {};
    expect_closed(stalled);
    device.reset();
  }
}

TEST_F(StallTest, a_client_that_goes_while_it_stalls_makes_room_at_once) {
  ServedDevice& device = serve({.server = {.spin = 0us, .client_timeout = 60s}});
  for (const Stall& stall : stalls()) {
    SCOPED_TRACE(stall.what);
    {
      RawPeer stalled = connect(device);
      stall.act(stalled);
    }
    const auto begin = std::chrono::steady_clock::now();
    expect_like_new(device);
    EXPECT_LT(std::chrono::steady_clock::now() - begin, 30s) << "the server waited for a client that is gone";
  }
}

TEST_F(StallTest, a_crowd_of_waiting_clients_is_served_one_after_the_other) {
  ServedDevice& device = serve();
  std::vector<RawPeer> crowd;
  for (int i = 0; i < 8; ++i) crowd.emplace_back(device.socket());
  for (RawPeer& peer : crowd) {
    peer.negotiate();
    expect_in_step(peer);
    peer.close();
  }
}

}  // namespace
}  // namespace gangway::hostile
