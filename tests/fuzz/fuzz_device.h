// The device behind the message decoder's fuzzer, whose state stream its seeds carry: registers, a mappable part of
// them, interrupts of every kind, and bulk memory.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include <gangway/device.h>

namespace gangway::fuzz {

class FuzzDevice : public Migratable {
 public:
  FuzzDevice() : file_(::memfd_create("bar", MFD_CLOEXEC)) { (void)!::ftruncate(file_.get(), 0x2000); }
  [[nodiscard]] gangway::DeviceInfo info() const override {
    gangway::DeviceInfo info;
    info.pci.bars[0] = {.size = 0x2000};
    info.pci.bars[1] = {.size = 0x1000};
    info.pci.intx = true;
    info.pci.msix =
        MsixSpec{.vectors = 8, .table_bar = RegionIndex::Bar1, .pba_bar = RegionIndex::Bar1, .pba_offset = 0x800};
    info.regions[RegionIndex::Bar0] = {.mappable = {{0x1000, 0x1000}}, .file = &file_};
    return info;
  }
  void attach(Bus) override {}
  Result<void> read(RegionIndex, std::uint64_t offset, std::span<std::byte> out) override {
    std::ranges::copy(std::span(registers_).subspan(offset, out.size()), out.begin());
    return {};
  }
  Result<void> write(RegionIndex, std::uint64_t offset, std::span<const std::byte> in) override {
    std::ranges::copy(in, registers_.begin() + static_cast<std::ptrdiff_t>(offset));
    return {};
  }
  void reset() override {
    registers_.fill(std::byte{0});
    std::ranges::fill(memory_, std::byte{0});
  }
  [[nodiscard]] StateIdentity identity() const override { return {.device_type = "fuzz"}; }
  Result<void> stop_initiating() override { return {}; }
  Result<void> stop() override { return {}; }
  Result<void> save(StateWriter& writer) const override {
    writer.section("registers", registers_);
    return {};
  }
  Result<void> load(const StateReader& reader) override {
    const auto section = reader.section("registers");
    if (!section) return std::unexpected(section.error());
    if (section->size() != registers_.size()) return fail(EINVAL, "registers of another size");
    std::ranges::copy(*section, registers_.begin());
    return {};
  }
  [[nodiscard]] std::vector<StateMemory> state_memory() override { return {{"memory", memory_}}; }

 private:
  Fd file_;
  std::array<std::byte, 0x2000> registers_{};
  std::vector<std::byte> memory_ = std::vector<std::byte>(0x4000);
};

}  // namespace gangway::fuzz
