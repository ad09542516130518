// The phases of a migration, one after the other without a gap. Thread-safety: one thread.
#pragma once

#include <chrono>
#include <string>
#include <utility>
#include <vector>

#include "migrate/report.h"

namespace gangway::migrate {

class Timeline {
 public:
  using Clock = std::chrono::steady_clock;

  // Ends the phase before.
  void enter(std::string name) {
    finish();
    phases_.push_back({.name = std::move(name)});
    entered_ = Clock::now();
  }
  void finish() {
    if (!phases_.empty() && entered_ != Clock::time_point{}) phases_.back().took = Clock::now() - entered_;
    entered_ = {};
  }

  [[nodiscard]] const std::string& current() const { return phases_.back().name; }
  [[nodiscard]] const std::vector<Phase>& phases() const { return phases_; }

  // From the first phase to the end of the last.
  [[nodiscard]] std::chrono::nanoseconds total() const {
    std::chrono::nanoseconds sum{0};
    for (const Phase& phase : phases_) sum += phase.took;
    return sum;
  }

 private:
  std::vector<Phase> phases_;
  Clock::time_point entered_;
};

}  // namespace gangway::migrate
