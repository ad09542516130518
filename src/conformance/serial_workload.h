// Drives a 16550A behind an I/O BAR in its own loopback: it interrupts by INTA# and never writes memory.
//
// Thread-safety: as Workload.
#pragma once

#include <gangway/fd.h>

#include "conformance/workload.h"

namespace gangway::conformance {

class SerialWorkload : public Workload {
 public:
  [[nodiscard]] static bool fits(const Abilities& abilities);

  [[nodiscard]] std::uint32_t can() const override { return kInterrupts; }
  Result<void> set_up(DeviceHandle& device) override;
  Result<Written> write_pages(DeviceHandle& device, unsigned round) override;
  Result<void> kick(DeviceHandle& device, unsigned round) override;
  Result<void> await(DeviceHandle& device) override;
  [[nodiscard]] std::vector<Register> registers() const override;
  [[nodiscard]] std::uint64_t take_interrupts() override;

 private:
  Fd interrupt_;
};

}  // namespace gangway::conformance
