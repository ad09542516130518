// What the program keeps in guest RAM while it runs. Plain structures; whoever attaches to them checks what they say.
//
// Counters are written by their owner alone and read by anyone: through count() and value_of().
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "guest/program.h"

namespace gangway::guest {

inline void count(std::uint64_t& counter, std::uint64_t amount = 1) {
  std::atomic_ref<std::uint64_t> reference(counter);
  reference.store(reference.load(std::memory_order_relaxed) + amount, std::memory_order_relaxed);
}
[[nodiscard]] inline std::uint64_t value_of(const std::uint64_t& counter) {
  // atomic_ref<const T> comes with C++26.
  return std::atomic_ref<std::uint64_t>(const_cast<std::uint64_t&>(counter)).load(std::memory_order_relaxed);
}

// SplitMix64: a state of one word.
[[nodiscard]] inline std::uint64_t next_random(std::uint64_t& state) {
  state += 0x9e3779b97f4a7c15;
  std::uint64_t value = state;
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9;
  value = (value ^ (value >> 27)) * 0x94d049bb133111eb;
  return value ^ (value >> 31);
}

// One ring pair, admin or I/O.
struct RingState {
  std::uint32_t tail = 0;   // of the submission queue
  std::uint32_t head = 0;   // of the completion queue
  std::uint32_t phase = 1;  // that the next new completion has
  std::uint32_t reserved = 0;
};

struct NvmeState {
  static constexpr std::uint64_t kMagic = 0x726472656d766e67;
  std::uint64_t magic = kMagic;
  std::uint64_t logical_blocks = 0;   // of the namespace
  std::uint32_t block_shift = 9;      // log2 of the logical block's size
  std::uint32_t doorbell_stride = 4;  // bytes
  std::uint32_t io_queues = 0;
  std::uint32_t reserved = 0;
  std::array<RingState, 1 + kMaxQueues> rings{};  // 0: admin
};

enum class SlotUse : std::uint32_t { Free, Read, Write, Flush };

// A command in flight; its number is the command identifier.
struct Slot {
  SlotUse use = SlotUse::Free;
  std::uint32_t generation = 0;  // write: the one written; read: the one acknowledged when the read began
  std::uint64_t block = 0;
};

// What a block of the disk may hold: any generation from `acknowledged` to `issued`. 0: never written, unknown.
struct BlockState {
  std::uint32_t acknowledged = 0;
  std::uint32_t issued = 0;
  std::uint32_t writing = 0;  // 1 while a write is in flight; there is never a second
  std::uint32_t reserved = 0;
};

struct DiskCounters {
  std::uint64_t reads = 0;
  std::uint64_t writes = 0;
  std::uint64_t flushes = 0;
  std::uint64_t verified = 0;  // blocks read and found right
  std::uint64_t bad = 0;       // blocks read and found wrong
  std::uint64_t errors = 0;    // commands that failed, and completions that answer no command
};

struct DiskState {
  static constexpr std::uint64_t kMagic = 0x6b736964656c6977;
  std::uint64_t magic = kMagic;
  std::uint64_t random = 0;
  std::uint64_t until_flush = 0;
  DiskCounters counters;
  std::array<std::uint32_t, kMaxQueues> in_flight{};
};

struct MemoryCounters {
  std::uint64_t written = 0;   // pages
  std::uint64_t verified = 0;  // pages found right
  std::uint64_t bad = 0;       // pages found wrong
};

struct MemoryState {
  static constexpr std::uint64_t kMagic = 0x7972656d656c6977;
  std::uint64_t magic = kMagic;
  std::uint64_t random = 0;
  std::uint64_t cursor = 0;  // of the pass over all pages in progress
  MemoryCounters counters;
};

}  // namespace gangway::guest
