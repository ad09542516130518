#include "guest/program.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include <fmt/format.h>
#include <xxhash.h>

#include "guest/nvme.h"
#include "guest/program_state.h"

namespace gangway::guest {
namespace {

struct Bound {
  const char* what;
  std::uint64_t value;
  std::uint64_t least;
  std::uint64_t most;
};

Result<void> check_bounds(std::span<const Bound> bounds) {
  for (const Bound& bound : bounds) {
    if (bound.value < bound.least || bound.value > bound.most) {
      return fail(EINVAL, fmt::format("{} is {}; must be {} to {}", bound.what, bound.value, bound.least, bound.most));
    }
  }
  return {};
}

Result<void> check_disk(const DiskConfig& disk, std::uint32_t block_size) {
  if (disk.extent_count == 0 || disk.extent_count > kMaxExtents) {
    return fail(EINVAL, fmt::format("{} stretches of the disk; must be 1 to {}", disk.extent_count, kMaxExtents));
  }
  std::uint64_t end = 0;
  const auto extents = std::span(disk.extents).first(disk.extent_count);
  for (const Extent& extent : extents) {
    const bool misplaced = extent.offset < end || extent.offset % kPageSize != 0 || extent.size % kPageSize != 0;
    if (misplaced || extent.size == 0 || extent.offset > (1ULL << 60) || extent.size > (1ULL << 60)) {
      return fail(EINVAL, fmt::format("stretch of {:#x} bytes at {:#x}: must be whole pages, after the one before it",
                                      extent.size, extent.offset));
    }
    end = extent.offset + extent.size;
  }
  if (disk.blocks == 0 || disk.blocks > count_blocks(extents, block_size)) {
    return fail(EINVAL, fmt::format("{} blocks of {} bytes do not fit the stretches of the disk, or are none",
                                    disk.blocks, block_size));
  }
  return {};
}

// Hands out RAM from the bottom, each part in one block. Deterministic.
class Allocator {
 public:
  explicit Allocator(const GuestMemory& memory) {
    for (const auto& block : memory.blocks()) free_.push_back(block.range);
  }

  Result<Iova> take(std::uint64_t size, const char* what) {
    const std::uint64_t rounded = (size + kPageSize - 1) / kPageSize * kPageSize;
    for (IovaRange& range : free_) {
      if (range.size < rounded || rounded < size) continue;
      const Iova start = range.start;
      range.start = start + rounded;
      range.size -= rounded;
      return start;
    }
    return fail(ENOSPC, fmt::format("the guest's memory has no room for {} bytes of {}; give it more", size, what));
  }

 private:
  std::vector<IovaRange> free_;
};

// Keeps the first failure of a row of allocations.
class Taker {
 public:
  explicit Taker(const GuestMemory& memory) : allocator_(memory) {}
  Iova take(std::uint64_t size, const char* what) {
    if (!result_) return {};
    auto taken = allocator_.take(size, what);
    if (taken) return *taken;
    result_ = std::unexpected(taken.error());
    return {};
  }
  [[nodiscard]] const Result<void>& result() const { return result_; }

