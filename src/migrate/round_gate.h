// Lets no channel begin with a round of memory before all channels are done with the one before.
//
// Thread-safety: everything may be called from any thread.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>

#include <gangway/error.h>

#include "migrate/memory_sender.h"

namespace gangway::migrate {

class RoundGate {
 public:
  explicit RoundGate(std::size_t channels) : channels_(channels) {}

  // A channel has received all it gets of this round; returns when all have. EPROTO when the rounds of the channels
  // differ, ECANCELED after abort().
  Result<void> arrive(RoundEnd end);
  // Nobody waits any more.
  void abort();

  [[nodiscard]] std::uint32_t rounds() const;
  // The final round is over.
  [[nodiscard]] bool finished() const;

 private:
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  const std::size_t channels_;
  std::size_t arrived_ = 0;
  std::uint32_t rounds_ = 0;  // over
  std::uint32_t final_ = 0;   // of the round that ends
  bool finished_ = false;
  bool aborted_ = false;
};

}  // namespace gangway::migrate
