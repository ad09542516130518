// A device that fills the guest's memory: the guest writes an address, a length and a byte, then GO; the device
// writes the bytes by DMA, counts the fill, and raises its interrupt. It migrates, with P2P, PRE_COPY and DMA logging.
#pragma once

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <vector>

#include <gangway/device.h>

class Filler final : public gangway::Migratable {
 public:
  // BAR0, 64-bit registers.
  enum Register : std::size_t { kAddress, kLength, kByte, kGo, kFills, kRegisters };

  [[nodiscard]] gangway::DeviceInfo info() const override {
    gangway::DeviceInfo info;
    info.pci.identity = {.vendor = 0x1b36, .device = 0xf111, .class_code = 0x088000};
    info.pci.bars[0] = {.size = 4096};
    info.pci.msi = gangway::MsiSpec{.vectors = 1};
    return info;
  }

  void attach(gangway::Bus bus) override { bus_.emplace(bus); }

  gangway::Result<void> read(gangway::RegionIndex, std::uint64_t offset, std::span<std::byte> out) override {
    if (!is_register(offset, out.size())) return gangway::fail(EINVAL, "a register is 8 bytes at a multiple of 8");
    std::memcpy(out.data(), &registers_[offset / 8], 8);
    return {};
  }

  gangway::Result<void> write(gangway::RegionIndex, std::uint64_t offset, std::span<const std::byte> in) override {
    if (!is_register(offset, in.size())) return gangway::fail(EINVAL, "a register is 8 bytes at a multiple of 8");
    if (offset / 8 == kFills) return {};  // read-only
    std::memcpy(&registers_[offset / 8], in.data(), 8);
    if (offset / 8 == kGo && may_dma_) fill();
    return {};
  }

  void reset() override {
    registers_ = {};
    may_dma_ = false;
  }

  gangway::Result<void> start() override {
    may_dma_ = true;
    if (registers_[kGo] != 0) fill();  // asked for while we were not allowed to
    return {};
  }

  [[nodiscard]] gangway::StateIdentity identity() const override { return {.device_type = "filler"}; }

  gangway::Result<void> stop_initiating() override {
    may_dma_ = false;  // fills are done when write() returns, so nothing is outstanding
    return {};
  }

  gangway::Result<void> stop() override { return {}; }

  gangway::Result<void> save(gangway::StateWriter& writer) const override {
    writer.section("registers", std::as_bytes(std::span(registers_)));
    return {};
  }

  gangway::Result<void> load(const gangway::StateReader& reader) override {
    const auto saved = reader.section("registers");
    if (!saved) return std::unexpected(saved.error());
    if (saved->size() != sizeof registers_) return gangway::fail(EINVAL, "section 'registers' has the wrong size");
    std::memcpy(registers_.data(), saved->data(), sizeof registers_);
    return {};
  }

 private:
  static bool is_register(std::uint64_t offset, std::size_t size) {
    return size == 8 && offset % 8 == 0 && offset / 8 < kRegisters;
  }

  void fill() {
    registers_[kGo] = 0;
    const std::vector<std::byte> bytes(std::min<std::uint64_t>(registers_[kLength], 1 << 20),
                                       static_cast<std::byte>(registers_[kByte]));
    if (!bus_->dma.write(gangway::Iova{registers_[kAddress]}, bytes)) return;  // not mapped: as a real bus, silently
    ++registers_[kFills];
    bus_->interrupts.trigger(gangway::IrqType::Msi, 0);
  }

  std::optional<gangway::Bus> bus_;
  std::array<std::uint64_t, kRegisters> registers_{};
  bool may_dma_ = false;
};
