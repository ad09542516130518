// DMA_MAP and DMA_UNMAP of what cannot be (WIR-FRAME, WIR-NEGOTIATE), and of more than was agreed.
#include <array>
#include <cerrno>
#include <nlohmann/json.hpp>

#include "integration/hostile/hostile_test.h"
#include "integration/hostile/memory_file.h"

namespace gangway::hostile {
namespace {

using MapTest = HostileTest;

TEST_F(MapTest, empty_wrapping_and_misaligned_maps_are_refused) {
  ServedDevice& device = serve();
  RawPeer peer = connect(device);
  const Fd file = memory_file(1U << 20);
  constexpr std::array kMaps{
      DmaMap{.address = 0x10000, .size = 0},
      DmaMap{.address = 0, .size = 0},
      DmaMap{.address = kMax64 - 0xfff, .size = 0x2000},
      DmaMap{.address = 0x2000, .size = kMax64 - 0xfff},
      DmaMap{.address = kMax64, .size = kMax64},
      DmaMap{.address = 0x10000, .size = kMax64},
      DmaMap{.address = 0x10001, .size = 0x1000},
      DmaMap{.address = 0x10800, .size = 0x1000},
      DmaMap{.address = 0x10000, .size = 1},
      DmaMap{.address = 0x10000, .size = 0xfff},
      DmaMap{.address = 0x10000, .size = 0x1001},
  };
  for (const DmaMap& map : kMaps) {
    SCOPED_TRACE(testing::Message() << map.size << " bytes at " << map.address);
    expect_refused(peer, kDmaMap, dma_map(map), {EINVAL});
    expect_refused(peer, kDmaMap, dma_map(map), {EINVAL}, {file.get()});
  }
  expect_refused(peer, kDmaMap, dma_map({.address = 0x10000, .size = 0x1000, .offset = 1}), {EINVAL}, {file.get()});
  expect_refused(peer, kDmaMap, dma_map({.address = 0x10000, .size = 0x1000, .offset = 0x800}), {EINVAL}, {file.get()});
  EXPECT_EQ(device.endpoint().dma().map_count(), 0U);
}

TEST_F(MapTest, the_whole_address_space_but_a_page_and_the_last_page_are_ranges_like_any_other) {
  ServedDevice& device = serve();
  RawPeer peer = connect(device);
  expect_accepted(peer, kDmaMap, dma_map({.address = 0, .size = kMax64 - 0xfff}));
  expect_accepted(peer, kDmaMap, dma_map({.address = kMax64 - 0xfff, .size = 0x1000}));
  expect_refused(peer, kDmaMap, dma_map({.address = 0x5000, .size = 0x1000}), {EEXIST});
  // A copy that runs off the end of the address space ends there.
  peer.on_command = [&peer](const Message& command) {
    peer.reply(command, joined(command.body, Bytes(field<std::uint64_t>(command.body, 8))));
  };
  EXPECT_NE(run_dma(peer, kMax64 - 7, 16, kCopyIn), 0U);
  EXPECT_EQ(run_dma(peer, kMax64 - 7, 8, kCopyIn), 0U);
  expect_accepted(peer, kDmaUnmap, dma_unmap({.address = kMax64 - 0xfff, .size = 0x1000}));
  expect_accepted(peer, kDmaUnmap, dma_unmap({.address = 0, .size = kMax64 - 0xfff}));
}

TEST_F(MapTest, a_map_over_an_existing_one_is_refused_with_eexist) {
  ServedDevice& device = serve();
  RawPeer peer = connect(device);
  const Fd file = memory_file(1U << 20);
  expect_accepted(peer, kDmaMap, dma_map({.address = 0x10000, .size = 0x4000}), {file.get()});
  constexpr std::array kMaps{
      DmaMap{.address = 0x10000, .size = 0x4000}, DmaMap{.address = 0x10000, .size = 0x1000},
      DmaMap{.address = 0x13000, .size = 0x1000}, DmaMap{.address = 0x11000, .size = 0x1000},
      DmaMap{.address = 0xf000, .size = 0x2000},  DmaMap{.address = 0x13000, .size = 0x8000},
      DmaMap{.address = 0, .size = 0x100000},
  };
  for (const DmaMap& map : kMaps) {
    SCOPED_TRACE(testing::Message() << map.size << " bytes at " << map.address);
    expect_refused(peer, kDmaMap, dma_map(map), {EEXIST});
    expect_refused(peer, kDmaMap, dma_map(map), {EEXIST}, {file.get()});
  }
  EXPECT_EQ(device.endpoint().dma().map_count(), 1U);
  expect_accepted(peer, kDmaMap, dma_map({.address = 0xf000, .size = 0x1000}));
  expect_accepted(peer, kDmaMap, dma_map({.address = 0x14000, .size = 0x1000}));
}

TEST_F(MapTest, no_more_maps_than_negotiated) {
  ServedDevice& device = serve({.endpoint = {.max_dma_maps = 16}});
  RawPeer peer(device.socket());
  const Message reply = peer.request(kVersion, version(RawPeer::kCapabilities));
  const std::string text(reinterpret_cast<const char*>(reply.body.data()) + 4, reply.body.size() - 5);
  const nlohmann::json json = nlohmann::json::parse(text, nullptr, false);
  ASSERT_TRUE(json.contains("/capabilities/max_dma_maps"_json_pointer)) << text;
  EXPECT_EQ(json.at("/capabilities/max_dma_maps"_json_pointer), 16);

  const Fd file = memory_file(0x1000);
  for (std::uint64_t i = 0; i < 16; ++i) expect_accepted(peer, kDmaMap, dma_map({.address = i << 12}), {file.get()});
  for (std::uint64_t i = 16; i < 100; ++i) {
    expect_refused(peer, kDmaMap, dma_map({.address = i << 12}), {ENOSPC}, {file.get()});
  }
  EXPECT_EQ(device.endpoint().dma().map_count(), 16U);
  expect_accepted(peer, kDmaUnmap, dma_unmap({.address = 5U << 12}));
  expect_accepted(peer, kDmaMap, dma_map({.address = 99U << 12}), {file.get()});
  expect_refused(peer, kDmaMap, dma_map({.address = 5U << 12}), {ENOSPC}, {file.get()});
}

TEST_F(MapTest, a_flood_of_maps_ends_at_the_limit) {
  ServedDevice& device = serve({.endpoint = {.max_dma_maps = 1000}});
  RawPeer peer = connect(device);
  for (std::uint64_t i = 0; i < 100'000; ++i) {
    ASSERT_TRUE(peer.send(message(1, kDmaMap, dma_map({.address = i << 12}), kNoReply)));
  }
  expect_in_step(peer);
  EXPECT_EQ(device.endpoint().dma().map_count(), 1000U);
}

TEST_F(MapTest, an_unmap_that_is_no_mapping_is_refused_and_unmaps_nothing) {
  ServedDevice& device = serve();
  RawPeer peer = connect(device);
  expect_accepted(peer, kDmaMap, dma_map({.address = 0x10000, .size = 0x4000}));
  expect_accepted(peer, kDmaMap, dma_map({.address = 0x14000, .size = 0x4000}));
  constexpr std::array kUnmaps{
      DmaUnmap{.address = 0x10000, .size = 0x1000}, DmaUnmap{.address = 0x11000, .size = 0x1000},
      DmaUnmap{.address = 0x10000, .size = 0x8000}, DmaUnmap{.address = 0, .size = kMax64},
      DmaUnmap{.address = 0x10000, .size = 0},      DmaUnmap{.address = 0, .size = 0},
      DmaUnmap{.address = 0x99000, .size = 0x1000}, DmaUnmap{.address = kMax64, .size = 1},
      DmaUnmap{.address = 0x10001, .size = 0x4000}, DmaUnmap{.address = 0x10000, .size = 0x4001},
  };
  for (const DmaUnmap& unmap : kUnmaps) {
    SCOPED_TRACE(testing::Message() << unmap.size << " bytes at " << unmap.address);
    expect_refused(peer, kDmaUnmap, dma_unmap(unmap), {ENOENT, EINVAL});
  }
  // "unmap all" of a part, and flags that do not exist
  expect_refused(peer, kDmaUnmap, dma_unmap({.address = 0x10000, .size = 0x4000, .flags = kUnmapAll}), {EINVAL});
  for (std::uint32_t bit = 2; bit < 32; ++bit) {
    peer.post(kDmaUnmap, dma_unmap({.address = 0x99000, .flags = 1U << bit}));
    expect_in_step(peer);
  }
  // A bitmap without a log, and without the structure that asks for it
  expect_refused(peer, kDmaUnmap, dma_unmap({.address = 0x10000, .size = 0x4000, .flags = kUnmapDirtyBitmap}));
  EXPECT_EQ(device.endpoint().dma().map_count(), 2U);
  expect_accepted(peer, kDmaUnmap, dma_unmap({.address = 0x10000, .size = 0x4000}));
  expect_refused(peer, kDmaUnmap, dma_unmap({.address = 0x10000, .size = 0x4000}), {ENOENT, EINVAL});
}

TEST_F(MapTest, unknown_map_flags_leave_the_stream_in_step) {
  ServedDevice& device = serve();
  RawPeer peer = connect(device);
  for (std::uint32_t bit = 2; bit < 32; ++bit) {
    SCOPED_TRACE(testing::Message() << "bit " << bit);
    const Message reply = peer.request(kDmaMap, dma_map({.flags = 3 | (1U << bit)}));
    if (!reply.failed()) expect_accepted(peer, kDmaUnmap, dma_unmap());
    EXPECT_EQ(device.endpoint().dma().map_count(), 0U);
  }
  expect_in_step(peer);
}

}  // namespace
}  // namespace gangway::hostile
