#include "migrate/round_gate.h"

#include <fmt/format.h>

namespace gangway::migrate {

Result<void> RoundGate::arrive(RoundEnd end) {
  std::unique_lock lock(mutex_);
  if (finished_ || end.round != rounds_ + 1 || end.final > 1 || (arrived_ != 0 && end.final != final_)) {
    return fail(EPROTO, fmt::format("ROUND_END of round {} within round {}", end.round, rounds_ + 1));
  }
  final_ = end.final;
  if (++arrived_ == channels_) {
    arrived_ = 0;
    ++rounds_;
    finished_ = end.final != 0;
    changed_.notify_all();
    return {};
  }
  changed_.wait(lock, [&] { return aborted_ || rounds_ >= end.round; });
  if (rounds_ < end.round) return fail(ECANCELED, "another channel failed");
  return {};
}

void RoundGate::abort() {
  const std::scoped_lock lock(mutex_);
  aborted_ = true;
  changed_.notify_all();
}

std::uint32_t RoundGate::rounds() const {
  const std::scoped_lock lock(mutex_);
  return rounds_;
}

bool RoundGate::finished() const {
  const std::scoped_lock lock(mutex_);
  return finished_;
}

}  // namespace gangway::migrate
