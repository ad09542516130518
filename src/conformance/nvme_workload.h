// Drives an NVMe controller with the polled driver of the VM stand-in: reads blocks, so that the controller writes
// known pages and completion queues.
//
// Thread-safety: as Workload.
#pragma once

#include <optional>

#include <gangway/fd.h>

#include "conformance/workload.h"
#include "guest/memory.h"
#include "guest/nvme_driver.h"

namespace gangway::conformance {

class NvmeWorkload : public Workload {
 public:
  [[nodiscard]] static bool fits(const Abilities& abilities);

  [[nodiscard]] std::uint32_t can() const override { return kDma | kInterrupts; }
  Result<void> set_up(DeviceHandle& device) override;
  [[nodiscard]] std::vector<Block> memory() const override;
  Result<Written> write_pages(DeviceHandle& device, unsigned round) override;
  Result<void> kick(DeviceHandle& device, unsigned round) override;
  Result<void> await(DeviceHandle& device) override;
  [[nodiscard]] std::uint64_t take_interrupts() override;

 private:
  [[nodiscard]] Pages pages_of(unsigned round) const;

  std::unique_ptr<guest::GuestMemory> memory_;
  std::optional<guest::NvmeDriver> driver_;
  std::vector<Fd> interrupts_;
  std::uint32_t outstanding_ = 0;  // commands without a completion
  bool rung_ = true;               // the doorbell told of all of them
};

}  // namespace gangway::conformance
