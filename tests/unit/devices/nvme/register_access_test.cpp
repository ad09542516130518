// No register access waits for the host's memory. A VMM may serve no DMA message while one of its CPUs waits for a
// register access, so a controller that let the access wait for DMA would wait for itself.
#include <gtest/gtest.h>
#include <linux/pci_regs.h>

#include <condition_variable>
#include <mutex>
#include <thread>

#include "unit/devices/nvme/host.h"

namespace gangway::nvme::test {
namespace {

// Answers DMA messages, except while it is told to hold them. What is held for very long fails, so that an access which
// waits for it ends, too.
class HoldingHost final : public DmaMessenger {
 public:
  explicit HoldingHost(HostRam& ram) : ram_(ram) {}

  Result<void> dma_read(Iova iova, std::span<std::byte> out) override {
    if (auto allowed = pass(); !allowed) return allowed;
    std::ranges::copy(ram_.at(iova, out.size()), out.begin());
    return {};
  }
  Result<void> dma_write(Iova iova, std::span<const std::byte> in) override {
    if (auto allowed = pass(); !allowed) return allowed;
    const std::span<std::byte> to = ram_.at(iova, in.size());
    // The driver looks for the phase with an atomic load.
    if (in.size() == sizeof(std::uint32_t)) {
      std::uint32_t word = 0;
      std::memcpy(&word, in.data(), sizeof word);
      std::atomic_ref(*reinterpret_cast<std::uint32_t*>(to.data())).store(word, std::memory_order_release);
    } else {
      std::ranges::copy(in, to.begin());
    }
    return {};
  }

  void begin_grace() override {
    const std::scoped_lock lock(mutex_);
    resetting_ = true;
    changed_.notify_all();
  }
  void end_grace() override {
    const std::scoped_lock lock(mutex_);
    resetting_ = false;
  }

  void hold() {
    const std::scoped_lock lock(mutex_);
    holds_ = true;
  }
  void release() {
    const std::scoped_lock lock(mutex_);
    holds_ = false;
    changed_.notify_all();
  }
  bool wait_until_one_is_held() {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, kHopeless, [this] { return held_ != 0; });
  }
  [[nodiscard]] bool gave_up() const {
    const std::scoped_lock lock(mutex_);
    return gave_up_;
  }

 private:
  static constexpr std::chrono::seconds kHopeless{20};

  Result<void> pass() {
    std::unique_lock lock(mutex_);
    ++held_;
    changed_.notify_all();
    const bool answered = changed_.wait_for(lock, kHopeless, [this] { return !holds_ || resetting_; });
    --held_;
    if (resetting_) return fail(ECANCELED, "no answer before the reset is done");
    gave_up_ |= !answered;
    return answered ? Result<void>() : fail(ETIMEDOUT, "the host serves no DMA");
  }

  HostRam& ram_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  bool holds_ = false;
  bool resetting_ = false;
  int held_ = 0;
  bool gave_up_ = false;
};

struct MessageRig {
  MessageRig() {
    auto served = serve(image);
    EXPECT_TRUE(served) << served.error().message;
    endpoint = std::move(*served);
    const auto mapped = endpoint->dma().map({.range = {{HostRam::kBase}, ram.size()},
                                             .permissions = {.read = true, .write = true},
                                             .file = Fd(),
                                             .offset = 0});
    EXPECT_TRUE(mapped) << mapped.error().message;
    endpoint->dma().set_messenger(&host);
    driver.emplace(*endpoint, ram);
  }
  ~MessageRig() {
    host.release();
    endpoint->dma().set_messenger(nullptr);
  }

  // The I/O thread waits for the host.
  void submit_held() {
    host.hold();
    driver->submit(0, admin_command(AdminOpcode::GetFeatures, 1));
    ASSERT_TRUE(host.wait_until_one_is_held());
  }

  // Where it lies in config space; 0 when there is none.
  [[nodiscard]] std::uint64_t find_capability(std::uint8_t wanted) const {
    const auto byte_at = [this](std::uint64_t offset) {
      std::uint8_t value = 0;
      EXPECT_TRUE(endpoint->read(to_number(RegionIndex::Config), offset, std::as_writable_bytes(std::span(&value, 1))));
      return value;
    };
    std::uint64_t at = byte_at(PCI_CAPABILITY_LIST);
    while (at != 0 && byte_at(at) != wanted) at = byte_at(at + PCI_CAP_LIST_NEXT);
    return at;
  }

