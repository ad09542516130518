// A device that writes the machine's memory by DMA all the time, and keeps count.
//
// BAR0: 0 iova (u64), 8 size (u64), 16 enable (u64), 24 count (u64, read only). While it is enabled and runs, a thread
// of its own writes the growing count at pages of [iova, iova + size), one after the other by a fixed step.
#pragma once

#include <array>
#include <cstdint>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include <gangway/device.h>

namespace gangway::migrate {

struct ScribeOptions {
  std::uint16_t pci_device = 0x5c1b;
  std::uint16_t msix_vectors = 4;
  std::size_t memory = 256U << 10;  // of the device itself, bytes
  std::uint32_t model_version = 1;
};

class ScribeDevice final : public Migratable {
 public:
  explicit ScribeDevice(ScribeOptions options = {}) : options_(options), memory_(options.memory) {}
  ~ScribeDevice() override { halt(); }

  [[nodiscard]] DeviceInfo info() const override;
  void attach(Bus bus) override { bus_.emplace(bus); }
  Result<void> read(RegionIndex region, std::uint64_t offset, std::span<std::byte> out) override;
  Result<void> write(RegionIndex region, std::uint64_t offset, std::span<const std::byte> in) override;
  void reset() override;
  Result<void> start() override;
  [[nodiscard]] StateIdentity identity() const override;
  Result<void> stop_initiating() override;
  Result<void> stop() override { return {}; }
  Result<void> save(StateWriter& writer) const override;
  Result<void> load(const StateReader& reader) override;
  [[nodiscard]] std::vector<StateMemory> state_memory() override { return {{"memory", memory_}}; }

 private:
  enum Register : std::size_t { kIova, kSize, kEnable, kCount, kRegisters };
  void go();
  void halt();
  void run(const std::stop_token& stop);

  const ScribeOptions options_;
  std::optional<Bus> bus_;
  std::vector<std::byte> memory_;
  mutable std::mutex mutex_;
  std::array<std::uint64_t, kRegisters> registers_{};
  bool started_ = false;
  std::jthread thread_;
};

}  // namespace gangway::migrate
