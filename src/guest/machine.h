// The VM stand-in as migration sees it: RAM, devices over any transport, CPUs that run the workload.
//
// NVMe controllers, told by their PCI class, are driven. Any other device is connected as an operating system without a
// driver for it leaves it: reset, with the memory in reach; and it moves along with its state.
//
// Thread-safety: totals, findings and the accessors from any thread; the rest from one thread at a time.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <gangway/device_handle.h>
#include <gangway/error.h>
#include <gangway/fd.h>

#include "guest/dirty_tracker.h"
#include "guest/findings.h"
#include "guest/memory.h"
#include "guest/workload.h"
#include "migrate/machine.h"

namespace gangway::guest {

class GuestMachine : public migrate::Machine {
 public:
  struct Device {
    std::string id;  // "nvme0"
    std::unique_ptr<DeviceHandle> handle;
  };
  // Neither boots nor maps anything yet, and looks at no more than the devices' classes: booted it is a source,
  // prepared it can be a destination. `tracking`: nothing for the best that works here.
  static Result<std::unique_ptr<GuestMachine>> create(const GuestMemory::Options& memory, std::vector<Device> devices,
                                                      std::optional<TrackingMethod> tracking = {});
  ~GuestMachine() override;

  // Resets the devices, sets them up, and starts the program, running. EINVAL for a disk of which nothing may be
  // written, and for stretches of a device that is no disk.
  Result<void> boot(const BootOptions& options);

  // Ends the work and verifies all of it. The machine runs before, and stands after. False: something was found bad,
  // failed, or did not happen at all (findings() and totals() tell).
  bool finish();

  [[nodiscard]] Totals totals() const;
  [[nodiscard]] const Findings& findings() const { return findings_; }
  [[nodiscard]] const GuestMemory& ram() const { return *memory_; }
  [[nodiscard]] std::uint64_t pauses() const { return pauses_; }

  struct Connected {
    std::string id;
    std::uint32_t class_code = 0;  // PCI; 0: none
    bool driven = false;
  };
  [[nodiscard]] std::span<const Connected> connected() const { return connected_; }

  // --- migrate::Machine ---
  [[nodiscard]] std::span<const migrate::MemoryBlock> memory() const override { return memory_blocks_; }
  [[nodiscard]] migrate::DirtyTracker& dirty_tracker() override { return *tracker_; }
  [[nodiscard]] std::span<const migrate::MachineDevice> devices() const override { return machine_devices_; }
  Result<void> pause() override;
  Result<void> resume() override;
  Result<std::vector<std::byte>> save_cpus() override;
  Result<void> load_cpus(std::span<const std::byte> state) override;
  Result<void> prepare_device(std::size_t index) override;

 private:
  GuestMachine() = default;
  [[nodiscard]] Result<BootOptions> for_disks(const BootOptions& options) const;
  [[nodiscard]] std::shared_ptr<Workload> workload() const;
  void set_workload(std::shared_ptr<Workload> workload);

  std::unique_ptr<GuestMemory> memory_;
  std::vector<migrate::MemoryBlock> memory_blocks_;
  std::unique_ptr<migrate::DirtyTracker> tracker_;
  std::vector<Device> devices_;
  std::vector<migrate::MachineDevice> machine_devices_;
  std::vector<Connected> connected_;           // by device
  std::vector<migrate::MachineDevice> disks_;  // the devices that are driven
  std::vector<std::size_t> device_of_disk_;
  std::vector<bool> mapped_;  // by device: it reaches the memory
  Findings findings_;
  std::atomic<std::uint64_t> pauses_{0};

  struct Vectors {
    std::vector<Fd> eventfds;
    std::uint64_t counted = 0;  // of the signals that were taken out of them
  };

  mutable std::mutex mutex_;
  mutable std::vector<Vectors> interrupts_;  // by device
  std::shared_ptr<Workload> workload_;       // none: nothing was booted or has arrived
};

// Opens a device, and waits up to `patience` for its process to listen.
Result<std::unique_ptr<DeviceHandle>> open_when_ready(const std::string& target, std::chrono::milliseconds patience);

}  // namespace gangway::guest
