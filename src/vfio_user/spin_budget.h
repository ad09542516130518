// How long a connection polls before it sleeps.
//
// A sleep costs many times a round trip, so it pays to poll as long as an answer is likely to come meanwhile; and it
// costs a core when it does not come. So the budget follows what was seen: a wait that a full budget would have covered
// restores it, a longer one halves it. On a machine with one processor there is nothing to win: the peer needs it.
//
// Thread-safety: one thread at a time.
#pragma once

#include <sys/sysinfo.h>

#include <algorithm>
#include <chrono>

namespace gangway::vfio_user {

class SpinBudget {
 public:
  using Duration = std::chrono::nanoseconds;

  explicit SpinBudget(Duration most) : SpinBudget(most, ::get_nprocs()) {}
  SpinBudget(Duration most, int processors) : most_(processors > 1 ? most : Duration::zero()), now_(most_) {}

  [[nodiscard]] bool enabled() const { return most_.count() != 0; }
  [[nodiscard]] Duration now() const { return now_; }

  // A wait for a message that polling did not cover took this long in all.
  void slept(Duration waited) {
    if (waited <= most_) {
      now_ = most_;
    } else {
      now_ = now_ / 2 < kWorthwhile ? Duration::zero() : now_ / 2;
    }
  }

 private:
  static constexpr Duration kWorthwhile{1000};

  Duration most_;
  Duration now_;
};

}  // namespace gangway::vfio_user
