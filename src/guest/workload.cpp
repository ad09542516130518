#include "guest/workload.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/log.h"

namespace gangway::guest {
namespace {

// The table of blocks takes this share of RAM at most; a larger disk is used in part.
constexpr std::uint64_t kTableShare = 8;

ProgramConfig config_of(const BootOptions& options, const GuestMemory& memory, std::size_t disks) {
  ProgramConfig config;
  config.memory_size = memory.size();
  config.seed = options.seed;
  config.disk_count = static_cast<std::uint32_t>(disks);
  config.queues = options.queues;
  config.depth = options.depth;
  config.block_size = options.block_size;
  config.write_percent = options.write_percent;
  config.flush_interval = options.flush_interval;
  config.memory_cpus = options.memory_cpus;
  config.dirty_rate = options.dirty_rate;
  if (options.memory_cpus != 0) config.memory_pages = options.dirty_span / kPageSize / options.memory_cpus;
  return config;
}

Result<DiskConfig> disk_config(std::span<const Extent> extents, const ProgramConfig& config) {
  if (extents.size() > kMaxExtents) {
    return fail(E2BIG, fmt::format("{} stretches of a disk; at most {} are taken", extents.size(), kMaxExtents));
  }
  DiskConfig disk;
  disk.extent_count = static_cast<std::uint32_t>(extents.size());
  std::ranges::copy(extents, disk.extents.begin());
  const std::uint64_t most = config.memory_size / kTableShare / config.disk_count / sizeof(BlockState);
  disk.blocks = count_blocks(extents, config.block_size);
  if (disk.blocks > most) {
    log::warn("the workload uses the first {} blocks of a disk, not all {}: a guest with more memory uses more", most,
              disk.blocks);
    disk.blocks = most;
  }
  return disk;
}

// What a disk's size is can be learned only by driving it, which needs queues in RAM; so a program with one small
// stretch of each disk is laid out for the purpose.
Result<std::uint64_t> disk_size(GuestMemory& memory, const migrate::MachineDevice& device, ProgramConfig config) {
  config.disk_count = 1;
  config.memory_cpus = 0;
  config.disks[0] = DiskConfig{.blocks = 1, .extent_count = 1, .extents = {Extent{0, config.block_size}}};
  const auto layout = lay_out(config, memory);
  if (!layout) return std::unexpected(layout.error());
  NvmeDriver driver(*device.handle, memory, layout->disks.front());
  if (auto started = driver.start(); !started) return std::unexpected(started.error());
  return driver.disk_size();
}

Result<std::vector<Extent>> whole_disk(GuestMemory& memory, const migrate::MachineDevice& device,
                                       const ProgramConfig& config) {
  const auto size = disk_size(memory, device, config);
  if (!size) return std::unexpected(size.error());
  return std::vector<Extent>{{0, *size / kPageSize * kPageSize}};
}

Result<void> choose_extents(ProgramConfig& config, GuestMemory& memory, std::span<const migrate::MachineDevice> devices,
                            const BootOptions& options) {
  for (std::size_t number = 0; number < devices.size(); ++number) {
    std::vector<Extent> extents = number < options.disks.size() ? options.disks[number] : std::vector<Extent>{};
    if (extents.empty()) {
      auto whole = whole_disk(memory, devices[number], config);
      if (!whole) return fail_within(devices[number].id, whole.error());
      extents = std::move(*whole);
    }
    auto disk = disk_config(extents, config);
    if (!disk) return fail_within(devices[number].id, disk.error());
    config.disks[number] = *disk;
  }
  return {};
}

}  // namespace

std::uint64_t Totals::commands() const {
  std::uint64_t sum = 0;
  for (const DiskTotals& disk : disks) sum += disk.counters.reads + disk.counters.writes + disk.counters.flushes;
  return sum;
}
std::uint64_t Totals::blocks_verified() const {
  std::uint64_t sum = 0;
  for (const DiskTotals& disk : disks) sum += disk.counters.verified;
  return sum;
}
std::uint64_t Totals::blocks_bad() const {
  std::uint64_t sum = 0;
  for (const DiskTotals& disk : disks) sum += disk.counters.bad;
  return sum;
}
std::uint64_t Totals::errors() const {
  std::uint64_t sum = 0;
  for (const DiskTotals& disk : disks) sum += disk.counters.errors;
  return sum;
}

Result<std::unique_ptr<Workload>> Workload::boot(GuestMemory& memory, std::span<const migrate::MachineDevice> devices,
                                                 const BootOptions& options, Findings& findings) {
  if (devices.size() > kMaxDisks) return fail(E2BIG, fmt::format("at most {} disks", kMaxDisks));
  ProgramConfig wanted = config_of(options, memory, devices.size());
  if (auto chosen = choose_extents(wanted, memory, devices, options); !chosen) return std::unexpected(chosen.error());
  const auto config = store_config(wanted, memory);
  if (!config) return std::unexpected(config.error());
  const auto layout = lay_out(*config, memory);
  if (!layout) return std::unexpected(layout.error());

  std::unique_ptr<Workload> workload(new Workload(*config));
  workload->build(memory, devices, *layout, findings);
  for (Disk& disk : workload->disks_) {
    if (auto started = disk.driver->start(); !started) return fail_within(disk.id, started.error());
    if (auto started = disk.workload->start(); !started) return std::unexpected(started.error());
  }
  for (const auto& memory_workload : workload->memory_workloads_) memory_workload->start();
  workload->start_cpus();
  return workload;
}

Result<std::unique_ptr<Workload>> Workload::attach(GuestMemory& memory, std::span<const migrate::MachineDevice> devices,
                                                   Findings& findings) {
  const auto config = load_config(memory);
  if (!config) return std::unexpected(config.error());
  if (config->disk_count != devices.size()) {
    return fail(EBADMSG, fmt::format("the program drives {} disks; here are {}", config->disk_count, devices.size()));
  }
  const auto layout = lay_out(*config, memory);
  if (!layout) return std::unexpected(layout.error());

  std::unique_ptr<Workload> workload(new Workload(*config));
  workload->build(memory, devices, *layout, findings);
  for (Disk& disk : workload->disks_) {
    if (auto attached = disk.driver->attach(); !attached) return fail_within(disk.id, attached.error());
    if (auto attached = disk.workload->attach(); !attached) return std::unexpected(attached.error());
  }
  for (const auto& memory_workload : workload->memory_workloads_) {
    if (auto attached = memory_workload->attach(); !attached) return std::unexpected(attached.error());
  }
  workload->start_cpus();
  return workload;
}

void Workload::build(GuestMemory& memory, std::span<const migrate::MachineDevice> devices, const ProgramLayout& layout,
                     Findings& findings) {
  for (std::uint32_t number = 0; number < devices.size(); ++number) {
    const DiskLayout& place = layout.disks[number];
    Disk& disk = disks_.emplace_back();
    disk.id = devices[number].id;
    disk.driver = std::make_unique<NvmeDriver>(*devices[number].handle, memory, place);
    disk.workload = std::make_unique<DiskWorkload>(disk.id, config_, number, memory, place, *disk.driver, findings);
  }
  for (std::uint32_t number = 0; number < layout.memory_cpus.size(); ++number) {
    memory_workloads_.push_back(
        std::make_unique<MemoryWorkload>(config_, number, memory, layout.memory_cpus[number], findings));
  }
}

void Workload::start_cpus() {
  std::vector<CpuProgram*> programs;
  for (Disk& disk : disks_) programs.push_back(disk.workload.get());
  for (const auto& memory_workload : memory_workloads_) programs.push_back(memory_workload.get());
  cpus_.start(programs);
}

Totals Workload::totals() const {
  Totals totals;
  totals.memory_pages = config_.memory_pages * config_.memory_cpus;
  for (std::size_t number = 0; number < disks_.size(); ++number) {
    const Disk& disk = disks_[number];
    totals.disks.push_back({.id = disk.id,
                            .counters = disk.workload->counters(),
                            .blocks = config_.disks[number].blocks,
                            .doorbells_mapped = disk.driver->doorbells_mapped()});
  }
  for (const auto& memory_workload : memory_workloads_) {
    const MemoryCounters counters = memory_workload->counters();
    totals.memory.written += counters.written;
    totals.memory.verified += counters.verified;
    totals.memory.bad += counters.bad;
  }
  return totals;
}

void Workload::finish() {
  for (Disk& disk : disks_) disk.workload->verify_all();
  for (const auto& memory_workload : memory_workloads_) memory_workload->verify_all();
  cpus_.kick();
  cpus_.wait_finished();
}

}  // namespace gangway::guest
