// Drives the card that the faulty devices are made from (src/devices/faulty/card.h describes its registers): a DMA job
// of known pieces, an interrupt each.
//
// Thread-safety: as Workload.
#pragma once

#include <gangway/fd.h>

#include "conformance/workload.h"
#include "guest/memory.h"

namespace gangway::conformance {

class CardWorkload : public Workload {
 public:
  [[nodiscard]] static bool fits(const Abilities& abilities);

  [[nodiscard]] std::uint32_t can() const override { return kDma | kInterrupts | kChange; }
  Result<void> set_up(DeviceHandle& device) override;
  [[nodiscard]] std::vector<Block> memory() const override;
  Result<Written> write_pages(DeviceHandle& device, unsigned round) override;
  Result<void> kick(DeviceHandle& device, unsigned round) override;
  Result<void> await(DeviceHandle& device) override;
  Result<void> change(DeviceHandle& device, unsigned round) override;
  [[nodiscard]] std::uint64_t take_interrupts() override;

 private:
  Result<void> start(DeviceHandle& device, unsigned round, std::uint32_t pace_us);

  std::unique_ptr<guest::GuestMemory> memory_;
  std::vector<Fd> interrupts_;
};

}  // namespace gangway::conformance
