// What the devices write to memory, by their DMA logs.
//
// A device that has no log, or whose log failed, may have written anywhere: then all memory counts as written, always
// (LOG-ERROR), and only the copy made with the device stopped is good.
//
// Thread-safety: one thread.
#pragma once

#include <span>
#include <vector>

#include <gangway/error.h>

#include "migrate/machine.h"
#include "migrate/page_set.h"

namespace gangway::migrate {

class DmaLogs {
 public:
  DmaLogs(std::span<const MachineDevice> devices, std::span<const MemoryBlock> memory);
  ~DmaLogs();  // stops

  // Every write from here on is seen.
  void start();
  // Adds the pages written since start() or the last call.
  void collect(PageSet& pages);
  void stop();

  // False: collect() gives all of memory.
  [[nodiscard]] bool exact() const { return exact_; }

 private:
  Result<void> start_one(DeviceHandle& device);
  Result<void> collect_one(DeviceHandle& device, PageSet& pages);

  std::span<const MachineDevice> devices_;
  std::span<const MemoryBlock> memory_;
  std::vector<DeviceHandle*> logging_;
  bool exact_ = true;
};

}  // namespace gangway::migrate
