#include <gangway/endpoint.h>

#include <linux/pci_regs.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "unit/device/matchers.h"
#include "unit/device/memory_file.h"

namespace gangway {
namespace {

using test::FailsWith;
using test::IsOk;
using test::MemoryFile;

constexpr std::uint64_t kPage = 4096;
constexpr std::uint32_t kConfig = 7;

DeviceInfo small_device() {
  DeviceInfo info;
  info.pci.identity = {.vendor = 0x1234, .device = 0x5678};
  info.pci.bars[0] = {.size = 0x4000, .kind = BarSpec::Kind::Memory64};
  info.pci.bars[2] = {.size = 0x1000};
  info.pci.intx = true;
  info.pci.pcie = PcieSpec{.function_level_reset = true};
  info.pci.msix = MsixSpec{.vectors = 65,
                           .table_bar = RegionIndex::Bar0,
                           .table_offset = 0x2000,
                           .pba_bar = RegionIndex::Bar0,
                           .pba_offset = 0x2800};
  info.regions[RegionIndex::Bar2] = {.reads_change_state = true};
  return info;
}

// What happened to a device, for tests to look at after the endpoint owns it.
struct Record {
  std::vector<std::string> calls;
  std::vector<std::byte> bar0 = std::vector<std::byte>(0x4000);
  std::optional<Bus> bus;
  bool fails_to_start = false;

  Result<void> access(std::string call) {
    calls.push_back(std::move(call));
    return {};
  }
  std::vector<std::string> take() { return std::exchange(calls, {}); }
};

std::string name(std::string_view verb, RegionIndex region, std::uint64_t offset, std::size_t size) {
  return std::string(verb) + " " + std::to_string(to_number(region)) + " " + std::to_string(offset) + "+" +
         std::to_string(size);
}

class PlainDevice : public Device {
 public:
  PlainDevice(Record& record, DeviceInfo info) : record_(record), info_(std::move(info)) {}
  [[nodiscard]] DeviceInfo info() const override { return info_; }
  void attach(Bus bus) override { record_.bus.emplace(bus); }
  Result<void> read(RegionIndex region, std::uint64_t offset, std::span<std::byte> out) override {
    std::ranges::fill(out, std::byte{0x5a});
    return record_.access(name("read", region, offset, out.size()));
  }
  Result<void> write(RegionIndex region, std::uint64_t offset, std::span<const std::byte> in) override {
    return record_.access(name("write", region, offset, in.size()));
  }
  void reset() override { record_.calls.emplace_back("reset"); }
  Result<void> start() override {
    record_.calls.emplace_back("start");
    if (record_.fails_to_start) return fail(EIO, "does not start");
    return {};
  }

 private:
  Record& record_;
  DeviceInfo info_;
};

class MigratableDevice : public Migratable {
 public:
  MigratableDevice(Record& record, DeviceInfo info) : record_(record), plain_(record, std::move(info)) {}
  [[nodiscard]] DeviceInfo info() const override { return plain_.info(); }
  void attach(Bus bus) override { plain_.attach(bus); }
  Result<void> read(RegionIndex region, std::uint64_t offset, std::span<std::byte> out) override {
    return plain_.read(region, offset, out);
  }
  Result<void> write(RegionIndex region, std::uint64_t offset, std::span<const std::byte> in) override {
    return plain_.write(region, offset, in);
  }
  void reset() override { plain_.reset(); }
  Result<void> start() override { return plain_.start(); }
  [[nodiscard]] StateIdentity identity() const override { return {.device_type = "test"}; }
  Result<void> stop_initiating() override { return record_.access("stop_initiating"); }
  Result<void> stop() override { return record_.access("stop"); }
  Result<void> save(StateWriter& writer) const override {
    writer.section("state", "x");
    return {};
  }
  Result<void> load(const StateReader&) override { return {}; }

