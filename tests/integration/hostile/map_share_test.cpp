// The kernel counts mappings by process: clients that map all that they may, and what is left to the others
// (WIR-NEGOTIATE).
#include <cerrno>
#include <nlohmann/json.hpp>

#include "integration/hostile/hostile_test.h"
#include "integration/hostile/memory_file.h"

namespace gangway::hostile {
namespace {

using MapShareTest = HostileTest;

constexpr std::uint64_t kPage = 0x1000;

struct Client {
  explicit Client(ServedDevice& device) : peer(device.socket()) {
    const Message reply = peer.negotiate();
    const std::string text(reinterpret_cast<const char*>(reply.body.data()) + 4, reply.body.size() - 5);
    const auto json = nlohmann::json::parse(text, nullptr, false);
    most = json.value("/capabilities/max_dma_maps"_json_pointer, std::uint64_t{0});
  }
  // Maps the first page of the file at page after page, each by itself. What was refused first, or 0.
  int map_pages(std::uint64_t count) {
    constexpr std::size_t kUnderWay = 64;
    int refused = 0;
    std::size_t under_way = 0;
    const auto finish_one = [&] {
      const auto reply = peer.receive_reply();
      --under_way;
      if (refused == 0) refused = reply ? reply->error() : ECONNRESET;
    };
    for (std::uint64_t i = 0; i < count && refused == 0; ++i) {
      peer.post(kDmaMap, dma_map({.address = i * kPage, .size = kPage}), {file.get()});
      if (++under_way == kUnderWay) finish_one();
    }
    while (under_way > 0) finish_one();
    return refused;
  }
  void expect_full() {
    expect_refused(peer, kDmaMap, dma_map({.address = most * kPage, .size = kPage}), {ENOSPC}, {file.get()});
  }

  RawPeer peer;
  Fd file = memory_file(kPage);
  std::uint64_t most = 0;
};

TEST_F(MapShareTest, a_client_may_have_all_the_maps_that_it_was_promised) {
  ServedDevice& device = serve();
  Client client(device);
  EXPECT_EQ(client.most, device.endpoint().dma().max_maps());
  ASSERT_EQ(client.map_pages(client.most), 0);
  client.expect_full();
  EXPECT_EQ(device.endpoint().dma().map_count(), client.most);
  EXPECT_EQ(run_dma(client.peer, (client.most - 1) * kPage, kPage, kCopyOut), 0U) << "the last is as good as the first";
}

TEST_F(MapShareTest, a_client_with_all_its_maps_takes_none_of_another_devices) {
  ServedDevice& one = serve();
  ServedDevice& other = serve();
  Client greedy(one);
  ASSERT_EQ(greedy.map_pages(greedy.most), 0);
  greedy.expect_full();

  Client victim(other);
  EXPECT_GE(victim.most, greedy.most / 2) << "no fair share";
  ASSERT_EQ(victim.map_pages(victim.most), 0);
  victim.expect_full();

  // What is replaced must not take more either: the device meets every one of these mappings.
  truncate_file(greedy.file, 0);
  write_register<std::uint64_t>(victim.peer, kScratch, 1);
  greedy.peer.post(kRegionWrite, region_write(kRegisters, kDmaAddress, Fields().u64(0).take()));
  greedy.peer.post(kRegionWrite, region_write(kRegisters, kDmaLength, Fields().u32(kMemorySize).take()));
  greedy.peer.post(kRegionWrite, region_write(kRegisters, kDmaStart, Fields().u32(kCopyOut).take()));
  expect_closed(greedy.peer);

  EXPECT_EQ(run_dma(victim.peer, (victim.most - 1) * kPage, kPage, kCopyOut), 0U);
  expect_accepted(victim.peer, kDmaUnmap, dma_unmap({.address = 0, .size = kPage}));
  expect_accepted(victim.peer, kDmaMap, dma_map({.address = 0, .size = kPage}), {victim.file.get()});
  expect_in_step(victim.peer);
}

// A client that comes and goes does not make its share grow.
TEST_F(MapShareTest, a_device_without_a_client_keeps_its_share) {
  ServedDevice& one = serve();
  ServedDevice& other = serve();
  const std::uint64_t most = Client(one).most;
  expect_like_new(one);
  EXPECT_EQ(Client(one).most, most);
  EXPECT_GE(Client(other).most, most / 2);
}

}  // namespace
}  // namespace gangway::hostile
