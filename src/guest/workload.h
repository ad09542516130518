// The guest's program at work: its CPUs, drivers and workloads, on RAM that holds its state.
//
// Thread-safety: totals() from any thread; the others one at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include <gangway/error.h>

#include "guest/cpus.h"
#include "guest/disk_workload.h"
#include "guest/findings.h"
#include "guest/memory.h"
#include "guest/memory_workload.h"
#include "guest/nvme_driver.h"
#include "guest/program.h"
#include "migrate/machine.h"

namespace gangway::guest {

struct BootOptions {
  std::uint64_t seed = 1;
  std::uint32_t queues = 1;
  std::uint32_t depth = 32;
  std::uint32_t block_size = 4096;  // bytes
  std::uint32_t write_percent = 50;
  std::uint32_t flush_interval = 256;
  std::uint32_t memory_cpus = 1;
  std::uint64_t dirty_span = 0;  // bytes of RAM, over all memory CPUs
  std::uint64_t dirty_rate = 0;  // bytes a second
  // By device: what the workload may write of the disk. Empty: the whole disk, if whole_disks, else boot() is EROFS.
  std::vector<std::vector<Extent>> disks;
  bool whole_disks = true;
};

struct DiskTotals {
  std::string id;
  DiskCounters counters;
  std::uint64_t blocks = 0;      // that the workload uses
  std::uint64_t interrupts = 0;  // that the controller raised here
  bool doorbells_mapped = false;
};
struct Totals {
  std::vector<DiskTotals> disks;
  MemoryCounters memory;
  std::uint64_t memory_pages = 0;  // that the threads for memory write, all of them once before any again

  [[nodiscard]] std::uint64_t commands() const;  // completed
  [[nodiscard]] std::uint64_t blocks_verified() const;
  [[nodiscard]] std::uint64_t blocks_bad() const;
  [[nodiscard]] std::uint64_t errors() const;
};

class Workload {
 public:
  // A fresh start: brings the controllers up and puts the program into RAM. The devices are NVMe controllers and reach
  // the memory already; `options` has as many disks. The CPUs stand until resumed.
  static Result<std::unique_ptr<Workload>> boot(GuestMemory& memory, std::span<const migrate::MachineDevice> devices,
                                                const BootOptions& options, Findings& findings);
  // The program is in RAM, put there by another host: checks it all, and stands ready to go on.
  static Result<std::unique_ptr<Workload>> attach(GuestMemory& memory, std::span<const migrate::MachineDevice> devices,
                                                  Findings& findings);

  [[nodiscard]] Cpus& cpus() { return cpus_; }
  [[nodiscard]] const ProgramConfig& config() const { return config_; }
  [[nodiscard]] Totals totals() const;

  // Ends the random work, verifies every block and page once more, and returns when that is done or has failed. The
  // CPUs must run.
  void finish();

 private:
  struct Disk {
    std::string id;
    std::unique_ptr<NvmeDriver> driver;
    std::unique_ptr<DiskWorkload> workload;
  };

  explicit Workload(const ProgramConfig& config) : config_(config) {}
  void build(GuestMemory& memory, std::span<const migrate::MachineDevice> devices, const ProgramLayout& layout,
             Findings& findings);
  void start_cpus();

  ProgramConfig config_;
  std::vector<Disk> disks_;
  std::vector<std::unique_ptr<MemoryWorkload>> memory_workloads_;
  Cpus cpus_;  // last: its threads use all of the above
};

}  // namespace gangway::guest
