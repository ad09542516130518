#include "integration/hostile/test_device.h"

#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <stdexcept>

namespace gangway::hostile {
namespace {

template <class T>
std::optional<T> value_of(std::span<const std::byte> in) {
  if (in.size() != sizeof(T)) return std::nullopt;
  T value;
  std::memcpy(&value, in.data(), sizeof(T));
  return value;
}

std::unexpected<Error> no_register(std::uint64_t offset) {
  return fail(EINVAL, "no register of that size at " + std::to_string(offset));
}

}  // namespace

TestDevice::TestDevice(std::size_t memory_size)
    : file_(::memfd_create("hostile-test-memory", MFD_CLOEXEC)), doorbell_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  if (!file_ || !doorbell_ || ::ftruncate(file_.get(), static_cast<off_t>(memory_size)) != 0) {
    throw std::runtime_error("the test device gets no memory");
  }
  void* mapped = ::mmap(nullptr, memory_size, PROT_READ | PROT_WRITE, MAP_SHARED, file_.get(), 0);
  if (mapped == MAP_FAILED) throw std::runtime_error("the test device cannot map its memory");
  memory_ = {static_cast<std::byte*>(mapped), memory_size};
  thread_ = std::thread([this] { run(); });
}

TestDevice::~TestDevice() {
  {
    std::scoped_lock lock(mutex_);
    quit_ = true;
  }
  changed_.notify_all();
  thread_.join();
  ::munmap(memory_.data(), memory_.size());
}

DeviceInfo TestDevice::info() const {
  DeviceInfo info;
  info.pci.identity = {.vendor = 0x1b36, .device = 0x0001, .class_code = 0xff0000};
  info.pci.bars[0] = {.size = kRegistersSize};
  info.pci.bars[2] = {.size = memory_.size()};
  info.pci.bars[4] = {.size = 0x1000};
  info.pci.intx = true;
  info.pci.msix = MsixSpec{.vectors = kVectors,
                           .table_bar = RegionIndex::Bar4,
                           .table_offset = 0,
                           .pba_bar = RegionIndex::Bar4,
                           .pba_offset = 0x800};
  info.regions[RegionIndex::Bar2] = {.size = memory_.size()};
  if (memory_.size() == kMemorySize) {
    info.regions[RegionIndex::Bar2].mappable = {{0x1000, 0x1000}, {0x4000, 0x2000}};
    info.regions[RegionIndex::Bar2].file = &file_;
  }
  info.io_eventfds[RegionIndex::Bar0] = {{.offset = kTrigger, .size = 4, .eventfd = &doorbell_}};
  info.err_irq = true;
  info.req_irq = true;
  return info;
}

void TestDevice::attach(Bus bus) { bus_.emplace(bus); }

Result<void> TestDevice::read(RegionIndex region, std::uint64_t offset, std::span<std::byte> out) {
  if (region == RegionIndex::Bar2) {
    std::ranges::copy(memory_.subspan(offset, out.size()), out.begin());
    return {};
  }
  if (region != RegionIndex::Bar0) return no_register(offset);
  std::byte image[0x28] = {};
  const std::uint32_t dma_status = status();
  std::memcpy(image + kScratch, &registers_.scratch, 8);
  std::memcpy(image + kDmaAddress, &registers_.dma_address, 8);
  std::memcpy(image + kDmaLength, &registers_.dma_length, 4);
  std::memcpy(image + kDmaStatus, &dma_status, 4);
  std::memcpy(image + kWrites, &registers_.writes, 4);
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = offset + i < sizeof(image) ? image[offset + i] : std::byte{};
  return {};
}

Result<void> TestDevice::write(RegionIndex region, std::uint64_t offset, std::span<const std::byte> in) {
  if (region == RegionIndex::Bar2) {
    std::ranges::copy(in, memory_.subspan(offset).begin());
    return {};
  }
  if (region != RegionIndex::Bar0) return no_register(offset);
  return write_register(offset, in);
}

Result<void> TestDevice::write_register(std::uint64_t offset, std::span<const std::byte> in) {
  const auto small = value_of<std::uint32_t>(in);
  const auto large = value_of<std::uint64_t>(in);
  if (offset == kScratch && large) {
    registers_.scratch = *large;
    ++registers_.writes;
  } else if (offset == kDmaAddress && large) {
    registers_.dma_address = *large;
  } else if (offset == kDmaLength && small) {
    registers_.dma_length = *small;
  } else if (offset == kDmaStart && small) {
    return start_copy(*small);
  } else if (offset == kTrigger && small) {
    bus_->interrupts.trigger(IrqType::Msix, *small);
  } else {
    return no_register(offset);
  }
  return {};
}

Result<void> TestDevice::start_copy(std::uint32_t command) {
  const Copy copy{.command = command, .address = {registers_.dma_address}, .length = registers_.dma_length};
  {
    std::unique_lock lock(mutex_);
    if (copying_ || asked_) return fail(EBUSY, "a copy is under way");
    status_.store(kDmaBusy, std::memory_order_release);
    if ((command & kOnThread) != 0 || !initiating_) {
      asked_ = copy;
      changed_.notify_all();
      return {};
    }
  }
  carry_out(copy);
  return {};
}

void TestDevice::carry_out(const Copy& copy) {
  const auto bytes = memory_.first(std::min<std::size_t>(copy.length, memory_.size()));
  const bool in = (copy.command & kCopyIn) != 0;
  const Result<void> done = in ? bus_->dma.read(copy.address, bytes) : bus_->dma.write(copy.address, bytes);
  status_.store(done ? 0 : static_cast<std::uint32_t>(done.error().code), std::memory_order_release);
}

void TestDevice::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return quit_ || (asked_ && initiating_); });
    if (quit_) return;
    const Copy copy = *asked_;
    asked_.reset();
    copying_ = true;
    lock.unlock();
    carry_out(copy);
    lock.lock();
    copying_ = false;
    changed_.notify_all();
  }
}

void TestDevice::await_idle(std::unique_lock<std::mutex>& lock) {
  changed_.wait(lock, [this] { return !copying_; });
}

void TestDevice::reset() {
  std::unique_lock lock(mutex_);
  initiating_ = false;
  asked_.reset();
  await_idle(lock);
  registers_ = {};
  status_.store(0, std::memory_order_release);
  std::ranges::fill(memory_, std::byte{});
}

Result<void> TestDevice::start() {
  {
    std::scoped_lock lock(mutex_);
    initiating_ = true;
  }
  changed_.notify_all();
  return {};
}

Result<void> TestDevice::stop_initiating() {
  std::unique_lock lock(mutex_);
  initiating_ = false;
  await_idle(lock);
  return {};
}

Result<void> TestDevice::stop() { return {}; }

Result<void> TestDevice::save(StateWriter& writer) const {
  writer.section("registers", std::as_bytes(std::span(&registers_, 1)));
  return {};
}

Result<void> TestDevice::load(const StateReader& reader) {
  const auto section = reader.section("registers");
  if (!section) return std::unexpected(section.error());
  const auto registers = value_of<Registers>(*section);
  if (!registers) return fail(EINVAL, "section 'registers' has " + std::to_string(section->size()) + " bytes");
  registers_ = *registers;
  return {};
}

std::vector<StateMemory> TestDevice::state_memory() { return {{.name = "memory", .bytes = memory_}}; }

}  // namespace gangway::hostile