 private:
  Allocator allocator_;
  Result<void> result_;
};

QueueLayout lay_out_queue(const ProgramConfig& config, Taker& taker) {
  QueueLayout queue;
  queue.entries = config.depth + 1;  // a ring is full with one entry free
  queue.submission = taker.take(queue.entries * sizeof(nvme::Command), "a submission queue");
  queue.completion = taker.take(queue.entries * sizeof(nvme::Completion), "a completion queue");
  queue.slots = taker.take(config.depth * sizeof(Slot), "commands");
  queue.prps = taker.take(config.depth * kPrpListSize, "PRP lists");
  queue.buffers = taker.take(std::uint64_t{config.depth} * config.block_size, "buffers");
  return queue;
}

DiskLayout lay_out_disk(const ProgramConfig& config, const DiskConfig& disk, Taker& taker) {
  DiskLayout layout;
  layout.state = taker.take(sizeof(DiskState), "a disk's state");
  layout.driver = taker.take(sizeof(NvmeState), "a driver's state");
  layout.admin_submission = taker.take(kPageSize, "an admin queue");
  layout.admin_completion = taker.take(kPageSize, "an admin queue");
  layout.identify = taker.take(kPageSize, "identify data");
  for (std::uint32_t queue = 0; queue < config.queues; ++queue) layout.queues.push_back(lay_out_queue(config, taker));
  layout.table = taker.take(disk.blocks * sizeof(BlockState), "the table of disk blocks");
  return layout;
}

std::uint64_t checksum_of(ProgramConfig config) {
  config.checksum = 0;
  return XXH3_64bits(&config, sizeof config);
}

}  // namespace

std::uint64_t block_address(const DiskConfig& disk, std::uint32_t block_size, std::uint64_t block) {
  for (const Extent& extent : std::span(disk.extents).first(disk.extent_count)) {
    const std::uint64_t here = extent.size / block_size;
    if (block < here) return extent.offset + block * block_size;
    block -= here;
  }
  return 0;  // not reached: check_config() counted the blocks
}

std::uint64_t count_blocks(std::span<const Extent> extents, std::uint32_t block_size) {
  std::uint64_t count = 0;
  for (const Extent& extent : extents) count += extent.size / block_size;
  return count;
}

Result<void> check_config(const ProgramConfig& config) {
  const std::array<Bound, 9> bounds{{
      {"the memory's size", config.memory_size, GuestMemory::kSmallest, 1ULL << 46},
      {"the number of disks", config.disk_count, 0, kMaxDisks},
      {"the number of queues", config.queues, 1, kMaxQueues},
      {"the depth", config.depth, 1, kMaxDepth},
      {"the block size", config.block_size, kPageSize, kMaxBlockSize},
      {"the share of writes", config.write_percent, 1, 100},
      {"the number of threads that write memory", config.memory_cpus, 0, kMaxMemoryCpus},
      {"the number of pages that a thread writes", config.memory_pages, 0, config.memory_size / kPageSize},
      {"the dirty rate", config.dirty_rate, 0, 1ULL << 40},
  }};
  if (auto bounded = check_bounds(bounds); !bounded) return bounded;
  if (config.block_size % kPageSize != 0) {
    return fail(EINVAL, fmt::format("the block size is {}; must be a multiple of {}", config.block_size, kPageSize));
  }
  for (std::uint32_t disk = 0; disk < config.disk_count; ++disk) {
    if (auto checked = check_disk(config.disks[disk], config.block_size); !checked) {
      return fail_within(fmt::format("disk {}", disk), checked.error());
    }
  }
  return {};
}

Result<ProgramLayout> lay_out(const ProgramConfig& config, const GuestMemory& memory) {
  Taker taker(memory);
  taker.take(kConfigSpace, "the program's configuration");
  ProgramLayout layout;
  for (const DiskConfig& disk : std::span(config.disks).first(config.disk_count)) {
    layout.disks.push_back(lay_out_disk(config, disk, taker));
  }
  for (std::uint32_t cpu = 0; cpu < config.memory_cpus; ++cpu) {
    MemoryCpuLayout& part = layout.memory_cpus.emplace_back();
    part.state = taker.take(sizeof(MemoryState), "a thread's state");
    part.table = taker.take(config.memory_pages * sizeof(std::uint32_t), "the table of memory pages");
    part.pages = taker.take(config.memory_pages * kPageSize, "pages to write");
  }
  if (!taker.result()) return std::unexpected(taker.result().error());
  return layout;
}

Result<ProgramConfig> store_config(ProgramConfig config, GuestMemory& memory) {
  config.bytes = sizeof config;
  config.memory_size = memory.size();
  if (auto checked = check_config(config); !checked) return std::unexpected(checked.error());
  config.checksum = checksum_of(config);
  const auto place = memory.at(memory.blocks().front().range.start, sizeof config);
  std::memcpy(place.data(), &config, sizeof config);
  memory.note_write(place.data(), place.size());
  return config;
}

Result<ProgramConfig> load_config(const GuestMemory& memory) {
  ProgramConfig config;
  const auto place = memory.at(memory.blocks().front().range.start, sizeof config);
  std::memcpy(&config, place.data(), sizeof config);
  if (config.magic != ProgramConfig::kMagic) return fail(EBADMSG, "the memory holds no program");
  if (config.version != ProgramConfig::kVersion || config.bytes != sizeof config) {
    return fail(EBADMSG, fmt::format("the memory holds a program of version {}; this is {}", config.version,
                                     ProgramConfig::kVersion));
  }
  if (config.checksum != checksum_of(config)) return fail(EBADMSG, "the program's configuration: checksum differs");
  if (config.memory_size != memory.size()) {
    return fail(EBADMSG, fmt::format("the program was made for a memory of {} bytes; this one has {}",
                                     config.memory_size, memory.size()));
  }
  if (auto checked = check_config(config); !checked) return fail_within("the program's configuration", checked.error());
  return config;
}

}  // namespace gangway::guest
