// A PCI card with two 16550A UARTs, and the simplest whole example of a migratable device.
//
// It has the identity and the layout of QEMU's pci-serial-2x, which stock drivers know: one I/O BAR of 16 bytes, the
// ports one after the other in it, INTA#. Each port leads to a Backend.
// Source: QEMU docs/specs/pci-serial.rst.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>

#include <gangway/device.h>

#include "devices/serial/backend.h"
#include "devices/serial/uart.h"

namespace gangway::serial {

inline constexpr std::size_t kPorts = 2;

struct CardOptions {
  std::array<std::unique_ptr<Backend>, kPorts> backends;  // null: a LoopbackBackend
};

class Card : public Migratable {
 public:
  explicit Card(CardOptions options = {});

  [[nodiscard]] DeviceInfo info() const override;
  void attach(Bus bus) override;
  Result<void> read(RegionIndex region, std::uint64_t offset, std::span<std::byte> out) override;
  Result<void> write(RegionIndex region, std::uint64_t offset, std::span<const std::byte> in) override;
  void reset() override;
  Result<void> start() override;

  [[nodiscard]] StateIdentity identity() const override;
  Result<void> stop_initiating() override;
  Result<void> stop() override { return {}; }  // nothing moves once the lines are still
  Result<void> save(StateWriter& writer) const override;
  Result<void> load(const StateReader& reader) override;
  [[nodiscard]] std::uint64_t state_size() const override;

 private:
  void move_bytes();
  bool move_bytes(std::size_t port);
  void update_interrupt();

  mutable std::mutex mutex_;  // backends call from threads of their own
  std::optional<Bus> bus_;
  std::array<Uart, kPorts> uarts_;
  bool lines_open_ = false;                                // bytes move between the UARTs and their backends
  std::array<std::unique_ptr<Backend>, kPorts> backends_;  // last: their threads use the rest
};

}  // namespace gangway::serial
