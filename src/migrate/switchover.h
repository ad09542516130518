// When to stop a machine: a pure function of what was measured.
//
// A machine that writes while it is copied leaves something to copy again. It is stopped when the rest is expected to
// fit the downtime that its owner allows, and at the latest when the owner's patience (max_rounds) is used up.
#pragma once

#include <chrono>
#include <cstdint>

namespace gangway::migrate {

struct Figures {
  std::uint64_t bytes_remaining = 0;  // memory and device data that would be sent with the machine stopped
  double bandwidth = 0;               // bytes per second, as the last rounds had it; 0: not known yet
  double dirty_rate = 0;              // bytes of memory per second that were written again during the last round
  int rounds = 0;                     // sent so far
  int max_rounds = 0;
  int fitting_rounds = 0;                      // decisions in a row, before this one, at which the rest fitted
  std::chrono::nanoseconds max_downtime{0};    // what the owner allows
  std::chrono::nanoseconds fixed_downtime{0};  // what stopping and starting costs with nothing to send
  bool rounds_help = true;                     // false: everything will have to be sent anyway (no DMA log)
};

enum class Decision {
  AnotherRound,
  Switch,           // the rest fits
  SwitchRegardless  // it does not, and more rounds would not change that
};

// Rounds that are worth their time although the rest fits: each is predicted to halve it at least.
inline constexpr int kMaxImprovingRounds = 3;

// How long the machine would stand still if it were stopped now; max() when nothing is known.
[[nodiscard]] std::chrono::nanoseconds expected_downtime(const Figures& figures);

// Whether that is what the owner allows.
[[nodiscard]] bool fits(const Figures& figures);

[[nodiscard]] Decision decide(const Figures& figures);

}  // namespace gangway::migrate
