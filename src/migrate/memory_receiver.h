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

// Pages that may hold something now, from an earlier attempt or another life; the others read as zero. Ask before
// anything allocates memory ahead.
[[nodiscard]] PageSet pages_in_use(std::span<const MemoryBlock> memory);

class MemoryReceiver {
 public:
  // What is in use is cleared when it comes as zero. `prefault` may be nullptr.
  MemoryReceiver(std::span<const MemoryBlock> memory, PageSet in_use, Prefault* prefault, bool checksums);

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
  PageSet in_use_;
  // Differs from its checksum: written by the machine while it was sent, so that it comes again, or damaged.
  PageSet suspect_;
  std::atomic<std::uint64_t> bytes_received_{0};
};

}  // namespace gangway::migrate
