// P2P-ORDER: devices of one client that go through the phases of a migration in every order of steps within a phase.
#include <gtest/gtest.h>

#include <array>
#include <memory>
#include <vector>

#include <gangway/device_handle.h>

#include "base/bytes.h"
#include "unit/vfio_user/served_device.h"

namespace gangway::vfio_user {
namespace {

using test::Bytes;
using test::ServedDevice;
using test::TestDevice;
using enum DeviceState;

constexpr std::size_t kPage = 0x1000;
constexpr std::uint32_t kBar0 = 0;
constexpr std::uint32_t kBar2 = 2;
constexpr std::uint64_t kArea = 0x1000;   // of BAR2, which others may map
constexpr std::uint64_t kMemory = 0;      // where a device finds the client's memory,
constexpr std::uint64_t kPeer = 1 << 20;  // and the other device's BAR2

// A device that copies from the client's memory into the other device.
class Peer {
 public:
  explicit Peer(int memory) {
    auto opened = open_device("vfio-user:" + served_.path().native());
    EXPECT_TRUE(opened) << opened.error().message;
    handle_ = std::move(*opened);
    bar_ = handle_->region(kBar2)->file;
    EXPECT_TRUE(handle_->dma_map({.range = {{kMemory}, kPage}, .file = memory, .offset = 0}));
  }
  void reach(Peer& other) {
    ASSERT_TRUE(handle_->dma_map({.range = {{kPeer}, kPage}, .file = other.bar(), .offset = kArea}));
  }
  Result<void> set(DeviceState state) { return handle_->set_state(state); }
  // A command, which a device that may not initiate keeps (P2P-INITIATE).
  void copy(std::uint64_t offset) {
    put(TestDevice::kSource, kMemory + offset);
    put(TestDevice::kDestination, kPeer + offset);
    put(TestDevice::kLength, sizeof(std::uint64_t));
    put(TestDevice::kGo, 1);
  }
  [[nodiscard]] int bar() { return bar_->get(); }
  void finish() { served_.device().wait_until_idle(); }
  [[nodiscard]] std::uint64_t failures() { return served_.device().failures(); }

 private:
  void put(std::uint64_t offset, std::uint64_t value) { EXPECT_TRUE(handle_->write(kBar0, offset, bytes_of(value))); }

  ServedDevice served_;
  std::unique_ptr<DeviceHandle> handle_;
  std::shared_ptr<const Fd> bar_;
};

// Memory of a file that both sides see.
class Shared {
 public:
  Shared(int file, std::uint64_t offset)
      : at_(static_cast<std::uint64_t*>(
            ::mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_SHARED, file, static_cast<off_t>(offset)))) {}
  ~Shared() { ::munmap(at_, kPage); }
  Shared(const Shared&) = delete;
  Shared& operator=(const Shared&) = delete;
  std::uint64_t& operator[](std::size_t i) { return at_[i]; }

 private:
  std::uint64_t* at_;
};

TEST(SeveralDevices, take_the_phases_in_every_order_of_steps) {
  const Fd memory(::memfd_create("client", MFD_CLOEXEC));
  ASSERT_EQ(::ftruncate(memory.get(), kPage), 0);
  Shared words(memory.get(), 0);
  std::array<Peer, 2> peers{Peer(memory.get()), Peer(memory.get())};
  peers[0].reach(peers[1]);
  peers[1].reach(peers[0]);
  Shared first_bar(peers[0].bar(), kArea);
  Shared second_bar(peers[1].bar(), kArea);
  const std::array phases{PreCopy, PreCopyP2p, StopCopy, Stop,       RunningP2p,
                          Running, RunningP2p, Stop,     RunningP2p, Running};
  for (std::uint64_t order = 0; order < (1U << phases.size()); ++order) {
    SCOPED_TRACE(testing::Message() << "order " << order);
    words[0] = order + 1;
    for (std::size_t phase = 0; phase < phases.size(); ++phase) {
      const std::size_t first = order >> phase & 1U;
      for (const std::size_t which : {first, 1 - first}) {
        const Result<void> set = peers[which].set(phases[phase]);
        ASSERT_TRUE(set) << contract::name(phases[phase]) << ": " << set.error().message;
        // All are in P2P or have been: the one that is there takes its work and keeps it.
        if (phase == 1) peers[which].copy(0);
      }
      if (phase > 0 && phase < 5) {
        ASSERT_EQ(first_bar[0], order) << "written by a device in " << contract::name(phases[phase]);
        ASSERT_EQ(second_bar[0], order) << "written by a device in " << contract::name(phases[phase]);
      }
      if (phases[phase] != Running) continue;
      for (Peer& peer : peers) peer.finish();
      ASSERT_EQ(first_bar[0], order + 1) << "what was asked for in P2P was done in RUNNING";
      ASSERT_EQ(second_bar[0], order + 1);
      for (Peer& peer : peers) ASSERT_EQ(peer.failures(), 0U);
    }
  }
}

}  // namespace
}  // namespace gangway::vfio_user
