// A small real device: memory in BAR0, a mappable part in BAR2, MSI-X, and an engine that copies client memory.
//
// BAR0 up to kScratch is memory. Behind it lie registers: source, destination and length of a copy, and "go", a write
// to which has the device's own thread copy by DMA and count in "done" when it is finished.
#pragma once

#include <sys/eventfd.h>
#include <sys/mman.h>

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <mutex>
#include <thread>
#include <vector>

#include <gangway/device.h>
#include <gangway/endpoint.h>

namespace gangway::test {

struct TestDeviceOptions {
  std::size_t state_memory = 0;  // bytes
  bool tracks_dirty = true;
};

class TestDevice : public Migratable {
 public:
  static constexpr std::uint64_t kBar0 = 0x2000;
  static constexpr std::uint64_t kBar2 = 0x4000;
  static constexpr std::uint64_t kScratch = 0x1000;
  static constexpr std::uint64_t kSource = 0x1000;
  static constexpr std::uint64_t kDestination = 0x1008;
  static constexpr std::uint64_t kLength = 0x1010;
  static constexpr std::uint64_t kGo = 0x1018;
  static constexpr std::uint64_t kDone = 0x1020;
  static constexpr std::uint64_t kRaise = 0x1028;  // a write raises the MSI-X vector it names
  static constexpr std::uint16_t kVectors = 32;

  explicit TestDevice(TestDeviceOptions options = {}) : options_(options), memory_(options.state_memory) {
    file_ = Fd(::memfd_create("bar2", MFD_CLOEXEC));
    (void)!::ftruncate(file_.get(), kBar2);
    doorbell_ = Fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    worker_ = std::thread([this] { work(); });
  }
  ~TestDevice() override {
    {
      const std::scoped_lock lock(mutex_);
      ending_ = true;
    }
    changed_.notify_all();
    worker_.join();
  }

  [[nodiscard]] DeviceInfo info() const override {
    DeviceInfo info;
    info.pci.identity = {.vendor = 0x1234, .device = 0x5678, .class_code = 0xff0000};
    info.pci.bars[0] = {.size = kBar0};
    info.pci.bars[2] = {.size = kBar2};
    info.pci.bars[4] = {.size = 0x1000};
    info.pci.intx = true;
    info.pci.msix = MsixSpec{
        .vectors = kVectors, .table_bar = RegionIndex::Bar4, .pba_bar = RegionIndex::Bar4, .pba_offset = 0x800};
    info.regions[RegionIndex::Bar2] = {.mappable = {{0x1000, 0x1000}, {0x3000, 0x1000}}, .file = &file_};
    info.io_eventfds[RegionIndex::Bar0] = {{0x100, 4, &doorbell_}, {0x104, 4, &doorbell_}};
    return info;
  }
  void attach(Bus bus) override { bus_.emplace(bus); }

  Result<void> read(RegionIndex region, std::uint64_t offset, std::span<std::byte> out) override {
    const std::scoped_lock lock(mutex_);
    if (region != RegionIndex::Bar0) {
      std::ranges::fill(out, std::byte{0});
      return {};
    }
    std::memcpy(out.data(), bar0_.data() + offset, out.size());
    return {};
  }
  Result<void> write(RegionIndex region, std::uint64_t offset, std::span<const std::byte> in) override {
    if (region != RegionIndex::Bar0) return {};
    if (offset == kRaise) {
      bus_->interrupts.trigger(IrqType::Msix, static_cast<std::uint32_t>(in[0]));
      return {};
    }
    const std::scoped_lock lock(mutex_);
    std::memcpy(bar0_.data() + offset, in.data(), in.size());
    if (offset == kGo) {
      jobs_.push_back({at(kSource), at(kDestination), at(kLength)});
      changed_.notify_all();
    }
    return {};
  }
  // Waits for what is in flight, as a device does whose memory the client is about to take away.
  void reset() override {
    std::unique_lock lock(mutex_);
    running_ = false;
    jobs_.clear();
    changed_.wait(lock, [this] { return !busy_; });
    bar0_.fill(std::byte{0});
    std::ranges::fill(memory_, std::byte{0});
  }
  Result<void> start() override {
    const std::scoped_lock lock(mutex_);
    running_ = true;
    changed_.notify_all();
    return {};
  }
  Result<void> stop_initiating() override {
    std::unique_lock lock(mutex_);
    running_ = false;
    changed_.wait(lock, [this] { return !busy_; });
    return {};
  }
  Result<void> stop() override { return {}; }

  [[nodiscard]] StateIdentity identity() const override { return {.device_type = "test"}; }
  Result<void> save(StateWriter& writer) const override {
    writer.section("bar0", bar0_);
    return {};
  }
  Result<void> load(const StateReader& reader) override {
    const auto bar0 = reader.section("bar0");
    if (!bar0) return std::unexpected(bar0.error());
    if (bar0->size() != bar0_.size()) return fail(EINVAL, "bar0 of another size");
    std::ranges::copy(*bar0, bar0_.begin());
    return {};
  }
  [[nodiscard]] std::vector<StateMemory> state_memory() override {
    if (memory_.empty()) return {};
    return {{"memory", memory_}};
  }
  [[nodiscard]] bool tracks_dirty() const override { return options_.tracks_dirty; }
  [[nodiscard]] bool take_renewed() override { return renewed_.exchange(false); }
  // As a device that was set up anew while it is saved.
  void renew() { renewed_ = true; }

  [[nodiscard]] std::span<std::byte> memory() { return memory_; }
  // With the lock, for a test whose clients come and go: the server resets the memory then.
  void set_memory(std::span<const std::byte> content) {
    const std::scoped_lock lock(mutex_);
    std::ranges::copy(content, memory_.begin());
  }
  [[nodiscard]] std::vector<std::byte> copy_of_memory() {
    const std::scoped_lock lock(mutex_);
    return memory_;
  }
  // Copies that failed since the start.
  [[nodiscard]] std::uint64_t failures() {
    const std::scoped_lock lock(mutex_);
    return failures_;
  }
  void wait_until_idle() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return !busy_ && jobs_.empty(); });
  }

 private:
  struct Job {
    std::uint64_t source;
    std::uint64_t destination;
    std::uint64_t length;
  };

  [[nodiscard]] std::uint64_t at(std::uint64_t offset) const {
    std::uint64_t value = 0;
    std::memcpy(&value, bar0_.data() + offset, sizeof value);
    return value;
  }

  void work() {
    std::unique_lock lock(mutex_);
    for (;;) {
      changed_.wait(lock, [this] { return ending_ || (running_ && !jobs_.empty()); });
      if (ending_) return;
      const Job job = jobs_.front();
      jobs_.pop_front();
      busy_ = true;
      lock.unlock();
      std::vector<std::byte> bytes(job.length);
      const bool copied = bus_->dma.read({job.source}, bytes) && bus_->dma.write({job.destination}, bytes);
      lock.lock();
      busy_ = false;
      if (!copied) ++failures_;
      const std::uint64_t done = at(kDone) + 1;
      std::memcpy(bar0_.data() + kDone, &done, sizeof done);
      changed_.notify_all();
    }
  }

  const TestDeviceOptions options_;
  std::optional<Bus> bus_;
  Fd file_;
  Fd doorbell_;
  std::vector<std::byte> memory_;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::array<std::byte, kBar0> bar0_{};
  std::deque<Job> jobs_;
  bool running_ = false;
  bool busy_ = false;
  bool ending_ = false;
  std::atomic<bool> renewed_{false};
  std::uint64_t failures_ = 0;
  std::thread worker_;
};

}  // namespace gangway::test
