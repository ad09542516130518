// Makes a device work and knows what it made it do: which memory it writes, when it interrupts.
//
// Without one the suite cannot see a device's DMA, so what needs it is not tested. A workload is set up on a RUNNING
// device and is gone with the connection. Its calls are acts and run on the subject's lane.
//
// Thread-safety: one thread; memory() is constant once set up.
#pragma once

#include <cstdint>
#include <memory>
#include <set>
#include <span>
#include <string_view>
#include <vector>

#include <gangway/device_handle.h>

#include "conformance/abilities.h"

namespace gangway::conformance {

class Workload {
 public:
  virtual ~Workload() = default;

  // What it can do, as Needs: kDma, kInterrupts, kChange.
  [[nodiscard]] virtual std::uint32_t can() const = 0;

  // Two saves of the same stopped device are equal.
  [[nodiscard]] virtual bool deterministic() const { return true; }

  // On a device just opened or reset: maps memory, brings the device up, sets interrupts.
  virtual Result<void> set_up(DeviceHandle& device) = 0;

  struct Block {
    IovaRange range;
    std::span<std::byte> bytes;  // what the device's writes appear in
  };
  [[nodiscard]] virtual std::vector<Block> memory() const { return {}; }

  using Pages = std::set<std::uint64_t>;  // IOVAs, multiples of 4096
  struct Written {
    Pages must;  // written for certain
    Pages may;   // perhaps written as well
  };
  // Makes the device write some pages and waits until it has. `round` picks other pages each time.
  virtual Result<Written> write_pages(DeviceHandle& device, unsigned round) = 0;

  // Asks for work that writes memory and interrupts, and does not wait. The device may refuse it in a stopped state.
  virtual Result<void> kick(DeviceHandle& device, unsigned round) = 0;
  // Waits until what was kicked is done, in bounded time.
  virtual Result<void> await(DeviceHandle& device) = 0;

  // Changes memory of the device's own, which migrates.
  virtual Result<void> change(DeviceHandle& device, unsigned round);

  // What of BAR 0 can be read without changing anything.
  struct Register {
    std::uint64_t offset = 0;
    std::size_t size = 0;  // bytes
  };
  [[nodiscard]] virtual std::vector<Register> registers() const;

  // Interrupts that came since the last call.
  [[nodiscard]] virtual std::uint64_t take_interrupts() { return 0; }
};

// One that fits the device; null if there is none.
std::shared_ptr<Workload> make_workload(const Abilities& abilities);

}  // namespace gangway::conformance
