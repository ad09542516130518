// WIR-FDS: DMA_MAP with descriptors that are no memory, or not as much of it, or not for that use.
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "integration/hostile/hostile_test.h"
#include "integration/hostile/memory_file.h"

namespace gangway::hostile {
namespace {

using MapDescriptorTest = HostileTest;

struct Offer {
  std::string what;
  Fd fd;
};

Fd reopened(const Fd& file, int flags) {
  const std::string path = "/proc/self/fd/" + std::to_string(file.get());
  return Fd(::open(path.c_str(), flags | O_CLOEXEC));
}

std::vector<Offer> no_memory() {
  std::vector<Offer> offers;
  const auto add = [&offers](std::string what, int fd) { offers.push_back({std::move(what), Fd(fd)}); };
  std::array<int, 2> ends{};
  EXPECT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
  add("a pipe to read", ends[0]);
  add("a pipe to write", ends[1]);
  EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()), 0);
  add("a socket", ends[0]);
  ::close(ends[1]);
  add("an eventfd", ::eventfd(0, EFD_CLOEXEC));
  add("a directory", ::open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  add("a path only", ::open("/dev/null", O_PATH | O_CLOEXEC));
  add("/dev/null", ::open("/dev/null", O_RDWR | O_CLOEXEC));
  add("/dev/full", ::open("/dev/full", O_RDWR | O_CLOEXEC));
  add("/proc/self/maps", ::open("/proc/self/maps", O_RDONLY | O_CLOEXEC));
  return offers;
}

TEST_F(MapDescriptorTest, a_descriptor_that_is_no_mappable_file_is_refused_and_closed) {
  ServedDevice& device = serve();
  RawPeer peer = connect(device);
  for (const Offer& offer : no_memory()) {
    SCOPED_TRACE(offer.what);
    ASSERT_TRUE(offer.fd);
    expect_refused(peer, kDmaMap, dma_map(), {}, {offer.fd.get()});
    EXPECT_EQ(device.endpoint().dma().map_count(), 0U);
  }
}

TEST_F(MapDescriptorTest, a_descriptor_without_the_permission_that_is_asked_for_is_refused) {
  ServedDevice& device = serve();
  RawPeer peer = connect(device);
  const Fd memory = memory_file(0x1000);
  const Fd read_only = reopened(memory, O_RDONLY);
  const Fd write_only = reopened(memory, O_WRONLY);
  ASSERT_TRUE(read_only && write_only);
  expect_refused(peer, kDmaMap, dma_map(), {}, {read_only.get()});
  expect_refused(peer, kDmaMap, dma_map({.flags = 2}), {}, {read_only.get()});
  expect_refused(peer, kDmaMap, dma_map(), {}, {write_only.get()});
  EXPECT_EQ(device.endpoint().dma().map_count(), 0U);
  expect_accepted(peer, kDmaMap, dma_map({.flags = 1}), {read_only.get()});
  EXPECT_NE(run_dma(peer, 0x10000, 16, kCopyOut), 0U);
  EXPECT_EQ(run_dma(peer, 0x10000, 16, kCopyIn), 0U);
}

TEST_F(MapDescriptorTest, a_memfd_sealed_against_writing_is_mapped_for_reading_only) {
  ServedDevice& device = serve();
  RawPeer peer = connect(device);
  const Fd memory = memory_file(0x1000);
  ASSERT_EQ(::fcntl(memory.get(), F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW), 0);
  expect_refused(peer, kDmaMap, dma_map(), {}, {memory.get()});
  EXPECT_EQ(device.endpoint().dma().map_count(), 0U);
  expect_accepted(peer, kDmaMap, dma_map({.flags = 1}), {memory.get()});
  EXPECT_EQ(run_dma(peer, 0x10000, 16, kCopyIn), 0U);
  EXPECT_NE(run_dma(peer, 0x10000, 16, kCopyOut), 0U);
}

TEST_F(MapDescriptorTest, a_file_shorter_than_the_map_is_refused) {
  ServedDevice& device = serve();
  RawPeer peer = connect(device);
  const Fd file = memory_file(0x3000);
  const Fd empty = memory_file(0);
  const Fd odd = memory_file(0x1001);
  constexpr std::array kMaps{
      DmaMap{.size = 0x4000},
      DmaMap{.size = 0x3000, .offset = 0x1000},
      DmaMap{.size = 0x1000, .offset = 0x3000},
      DmaMap{.size = 0x1000, .offset = kMax64 - 0xfff},
      DmaMap{.size = 0x2000, .offset = kMax64 - 0xfff},
      DmaMap{.size = 0x1000, .offset = 1ULL << 63},
      DmaMap{.size = 1ULL << 62, .offset = 1ULL << 62},
      DmaMap{.address = 0, .size = kMax64 - 0xfff},
      DmaMap{.address = 0, .size = 1ULL << 47},
  };
  for (const DmaMap& map : kMaps) {
    SCOPED_TRACE(testing::Message() << map.size << " bytes at file offset " << map.offset);
    expect_refused(peer, kDmaMap, dma_map(map), {EINVAL}, {file.get()});
    expect_refused(peer, kDmaMap, dma_map(map), {EINVAL}, {empty.get()});
  }
  expect_refused(peer, kDmaMap, dma_map({.size = 0x1000}), {EINVAL}, {empty.get()});
  expect_refused(peer, kDmaMap, dma_map({.size = 0x2000}), {EINVAL}, {odd.get()});
  EXPECT_EQ(device.endpoint().dma().map_count(), 0U);
  expect_accepted(peer, kDmaMap, dma_map({.size = 0x2000, .offset = 0x1000}), {file.get()});
}

TEST_F(MapDescriptorTest, a_sparse_file_beyond_the_address_space_is_refused) {
  ServedDevice& device = serve();
  RawPeer peer = connect(device);
  const Fd file = memory_file(1ULL << 62);
  expect_refused(peer, kDmaMap, dma_map({.address = 0, .size = 1ULL << 62}), {}, {file.get()});
  EXPECT_EQ(device.endpoint().dma().map_count(), 0U);
}

TEST_F(MapDescriptorTest, a_map_without_descriptor_but_with_an_offset_stays_in_step) {
  ServedDevice& device = serve();
  RawPeer peer = connect(device);
  // "or zero if the region is not mappable"; a client that closed its file sends what it had
  peer.post(kDmaMap, dma_map({.offset = 0x123456789000}));
  expect_in_step(peer);
}

TEST_F(MapDescriptorTest, more_descriptors_than_a_map_takes_are_closed) {
  ServedDevice& device = serve();
  {
    RawPeer peer = connect(device);
    const Fd file = memory_file(0x1000);
    for (const std::size_t count : {2U, 3U, 8U}) {
      const Message reply = peer.request(kDmaMap, dma_map(), RawPeer::Descriptors(count, file.get()));
      if (!reply.failed()) expect_accepted(peer, kDmaUnmap, dma_unmap());
      expect_in_step(peer);
      EXPECT_EQ(device.endpoint().dma().map_count(), 0U);
    }
  }
  expect_no_descriptor_kept();
}

TEST_F(MapDescriptorTest, a_map_leaves_no_descriptor_when_it_is_unmapped_or_refused) {
  ServedDevice& device = serve();
  const Fd file = memory_file(0x2000);
  RawPeer peer = connect(device);
  const std::size_t before = open_descriptors();
  for (int round = 0; round < 50; ++round) {
    expect_accepted(peer, kDmaMap, dma_map(), {file.get()});
    expect_refused(peer, kDmaMap, dma_map(), {EEXIST}, {file.get()});
    expect_accepted(peer, kDmaUnmap, dma_unmap());
  }
  EXPECT_EQ(open_descriptors(), before);
}

}  // namespace
}  // namespace gangway::hostile
