// The guest's program as it lies in its own RAM, and where.
//
// As with any operating system, moving the RAM moves the program: queues, tables, counters and random states are all
// in there, and nothing that matters is anywhere else. Where each part lies follows from the configuration at the start
// of RAM alone, so a program that arrived is found without following a pointer that a peer might have made up.
//
// Thread-safety: pure, on memory that nobody else writes.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include <gangway/error.h>
#include <gangway/types.h>

#include "guest/memory.h"

namespace gangway::guest {

inline constexpr std::uint32_t kMaxDisks = 8;
inline constexpr std::uint32_t kMaxQueues = 4;  // I/O queue pairs of a disk
inline constexpr std::uint32_t kMaxDepth = 1023;
inline constexpr std::uint32_t kMaxBlockSize = 128U << 10;
inline constexpr std::uint32_t kMaxExtents = 200;
inline constexpr std::uint32_t kMaxMemoryCpus = 8;

// A stretch of a disk, bytes.
struct Extent {
  std::uint64_t offset = 0;
  std::uint64_t size = 0;
  friend bool operator==(const Extent&, const Extent&) = default;
};

// What of a disk the workload may write. Ascending, apart from each other.
struct DiskConfig {
  std::uint64_t blocks = 0;  // of block_size, that fit the extents
  std::uint32_t extent_count = 0;
  std::uint32_t reserved = 0;
  std::array<Extent, kMaxExtents> extents{};
};

// At the very start of RAM. Constant after boot.
struct ProgramConfig {
  static constexpr std::uint64_t kMagic = 0x7473657567777767;  // "gwwguest"
  static constexpr std::uint32_t kVersion = 1;

  std::uint64_t magic = kMagic;
  std::uint32_t version = kVersion;
  std::uint32_t bytes = 0;     // of this structure
  std::uint64_t checksum = 0;  // XXH3-64 of this structure with this field 0
  std::uint64_t memory_size = 0;
  std::uint64_t seed = 0;
  std::uint32_t disk_count = 0;
  std::uint32_t queues = 1;            // I/O queue pairs of a disk
  std::uint32_t depth = 32;            // commands in flight in a queue pair
  std::uint32_t block_size = 4096;     // bytes of a read or write
  std::uint32_t write_percent = 50;    // the others are reads
  std::uint32_t flush_interval = 256;  // a flush after about so many commands; 0: none
  std::uint32_t memory_cpus = 1;       // threads that write memory
  std::uint32_t reserved = 0;
  std::uint64_t memory_pages = 0;  // that each of them writes
  std::uint64_t dirty_rate = 0;    // bytes a second, together; 0: none after the first pass
  std::array<DiskConfig, kMaxDisks> disks{};
};
inline constexpr std::uint64_t kConfigSpace = 32U << 10;
static_assert(sizeof(ProgramConfig) <= kConfigSpace);

// Where the parts of one queue pair lie.
struct QueueLayout {
  Iova submission;
  Iova completion;
  std::uint32_t entries = 0;
  Iova slots;    // Slot[depth]
  Iova prps;     // kPrpListSize bytes a slot
  Iova buffers;  // block_size bytes a slot, page aligned
};
inline constexpr std::uint64_t kPrpListSize = kMaxBlockSize / kPageSize * sizeof(std::uint64_t);

struct DiskLayout {
  Iova state;   // DiskState
  Iova driver;  // NvmeState
  Iova admin_submission;
  Iova admin_completion;
  Iova identify;  // a page that identify data goes to
  std::vector<QueueLayout> queues;
  Iova table;  // BlockState[blocks]
};

struct MemoryCpuLayout {
  Iova state;  // MemoryState
  Iova table;  // generation of each page, 32 bits
  Iova pages;
};

struct ProgramLayout {
  std::vector<DiskLayout> disks;
  std::vector<MemoryCpuLayout> memory_cpus;
};

// Bytes on the disk where block number `block` begins; `block` is below `blocks`.
[[nodiscard]] std::uint64_t block_address(const DiskConfig& disk, std::uint32_t block_size, std::uint64_t block);

// Blocks of `block_size` that the extents hold.
[[nodiscard]] std::uint64_t count_blocks(std::span<const Extent> extents, std::uint32_t block_size);

// Every value within its bounds, of whoever made it. EINVAL with the first that is not.
[[nodiscard]] Result<void> check_config(const ProgramConfig& config);

// ENOSPC when the memory cannot hold the program.
[[nodiscard]] Result<ProgramLayout> lay_out(const ProgramConfig& config, const GuestMemory& memory);

// Writes the configuration to the start of RAM and returns it as it lies there, complete with checksum.
Result<ProgramConfig> store_config(ProgramConfig config, GuestMemory& memory);
// Reads and checks the one that is there.
[[nodiscard]] Result<ProgramConfig> load_config(const GuestMemory& memory);

}  // namespace gangway::guest
