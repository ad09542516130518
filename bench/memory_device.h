// The simplest device worth measuring: registers in BAR0 and a stretch of device memory that migrates.
#pragma once

#include <sys/mman.h>

#include <array>
#include <cstring>

#include <gangway/device.h>

namespace gangway::bench {

class MemoryDevice final : public Migratable {
 public:
  // The memory is resident from the start; its content is not zero and does not repeat within a page.
  explicit MemoryDevice(std::size_t size) : size_(size) {
    if (size == 0) return;
    memory_ = static_cast<std::byte*>(mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    madvise(memory_, size, MADV_HUGEPAGE);
    for (std::size_t at = 0; at < size; at += sizeof at) std::memcpy(memory_ + at, &at, sizeof at);
  }
  ~MemoryDevice() override {
    if (memory_ != nullptr) munmap(memory_, size_);
  }
  MemoryDevice(const MemoryDevice&) = delete;
  MemoryDevice& operator=(const MemoryDevice&) = delete;

  [[nodiscard]] DeviceInfo info() const override {
    DeviceInfo info;
    info.pci.identity = {.vendor = 0x1b36, .device = 0xbe7c, .class_code = 0x088000};
    info.pci.bars[0] = {.size = 4096};
    return info;
  }
  void attach(Bus) override {}
  Result<void> read(RegionIndex, std::uint64_t offset, std::span<std::byte> out) override {
    std::memcpy(out.data(), registers_.data() + offset, out.size());
    return {};
  }
  Result<void> write(RegionIndex, std::uint64_t offset, std::span<const std::byte> in) override {
    std::memcpy(registers_.data() + offset, in.data(), in.size());
    return {};
  }
  void reset() override { registers_ = {}; }
  [[nodiscard]] StateIdentity identity() const override { return {.device_type = "bench-memory"}; }
  Result<void> stop_initiating() override { return {}; }
  Result<void> stop() override { return {}; }
  Result<void> save(StateWriter& writer) const override {
    writer.section("registers", std::span<const std::byte>(registers_));
    return {};
  }
  Result<void> load(const StateReader& reader) override {
    const auto saved = reader.section("registers");
    if (!saved) return std::unexpected(saved.error());
    if (saved->size() != registers_.size()) return fail(EINVAL, "section 'registers' has the wrong size");
    std::memcpy(registers_.data(), saved->data(), saved->size());
    return {};
  }
  [[nodiscard]] std::vector<StateMemory> state_memory() override {
    if (size_ == 0) return {};
    return {{"memory", {memory_, size_}}};
  }

 private:
  std::size_t size_;
  std::byte* memory_ = nullptr;
  std::array<std::byte, 4096> registers_{};
};

}  // namespace gangway::bench