 private:
  Record& record_;
  PlainDevice plain_;
};

using Calls = std::vector<std::string>;

class EndpointTest : public testing::Test {
 protected:
  void SetUp() override { make<PlainDevice>(); }
  template <class D>
  void make() {
    endpoint_.reset();
    record_.calls.clear();
    auto endpoint = Endpoint::create(std::make_unique<D>(record_, small_device()));
    ASSERT_THAT(endpoint, IsOk());
    endpoint_ = std::move(*endpoint);
    EXPECT_EQ(record_.take(), (Calls{"reset", "start"}));  // FSM-INITIAL
  }
  Result<void> read(std::uint32_t region, std::uint64_t offset, std::size_t size) {
    buffer_.assign(size, std::byte{0});
    return endpoint_->read(region, offset, buffer_);
  }
  Result<void> write(std::uint32_t region, std::uint64_t offset, std::size_t size, int value = 0xff) {
    return endpoint_->write(region, offset, std::vector<std::byte>(size, std::byte(static_cast<unsigned char>(value))));
  }
  void stop() {
    ASSERT_THAT(endpoint_->migration()->set_state(static_cast<std::uint32_t>(DeviceState::Stop)), IsOk());
    record_.take();
  }

  Record record_;
  std::unique_ptr<Endpoint> endpoint_;
  std::vector<std::byte> buffer_;
};

TEST_F(EndpointTest, describes_its_regions) {
  EXPECT_EQ(endpoint_->region_count(), 9U);
  EXPECT_EQ(endpoint_->irq_count(), 5U);
  EXPECT_EQ(endpoint_->region(0)->size, 0x4000U);
  EXPECT_EQ(endpoint_->region(1)->size, 0U) << "upper half of BAR 0";
  EXPECT_EQ(endpoint_->region(kConfig)->size, 4096U);
  EXPECT_TRUE(endpoint_->region(kConfig)->write);
  EXPECT_EQ(endpoint_->region(8)->size, 0U);
  EXPECT_FALSE(endpoint_->region(9));
  EXPECT_EQ(endpoint_->interrupts().info(IrqType::Msix).count, 65U);
  EXPECT_EQ(endpoint_->interrupts().info(IrqType::Intx).count, 1U);
  EXPECT_EQ(endpoint_->migration(), nullptr);
}

TEST_F(EndpointTest, refuses_accesses_that_cross_the_end) {
  const auto refused = write(2, 0xffc, 8);
  EXPECT_THAT(refused, FailsWith(EINVAL));
  EXPECT_EQ(refused.error().message, "region 2: write of 8 bytes at 0xffc crosses the end (size 0x1000)");
  EXPECT_THAT(read(2, ~std::uint64_t{0} - 1, 4), FailsWith(EINVAL));
  EXPECT_THAT(read(2, 0x1001, 0), FailsWith(EINVAL));
  EXPECT_THAT(read(kConfig, 4094, 4), FailsWith(EINVAL));
  EXPECT_THAT(read(1, 0, 1), FailsWith(EINVAL));
  EXPECT_THAT(read(9, 0, 1), FailsWith(EINVAL));
  EXPECT_THAT(read(0xffffffff, 0, 1), FailsWith(EINVAL));
  EXPECT_EQ(record_.take(), Calls{});
  EXPECT_THAT(read(2, 0x1000, 0), IsOk());
  EXPECT_THAT(read(2, 0xfff, 1), IsOk());
}

TEST_F(EndpointTest, answers_msix_structures_itself) {
  ASSERT_THAT(read(0, 0x2000, 16), IsOk());
  EXPECT_EQ(buffer_[12], std::byte{1}) << "masked after a reset";
  ASSERT_THAT(write(0, 0x2000, 16), IsOk());
  ASSERT_THAT(read(0, 0x2000, 16), IsOk());
  EXPECT_EQ(buffer_[0], std::byte{0xfc});
  EXPECT_EQ(buffer_[11], std::byte{0xff});
  EXPECT_EQ(buffer_[12], std::byte{1});
  EXPECT_EQ(buffer_[13], std::byte{0});
  endpoint_->interrupts().trigger(IrqType::Msix, 64);
  endpoint_->interrupts().trigger(IrqType::Msix, 1);
  ASSERT_THAT(write(0, 0x2800, 16, 0), IsOk());
  ASSERT_THAT(read(0, 0x2800, 16), IsOk());
  EXPECT_EQ(buffer_[0], std::byte{2}) << "pending, and read-only";
  EXPECT_EQ(buffer_[8], std::byte{1});
  EXPECT_EQ(record_.take(), Calls{});
}

TEST_F(EndpointTest, splits_accesses_that_straddle_msix_structures) {
  ASSERT_THAT(read(0, 0x1ff8, 16), IsOk());
  EXPECT_EQ(record_.take(), Calls{"read 0 8184+8"});
  EXPECT_EQ(buffer_[7], std::byte{0x5a});
  EXPECT_EQ(buffer_[8], std::byte{0});
  ASSERT_THAT(write(0, 0, 0x4000), IsOk());
  // The table has 65 * 16 bytes, the PBA 16.
  EXPECT_EQ(record_.take(), (Calls{"write 0 0+8192", "write 0 9232+1008", "write 0 10256+6128"}));
  ASSERT_THAT(read(2, 0x2, 3), IsOk());
  EXPECT_EQ(record_.take(), Calls{"read 2 2+3"});
}

TEST_F(EndpointTest, config_space_answers) {
  ASSERT_THAT(read(kConfig, 0, 4), IsOk());
  EXPECT_EQ(buffer_, (std::vector{std::byte{0x34}, std::byte{0x12}, std::byte{0x78}, std::byte{0x56}}));
  ASSERT_THAT(read(kConfig, 0, 4096), IsOk());
  endpoint_->interrupts().set_intx(true);
  ASSERT_THAT(read(kConfig, PCI_STATUS, 1), IsOk());
  EXPECT_NE(buffer_[0] & std::byte{PCI_STATUS_INTERRUPT}, std::byte{0});
}

TEST_F(EndpointTest, an_flr_resets) {
  ASSERT_THAT(write(kConfig, PCI_COMMAND, 1, 0x6), IsOk());
  ASSERT_THAT(write(0, 0x2000, 16), IsOk());
  ASSERT_THAT(read(kConfig, PCI_CAPABILITY_LIST, 1), IsOk());
  std::uint64_t at = std::to_integer<std::uint64_t>(buffer_[0]);
  for (;; at = std::to_integer<std::uint64_t>(buffer_[1])) {
    ASSERT_NE(at, 0U);
    ASSERT_THAT(read(kConfig, at, 2), IsOk());
    if (buffer_[0] == std::byte{PCI_CAP_ID_EXP}) break;
  }
  ASSERT_THAT(write(kConfig, at + PCI_EXP_DEVCTL + 1, 1, 0x80), IsOk());
  EXPECT_EQ(record_.take(), (Calls{"reset", "start"}));
  ASSERT_THAT(read(kConfig, PCI_COMMAND, 2), IsOk());
  EXPECT_EQ(buffer_[0], std::byte{0});
  ASSERT_THAT(read(0, 0x2000, 1), IsOk());
  EXPECT_EQ(buffer_[0], std::byte{0});
}

TEST_F(EndpointTest, a_reset_that_fails_says_so) {
  record_.fails_to_start = true;
  EXPECT_THAT(endpoint_->reset(), FailsWith(EIO));
  record_.fails_to_start = false;
  EXPECT_THAT(endpoint_->reset(), IsOk());
}

// STP-CONFIG, STP-ACCESS, STP-QUIET
TEST_F(EndpointTest, while_stopped_only_config_and_msix_take_writes) {
  make<MigratableDevice>();
  stop();
  EXPECT_THAT(write(0, 0, 4), FailsWith(EBUSY));
  EXPECT_THAT(write(0, 0x1ffc, 8), FailsWith(EBUSY)) << "straddles the table";
  ASSERT_THAT(read(0, 0x2000, 4), IsOk());
  EXPECT_EQ(buffer_[0], std::byte{0}) << "a refused write changes nothing";
  EXPECT_THAT(write(0, 0x2000, 16), IsOk());
  EXPECT_THAT(write(kConfig, PCI_COMMAND, 2), IsOk());
  ASSERT_THAT(read(0, 0, 4), IsOk());
  EXPECT_EQ(buffer_[0], std::byte{0x5a});
  EXPECT_EQ(record_.take(), Calls{"read 0 0+4"});
  ASSERT_THAT(read(2, 0, 4), IsOk());
  EXPECT_EQ(buffer_[0], std::byte{0xff}) << "the read would change the device";
  EXPECT_EQ(record_.take(), Calls{});
}

// RST-ALLOWED
TEST_F(EndpointTest, a_reset_leads_to_running) {
  make<MigratableDevice>();
  stop();
  EXPECT_THAT(endpoint_->reset(), IsOk());
  EXPECT_EQ(endpoint_->migration()->state(), DeviceState::Running);
  EXPECT_THAT(write(0, 0, 4), IsOk());
}

// WIR-GONE
TEST_F(EndpointTest, nothing_of_a_client_is_left) {
  make<MigratableDevice>();
  const MemoryFile memory(kPage);
  ASSERT_THAT(endpoint_->dma().map({.range = {Iova{0}, kPage}, .permissions = {.read = true}, .file = memory.file()}),
              IsOk());
  ASSERT_THAT(endpoint_->log().start_all(0), IsOk());
  const Fd event(::eventfd(0, EFD_NONBLOCK));
  IrqSet irqs{.type = IrqType::Msix, .data = IrqSet::Data::Eventfd, .count = 1};
  irqs.eventfds.push_back(event.duplicate().value());
  ASSERT_THAT(endpoint_->interrupts().set(std::move(irqs)), IsOk());
  stop();
  EXPECT_THAT(endpoint_->client_gone(), IsOk());
  EXPECT_EQ(endpoint_->migration()->state(), DeviceState::Running);
  EXPECT_EQ(endpoint_->dma().map_count(), 0U);
  EXPECT_FALSE(endpoint_->log().started());
  record_.bus->interrupts.trigger(IrqType::Msix, 0);
  std::uint64_t count = 0;
  EXPECT_EQ(::read(event.get(), &count, sizeof(count)), -1) << "an interrupt went to a client that is gone";
  EXPECT_THAT(endpoint_->client_gone(), IsOk()) << "with nothing left to take down";
}

TEST_F(EndpointTest, may_hide_migration) {
  auto endpoint =
      Endpoint::create(std::make_unique<MigratableDevice>(record_, small_device()), {.revisions = {.v2 = false}});
  ASSERT_THAT(endpoint, IsOk());
  EXPECT_EQ((*endpoint)->migration(), nullptr);
}

TEST_F(EndpointTest, obeys_region_flags_and_device_regions) {
  DeviceInfo info = small_device();
  const Fd event(::eventfd(0, 0));
  const MemoryFile memory(0x4000);
  const Fd file = memory.file();
  info.regions[RegionIndex::Bar2] = {.write = false};
  info.regions[RegionIndex::Bar0] = {.mappable = {{0, 0x2000}, {0x3000, 0x1000}}, .file = &file};
  info.regions[RegionIndex{11}] = {.size = 100, .read = false};
  info.io_eventfds[RegionIndex::Bar2] = {{.offset = 0xffc, .size = 4, .eventfd = &event}};
  const auto endpoint = Endpoint::create(std::make_unique<PlainDevice>(record_, info)).value();
  EXPECT_EQ(endpoint->region_count(), 12U);
  EXPECT_EQ(endpoint->region(9)->size, 0U);
  EXPECT_EQ(endpoint->region(11)->size, 100U);
  EXPECT_EQ(endpoint->region(0)->file, file.get());
  EXPECT_EQ(endpoint->region(0)->mappable.size(), 2U);
  EXPECT_EQ(endpoint->io_eventfds(2).size(), 1U);
  EXPECT_TRUE(endpoint->io_eventfds(0).empty());
  std::array<std::byte, 4> bytes{};
  EXPECT_THAT(endpoint->write(2, 0, bytes), FailsWith(EPERM));
  EXPECT_THAT(endpoint->read(2, 0, bytes), IsOk());
  EXPECT_THAT(endpoint->read(11, 0, bytes), FailsWith(EPERM));
  EXPECT_THAT(endpoint->write(11, 98, bytes), FailsWith(EINVAL));
}

TEST_F(EndpointTest, refuses_inconsistent_devices) {
  const MemoryFile memory(0x4000);
  const Fd file = memory.file();
  const Fd closed;
  const auto with = [&](const std::function<void(DeviceInfo&)>& change) {
    DeviceInfo info = small_device();
    change(info);
    return Endpoint::create(std::make_unique<PlainDevice>(record_, info));
  };
  const auto with_area = [&](MappableArea area, const Fd* fd) {
    return with([&](DeviceInfo& i) { i.regions[RegionIndex::Bar0] = {.mappable = {area}, .file = fd}; });
  };
  EXPECT_THAT(with([](DeviceInfo& i) { i.pci.bars[0].size = 3; }), FailsWith(EINVAL));
  EXPECT_THAT(with([](DeviceInfo& i) { i.pci.msix->table_offset = 0x3c00; }), FailsWith(EINVAL)) << "table too long";
  EXPECT_THAT(with([](DeviceInfo& i) { i.pci.msix->pba_offset = 0x2008; }), FailsWith(EINVAL)) << "overlap";
  EXPECT_THAT(with([](DeviceInfo& i) { i.pci.msix->pba_bar = RegionIndex::Bar4; }), FailsWith(EINVAL));
  EXPECT_THAT(with([](DeviceInfo& i) { i.pci.msix->table_bar = RegionIndex::Config; }), FailsWith(EINVAL));
  EXPECT_THAT(with([](DeviceInfo& i) { i.regions[RegionIndex::Config] = {}; }), FailsWith(EINVAL));
  EXPECT_THAT(with([](DeviceInfo& i) { i.regions[RegionIndex::Bar2].size = 0x2000; }), FailsWith(EINVAL));
  EXPECT_THAT(with([](DeviceInfo& i) { i.regions[RegionIndex{100000}].size = 8; }), FailsWith(EINVAL));
  EXPECT_THAT(with_area({0x2000, 0x1000}, &file), FailsWith(EINVAL)) << "MSI-X table";
  EXPECT_THAT(with_area({0x4000, 0x1000}, &file), FailsWith(EINVAL)) << "outside";
  EXPECT_THAT(with_area({0x800, 0x1000}, &file), FailsWith(EINVAL)) << "misaligned";
  EXPECT_THAT(with_area({0, 0}, &file), FailsWith(EINVAL));
  EXPECT_THAT(with_area({0, 0x1000}, nullptr), FailsWith(EINVAL));
  EXPECT_THAT(with_area({0, 0x1000}, &closed), FailsWith(EINVAL));
  EXPECT_THAT(with_area({0, 0x1000}, &file), IsOk());
  EXPECT_THAT(with([](DeviceInfo& i) { i.io_eventfds[RegionIndex::Bar2] = {{.offset = 0, .size = 4}}; }),
              FailsWith(EINVAL));
  record_.fails_to_start = true;
  EXPECT_THAT(with([](DeviceInfo&) {}), FailsWith(EIO));
}

}  // namespace
}  // namespace gangway
