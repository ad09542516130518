// Sends rounds of memory over one or several channels.
//
// A round is the pages of a set, each sent once, on some channel. Rounds do not mix: every channel ends its part with
// ROUND_END, and the receiver takes up nothing of the next round before it has that from all of them. So an older copy
// of a page cannot overtake a newer one.
//
// Thread-safety: one round at a time; `tick` is called on the calling thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <span>

#include <gangway/error.h>

#include "migrate/channel.h"
#include "migrate/machine.h"
#include "migrate/meter.h"
#include "migrate/page_batch.h"
#include "migrate/page_set.h"

namespace gangway::migrate {

struct RoundEnd {
  std::uint32_t round = 0;
  std::uint32_t final = 0;  // 1: no memory follows
};

class MemorySender {
 public:
  // Channel 0 is also the one that the peer answers on. All must outlive this.
  MemorySender(std::span<const MemoryBlock> memory, std::span<Channel> channels, Meter& meter, bool checksums);

  // Tells the peer which pages of the set were never written, and takes those out of it.
  Result<void> send_holes(PageSet& pages);

  // Returns when everything is handed to the channels. EPIPE when the peer spoke up meanwhile: it failed.
  Result<void> send_round(const PageSet& pages, RoundEnd end);

 private:
  Result<void> send_part(const PageSet& pages, RoundEnd end, std::size_t channel);
  Result<void> send_window(const PageSet& pages, std::uint64_t window, PageBatchWriter& batch);

  std::span<const MemoryBlock> memory_;
  std::span<Channel> channels_;
  Meter& meter_;
  const bool checksums_;
  std::atomic<std::uint64_t> next_window_{0};
  std::atomic<bool> failed_{false};
};

}  // namespace gangway::migrate
