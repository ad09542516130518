// Takes pages off channels into guest memory, and knows in the end whether all of them came.
//
// Thread-safety: receive() from several threads, each with a channel of its own.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include <gangway/error.h>

#include "migrate/channel.h"
#include "migrate/machine.h"
#include "migrate/page_batch.h"
#include "migrate/page_set.h"
#include "migrate/prefault.h"

namespace gangway::migrate {

// Makes memory read as zero everywhere, without allocating what was never written.
void clear_memory(std::span<const MemoryBlock> memory);

class MemoryReceiver {
 public:
  // `memory` reads as zero. `prefault` may be nullptr.
  MemoryReceiver(std::span<const MemoryBlock> memory, Prefault* prefault, bool checksums);

  // The data of a Pages message with this payload, which is next on the channel.
  Result<void> receive(Channel& channel, std::span<const std::byte> payload);

  // ENODATA when a page never came, EBADMSG when the last copy of one differs from its checksum.
  [[nodiscard]] Result<void> check_complete() const;

  [[nodiscard]] std::uint64_t bytes_received() const { return bytes_received_.load(std::memory_order_relaxed); }

 private:
  void clear_run(std::size_t block, const PageRun& run);
  void check_pages(const PageBatch& batch);

  std::span<const MemoryBlock> memory_;
  Prefault* prefault_;
  const bool checksums_;
  PageSet arrived_;  // sent at least once, with data or as zero
  PageSet holds_data_;
  // Differs from its checksum: written by the machine while it was sent, so that it comes again, or damaged.
  PageSet suspect_;
  std::atomic<std::uint64_t> bytes_received_{0};
};

}  // namespace gangway::migrate
