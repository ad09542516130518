// How long a controller's I/O thread polls before it sleeps.
//
// A host with one command at a time waits for each, and does not come with the next at once: a guest thinks for about
// 100 us between two, and a thread that sleeps by then costs each command a message and two wake-ups. A host with
// several has work of its own to do meanwhile, and may need the core that the polling takes. So the first is polled for
// all of the time given, the second for a quarter of it; both as far as it pays (see SpinBudget).
//
// Thread-safety: one thread at a time.
#pragma once

#include <algorithm>
#include <cstddef>

#include "base/spin_budget.h"

namespace gangway::nvme {

class PollBudget {
 public:
  using Duration = SpinBudget::Duration;
  static constexpr unsigned kSingleFor = 4;  // idle times, before a host counts as one with a command at a time

  explicit PollBudget(Duration most) : for_single_(most), for_several_(most / 4) {}
  PollBudget(Duration most, int processors) : for_single_(most, processors), for_several_(most / 4, processors) {}
  PollBudget(const PollBudget&) = delete;
  PollBudget& operator=(const PollBudget&) = delete;

  // There is nothing to do, and the host has so many commands outstanding.
  void begin_idle(std::size_t outstanding) {
    single_ = outstanding <= 1 ? std::min(single_ + 1, kSingleFor) : 0;
    current_ = single_ == kSingleFor ? &for_single_ : &for_several_;
  }
  [[nodiscard]] Duration now() const { return current_->now(); }

  // How the idle time ended: polling saw the work come, or a sleep was needed and it took this long in all.
  void covered() { current_->covered(); }
  void slept(Duration waited) { current_->slept(waited); }

 private:
  SpinBudget for_single_;
  SpinBudget for_several_;
  SpinBudget* current_ = &for_several_;  // one of the two
  unsigned single_ = 0;                  // idle times in a row with at most one command outstanding
};

}  // namespace gangway::nvme
