#include "migrate/prefault.h"

#include <sys/mman.h>

#include <algorithm>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

namespace gangway::migrate {

Prefault::Prefault(std::span<const MemoryBlock> memory) {
  for (const MemoryBlock& block : memory) {
    // Large pages where the system allows them for shared memory; refused otherwise.
    (void)::madvise(block.bytes.data(), block.bytes.size(), MADV_HUGEPAGE);
    const std::uint64_t chunks = (block.pages() + kChunkPages - 1) / kChunkPages;
    blocks_.push_back({.bytes = block.bytes, .taken = std::vector<std::atomic<bool>>(chunks)});
  }
  thread_ = std::jthread([this](const std::stop_token& stop) { run(stop); });
}

void Prefault::need(std::size_t block, std::uint64_t first, std::uint64_t count) {
  Block& target = blocks_[block];
  for (std::uint64_t chunk = first / kChunkPages; chunk <= (first + count - 1) / kChunkPages; ++chunk) {
    if (take(target, chunk)) (void)populate(target, chunk);
  }
}

void Prefault::pass_over(std::size_t block, std::uint64_t first, std::uint64_t count) {
  const std::uint64_t begin = (first + kChunkPages - 1) / kChunkPages;
  const std::uint64_t end = (first + count) / kChunkPages;
  for (std::uint64_t chunk = begin; chunk < end; ++chunk) (void)take(blocks_[block], chunk);
}

bool Prefault::take(Block& block, std::uint64_t chunk) {
  return !block.taken[chunk].load(std::memory_order_relaxed) &&
         !block.taken[chunk].exchange(true, std::memory_order_relaxed);
}

bool Prefault::populate(Block& block, std::uint64_t chunk) {
  if (!able_.load(std::memory_order_relaxed)) return false;
  const std::uint64_t at = chunk * kChunkPages * kPageSize;
  const std::uint64_t size = std::min<std::uint64_t>(kChunkPages * kPageSize, block.bytes.size() - at);
  const bool done = ::madvise(block.bytes.data() + at, size, MADV_POPULATE_WRITE) == 0;
  if (!done) able_.store(false, std::memory_order_relaxed);
  return done;
}

void Prefault::run(const std::stop_token& stop) {
  for (Block& block : blocks_) {
    for (std::uint64_t chunk = 0; chunk < block.taken.size(); ++chunk) {
      if (stop.stop_requested()) return;
      if (take(block, chunk) && !populate(block, chunk)) return;
    }
  }
}

}  // namespace gangway::migrate
