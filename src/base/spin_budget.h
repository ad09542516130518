// How long a thread that waits for its peer polls before it sleeps.
//
// A sleep costs many times a round trip, so it pays to poll as long as an answer is likely to come meanwhile; and it
// costs a core when it does not come. So the budget follows what was seen: it is halved when a message took longer than
// all of it to come, and restored when a message came within it to one who slept.
//
// A peer that has no other core to run on cannot answer one who polls. That looks like answers which come soon, but
// only to those who sleep, so each time a restored budget covers nothing, twice as many such answers are waited for
// before it is tried again. On a machine with one processor it is not tried at all. Giving the core up while polling
// would let such a peer run too, but everybody else as well, and a busy machine does not give it back for
// milliseconds.
//
// Thread-safety: one thread at a time.
#pragma once

#include <sys/sysinfo.h>

#include <algorithm>
#include <chrono>

namespace gangway {

class SpinBudget {
 public:
  using Duration = std::chrono::nanoseconds;

  explicit SpinBudget(Duration most) : SpinBudget(most, ::get_nprocs()) {}
  SpinBudget(Duration most, int processors) : most_(processors > 1 ? most : Duration::zero()), now_(most_) {}

  [[nodiscard]] bool enabled() const { return most_.count() != 0; }
  [[nodiscard]] Duration now() const { return now_; }

  // Polling saw a message come.
  void covered() { needed_ = 1; }

  // A wait for a message that polling did not cover took this long in all.
  void slept(Duration waited) {
    if (waited > most_) {
      now_ = now_ / 2 < kWorthwhile ? Duration::zero() : now_ / 2;
      return;
    }
    now_ = Duration::zero();
    if (++soon_ < needed_) return;
    soon_ = 0;
    needed_ = std::min(needed_ * 2, kMostNeeded);
    now_ = most_;
  }

 private:
  static constexpr Duration kWorthwhile{1000};
  static constexpr unsigned kMostNeeded = 4096;

  Duration most_;
  Duration now_;
  unsigned soon_ = 0;    // answers that came within the budget to one who slept, since it was last restored
  unsigned needed_ = 1;  // of those, to restore it
};

}  // namespace gangway