  TemporaryImage image{1U << 20};
  HostRam ram;
  HoldingHost host{ram};
  std::unique_ptr<Endpoint> endpoint;
  std::optional<Driver> driver;
};

struct Access {
  std::string_view name;
  RegionIndex region;
  std::uint64_t offset;
  std::optional<std::uint32_t> written;  // or read
};

constexpr std::uint32_t kShutDown = Driver::kEnable | 1U << 14;
constexpr std::array kAccesses{
    Access{"CSTS read", RegionIndex::Bar0, kRegisterCsts, {}},
    Access{"INTMS written", RegionIndex::Bar0, kRegisterIntms, 1},
    Access{"INTMC written", RegionIndex::Bar0, kRegisterIntmc, 1},
    Access{"ASQ written", RegionIndex::Bar0, kRegisterAsq, 0x10000},
    Access{"a tail rung", RegionIndex::Bar0, 0x1000, 2},
    Access{"a head rung", RegionIndex::Bar0, 0x1004, 1},
    Access{"a doorbell that does not exist rung", RegionIndex::Bar0, 0x1ff8, 1},
    Access{"the MSI-X table written", RegionIndex::Bar4, 0, 0xfee0'0000},
    Access{"the command register written", RegionIndex::Config, 4, 6},
    Access{"CC.SHN written", RegionIndex::Bar0, kRegisterCc, kShutDown},
    Access{"CC.EN cleared", RegionIndex::Bar0, kRegisterCc, 0},
    Access{"CC.EN set", RegionIndex::Bar0, kRegisterCc, Driver::kEnable},
};

TEST(NvmeRegisterAccess, returns_while_the_host_serves_no_dma) {
  MessageRig rig;
  ASSERT_EQ(rig.driver->enable(), kCstsReady);
  rig.submit_held();
  for (const Access& access : kAccesses) {
    std::uint32_t value = access.written.value_or(0);
    const auto region = to_number(access.region);
    const auto done = access.written
                          ? rig.endpoint->write(region, access.offset, std::as_bytes(std::span(&value, 1)))
                          : rig.endpoint->read(region, access.offset, std::as_writable_bytes(std::span(&value, 1)));
    EXPECT_TRUE(done) << access.name << ": " << done.error().message;
    ASSERT_FALSE(rig.host.gave_up()) << access.name << ": waits for the host's memory";
  }
}

// A function level reset is a register access, too.
TEST(NvmeRegisterAccess, a_reset_gives_up_what_the_host_does_not_serve) {
  for (const bool by_config_space : {false, true}) {
    MessageRig rig;
    ASSERT_EQ(rig.driver->enable(), kCstsReady);
    rig.submit_held();
    if (by_config_space) {
      const std::uint64_t control = rig.find_capability(PCI_CAP_ID_EXP) + PCI_EXP_DEVCTL;
      const std::uint16_t value = PCI_EXP_DEVCTL_BCR_FLR;
      ASSERT_TRUE(rig.endpoint->write(to_number(RegionIndex::Config), control, std::as_bytes(std::span(&value, 1))));
    } else {
      ASSERT_TRUE(rig.endpoint->reset());
    }
    ASSERT_FALSE(rig.host.gave_up());
    EXPECT_EQ(rig.driver->read32(kRegisterCsts), 0U);
    rig.host.release();
    ASSERT_EQ(rig.driver->enable(), kCstsReady);
    EXPECT_EQ(status_of(rig.driver->admin(admin_command(AdminOpcode::GetFeatures, 1))), Status::Success);
  }
}

TEST(NvmeRegisterAccess, a_controller_disabled_while_the_host_serves_no_dma_is_disabled_afterwards) {
  MessageRig rig;
  ASSERT_EQ(rig.driver->enable(), kCstsReady);
  rig.submit_held();
  ASSERT_TRUE(rig.driver->write32(kRegisterCc, 0));
  EXPECT_EQ(rig.driver->read32(kRegisterCsts), kCstsReady) << "not before the host's memory is let go";
  rig.host.release();
  EXPECT_TRUE(rig.driver->wait_status(~0U, 0));
  ASSERT_EQ(rig.driver->enable(), kCstsReady);
  EXPECT_EQ(status_of(rig.driver->admin(admin_command(AdminOpcode::GetFeatures, 1))), Status::Success);
}

TEST(NvmeRegisterAccess, a_disabling_counts_though_the_controller_was_enabled_again_before_it_looked) {
  MessageRig rig;
  ASSERT_EQ(rig.driver->enable(), kCstsReady);
  ASSERT_EQ(rig.driver->create_pair(1), Status::Success);
  rig.submit_held();
  ASSERT_TRUE(rig.driver->write32(kRegisterCc, 0));
  ASSERT_TRUE(rig.driver->write32(kRegisterCc, Driver::kEnable));
  // Its completion is the last thing of the old session: the thread looks at CC afterwards.
  rig.host.release();
  while (!rig.driver->poll(0, false)) std::this_thread::yield();
  to_state(*rig.endpoint, DeviceState::RunningP2p);
  to_state(*rig.endpoint, DeviceState::Running);
  EXPECT_EQ(rig.driver->read32(kRegisterCsts), kCstsReady);

  QueuePair& admin = rig.driver->pair(0);
  rig.ram.fill(admin.cq, admin.size * sizeof(Completion), std::byte{0});
  admin.head = admin.tail = 0;
  admin.phase = true;
  EXPECT_EQ(rig.driver->create_pair(1), Status::Success) << "the pair of the old session is gone";
}

}  // namespace
}  // namespace gangway::nvme::test
