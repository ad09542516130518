// The kernel transport on a device that vfio-pci serves, an NVMe controller: run inside a VM by passthrough_test.py.
// GANGWAY_TARGET names the device.
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

#include <gangway/device_handle.h>

#include "guest/mapping.h"
#include "guest/memory.h"
#include "guest/nvme.h"
#include "guest/nvme_driver.h"
#include "guest/pci_setup.h"
#include "guest/program.h"

namespace gangway {
namespace {

namespace nvme = guest::nvme;
using guest::GuestMemory;

constexpr std::uint32_t kBar0 = to_number(RegionIndex::Bar0);
constexpr std::uint64_t kVersion = 0x08;
constexpr std::uint64_t kPage = 4096;
constexpr Iova kAddress{0x4000'0000};
constexpr int kPatienceMs = 10'000;

std::string why(const auto& result) { return result ? "" : result.error().message; }

// Memory of this process, as a VMM has it.
class Pages {
 public:
  explicit Pages(std::size_t size, int protection = PROT_READ | PROT_WRITE)
      : bytes_(static_cast<std::byte*>(::mmap(nullptr, size, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)), size) {}
  ~Pages() { ::munmap(bytes_.data(), bytes_.size()); }
  Pages(const Pages&) = delete;
  Pages& operator=(const Pages&) = delete;
  [[nodiscard]] std::span<std::byte> bytes() const { return bytes_; }

 private:
  std::span<std::byte> bytes_;
};

bool is_signalled(const Fd& eventfd, int patience_ms = kPatienceMs) {
  pollfd waits{.fd = eventfd.get(), .events = POLLIN, .revents = 0};
  if (::poll(&waits, 1, patience_ms) != 1) return false;
  std::uint64_t count = 0;
  return ::read(eventfd.get(), &count, sizeof count) == sizeof count && count != 0;
}

class VfioPci : public testing::Test {
 protected:
  void SetUp() override {
    const char* const target = std::getenv("GANGWAY_TARGET");
    ASSERT_NE(target, nullptr) << "GANGWAY_TARGET names the device";
    auto opened = open_device(target);
    ASSERT_TRUE(opened) << why(opened);
    device_ = *std::move(opened);
    ASSERT_TRUE(device_->reset());
    const auto enabled = guest::enable_function(*device_);
    ASSERT_TRUE(enabled) << why(enabled);
  }

  std::uint32_t reg(std::uint64_t offset) {
    std::uint32_t value = 0;
    const auto read = device_->read(kBar0, offset, std::as_writable_bytes(std::span(&value, 1)));
    EXPECT_TRUE(read) << why(read);
    return value;
  }

  Result<void> map(IovaRange range, std::span<std::byte> memory,
                   DmaPermissions permissions = {.read = true, .write = true}) {
    return device_->dma_map({.range = range, .permissions = permissions, .memory = memory});
  }

  // A driver's queues in memory that is not mapped yet, and eventfds for its vectors.
  void make_driver() {
    auto eventfds = guest::set_msix(*device_);
    ASSERT_TRUE(eventfds) << why(eventfds);
    ASSERT_GE(eventfds->size(), 2U);
    eventfds_ = *std::move(eventfds);
    auto memory = GuestMemory::create({.size = 8U << 20});
    ASSERT_TRUE(memory) << why(memory);
    memory_ = *std::move(memory);
    guest::ProgramConfig config;
    config.memory_size = memory_->size();
    config.disk_count = config.queues = 1;
    config.depth = 8;
    config.block_size = kPage;
    config.disks[0] = {.blocks = 1, .extent_count = 1, .extents = {guest::Extent{0, kPage}}};
    const auto layout = guest::lay_out(config, *memory_);
    ASSERT_TRUE(layout) << why(layout);
    driver_ = std::make_unique<guest::NvmeDriver>(*device_, *memory_, layout->disks.front());
  }

  std::vector<Fd> set_eventfds(IrqType type, std::uint32_t count) {
    IrqSet request{.type = type, .data = IrqSet::Data::Eventfd, .count = count};
    std::vector<Fd> eventfds;
    for (std::uint32_t i = 0; i < count; ++i) {
      eventfds.emplace_back(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
      request.eventfds.push_back(*eventfds.back().duplicate());
    }
    const auto set = device_->set_irqs(std::move(request));
    EXPECT_TRUE(set) << why(set);
    return eventfds;
  }

  std::unique_ptr<GuestMemory> memory_;  // outlives what the device does to it
  std::unique_ptr<DeviceHandle> device_;
  std::unique_ptr<guest::NvmeDriver> driver_;
  std::vector<Fd> eventfds_;
};

TEST_F(VfioPci, a_region_is_the_same_through_a_mapping) {
  const auto region = device_->region(kBar0);
  ASSERT_TRUE(region) << why(region);
  ASSERT_TRUE(region->mmap);
  ASSERT_NE(region->file, nullptr);
  auto mapping = guest::Mapping::map(region->file->get(), region->mmap_offset, kPage);
  ASSERT_TRUE(mapping) << why(mapping);
  const auto at = [&](std::uint64_t offset) -> volatile std::uint32_t& {
    return *reinterpret_cast<volatile std::uint32_t*>(mapping->bytes().data() + offset);
  };
  ASSERT_NE(at(kVersion), 0U);
  EXPECT_EQ(at(kVersion), reg(kVersion));
  EXPECT_EQ(at(nvme::kCap), reg(nvme::kCap));
  at(nvme::kAqa) = 0x0007'0007;
  EXPECT_EQ(reg(nvme::kAqa), 0x0007'0007U) << "written through the mapping, read by a call";
  const std::uint32_t value = 0x000f'000f;
  ASSERT_TRUE(device_->write(kBar0, nvme::kAqa, std::as_bytes(std::span(&value, 1))));
  EXPECT_EQ(at(nvme::kAqa), value) << "the other way round";
}

TEST_F(VfioPci, an_access_beyond_a_region_is_refused) {
  const auto region = device_->region(kBar0);
  ASSERT_TRUE(region);
  std::byte byte{};
  const auto read = device_->read(kBar0, region->size, std::span(&byte, 1));
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().code, EINVAL);
}

TEST_F(VfioPci, memory_is_mapped_once_and_unmapped_once) {
  const Pages memory(16 * kPage);
  const IovaRange range{kAddress, 16 * kPage};
  ASSERT_FALSE(device_->dma_unmap(range)) << "nothing is mapped yet";
  const auto mapped = map(range, memory.bytes());
  ASSERT_TRUE(mapped) << why(mapped);
  const auto twice = map({kAddress + kPage, kPage}, memory.bytes().first(kPage));
  ASSERT_FALSE(twice) << "it overlaps";
  EXPECT_EQ(twice.error().code, EEXIST) << why(twice);
  const auto unmapped = device_->dma_unmap(range);
  ASSERT_TRUE(unmapped) << why(unmapped);
  const auto again = device_->dma_unmap(range);
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().code, ENOENT) << why(again);
  EXPECT_TRUE(map(range, memory.bytes()));
}

TEST_F(VfioPci, a_part_of_a_mapping_is_not_unmapped) {
  const Pages memory(4 * kPage);
  ASSERT_TRUE(map({kAddress, 4 * kPage}, memory.bytes()));
  EXPECT_FALSE(device_->dma_unmap({kAddress, kPage}));
  const auto whole = device_->dma_unmap({kAddress, 4 * kPage});
  EXPECT_TRUE(whole) << why(whole);
}

TEST_F(VfioPci, half_a_page_is_not_mapped) {
  const Pages memory(kPage);
  const auto mapped = map({kAddress, kPage / 2}, memory.bytes().first(kPage / 2));
  ASSERT_FALSE(mapped);
  EXPECT_EQ(mapped.error().code, EINVAL);
  EXPECT_NE(mapped.error().message.find("whole pages"), std::string::npos) << mapped.error().message;
}

TEST_F(VfioPci, memory_is_mapped_for_something) {
  const Pages memory(kPage);
  const auto mapped = map({kAddress, kPage}, memory.bytes(), {.read = false, .write = false});
  ASSERT_FALSE(mapped);
  EXPECT_EQ(mapped.error().code, EINVAL);
  EXPECT_NE(mapped.error().message.find("neither"), std::string::npos) << mapped.error().message;
}

TEST_F(VfioPci, memory_that_is_only_read_is_mapped_for_reading_alone) {
  const Pages memory(kPage, PROT_READ);
  EXPECT_FALSE(map({kAddress, kPage}, memory.bytes(), {.read = true, .write = true}));
  const auto mapped = map({kAddress, kPage}, memory.bytes(), {.read = true, .write = false});
  EXPECT_TRUE(mapped) << why(mapped);
}

TEST_F(VfioPci, the_device_signals_the_eventfd_of_its_vector) {
  make_driver();
  ASSERT_TRUE(memory_->map_into(*device_));
  const auto started = driver_->start();
  ASSERT_TRUE(started) << why(started);
  EXPECT_TRUE(is_signalled(eventfds_[0])) << "admin commands are completed on vector 0";
  driver_->submit(0, {.opcode = static_cast<std::uint8_t>(nvme::IoOpcode::Flush), .id = 1, .namespace_id = 1});
  ASSERT_TRUE(driver_->ring_submission(0));
  EXPECT_TRUE(is_signalled(eventfds_[1])) << "I/O on the vector of its queue";
  EXPECT_TRUE(driver_->poll(0));
}

TEST_F(VfioPci, what_is_unmapped_the_device_reaches_no_more) {
  make_driver();
  ASSERT_TRUE(memory_->map_into(*device_));
  const auto first = driver_->start();
  ASSERT_TRUE(first) << why(first);
  for (const GuestMemory::Block& block : memory_->blocks()) ASSERT_TRUE(device_->dma_unmap(block.range));
  EXPECT_FALSE(driver_->start());
  ASSERT_TRUE(device_->reset());
  ASSERT_TRUE(memory_->map_into(*device_));
  const auto started = driver_->start();
  EXPECT_TRUE(started) << why(started);
}

TEST_F(VfioPci, a_reset_stops_the_controller_and_keeps_its_memory) {
  make_driver();
  ASSERT_TRUE(memory_->map_into(*device_));
  const auto first = driver_->start();
  ASSERT_TRUE(first) << why(first);
  ASSERT_EQ(reg(nvme::kCsts) & nvme::kCstsReady, nvme::kCstsReady);
  const auto reset = device_->reset();
  ASSERT_TRUE(reset) << why(reset);
  EXPECT_EQ(reg(nvme::kCsts) & nvme::kCstsReady, 0U);
  const auto started = driver_->start();
  EXPECT_TRUE(started) << why(started);
}

TEST_F(VfioPci, vectors_are_triggered_by_hand) {
  const auto info = device_->irq(to_number(IrqType::Msix));
  ASSERT_TRUE(info);
  ASSERT_GE(info->count, 2U);
  EXPECT_NE(info->flags & kIrqEventfd, 0U);
  const std::vector<Fd> eventfds = set_eventfds(IrqType::Msix, 2);
  ASSERT_TRUE(device_->set_irqs({.type = IrqType::Msix, .data = IrqSet::Data::None, .start = 0, .count = 1}));
  EXPECT_TRUE(is_signalled(eventfds[0]));
  EXPECT_FALSE(is_signalled(eventfds[1], 0));
  ASSERT_TRUE(device_->set_irqs({.type = IrqType::Msix,
                                 .data = IrqSet::Data::Bool,
                                 .start = 0,
                                 .count = 2,
                                 .bools = {std::byte{0}, std::byte{1}}}));
  EXPECT_FALSE(is_signalled(eventfds[0], 0));
  EXPECT_TRUE(is_signalled(eventfds[1]));
}

TEST_F(VfioPci, a_vector_without_an_eventfd_signals_nobody) {
  const std::vector<Fd> eventfds = set_eventfds(IrqType::Msix, 2);
  const auto taken = device_->set_irqs({.type = IrqType::Msix, .data = IrqSet::Data::Eventfd, .start = 1, .count = 1});
  ASSERT_TRUE(taken) << why(taken);
  ASSERT_TRUE(device_->set_irqs({.type = IrqType::Msix, .data = IrqSet::Data::None, .start = 0, .count = 2}));
  EXPECT_TRUE(is_signalled(eventfds[0]));
  EXPECT_FALSE(is_signalled(eventfds[1], 0));
  const auto off = device_->set_irqs({.type = IrqType::Msix, .data = IrqSet::Data::None});
  EXPECT_TRUE(off) << why(off);
}

TEST_F(VfioPci, the_pin_is_masked_and_unmasked) {
  const auto info = device_->irq(to_number(IrqType::Intx));
  ASSERT_TRUE(info);
  ASSERT_EQ(info->count, 1U);
  EXPECT_NE(info->flags & kIrqMaskable, 0U);
  const std::vector<Fd> eventfds = set_eventfds(IrqType::Intx, 1);
  for (const IrqAction action : {IrqAction::Mask, IrqAction::Unmask, IrqAction::Trigger}) {
    const auto set = device_->set_irqs({.type = IrqType::Intx, .action = action, .start = 0, .count = 1});
    ASSERT_TRUE(set) << why(set);
  }
  EXPECT_TRUE(is_signalled(eventfds[0]));
}

}  // namespace
}  // namespace gangway

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
