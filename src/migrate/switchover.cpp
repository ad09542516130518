#include "migrate/switchover.h"

namespace gangway::migrate {
namespace {

// What a further round would leave is what is written while it lasts. A rest that costs less than stopping and starting
// themselves is not worth one.
bool another_round_pays(const Figures& figures) {
  return expected_downtime(figures) > 2 * figures.fixed_downtime && figures.bytes_remaining != 0 &&
         figures.dirty_rate <= figures.bandwidth / 2;
}

}  // namespace

std::chrono::nanoseconds expected_downtime(const Figures& figures) {
  if (figures.bytes_remaining == 0) return figures.fixed_downtime;
  if (figures.bandwidth <= 0) return std::chrono::nanoseconds::max();
  constexpr double kLong = 1e9;  // seconds; more would overflow, and makes no difference
  const double seconds = static_cast<double>(figures.bytes_remaining) / figures.bandwidth;
  if (seconds >= kLong) return std::chrono::nanoseconds::max();
  return figures.fixed_downtime +
         std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::duration<double>(seconds));
}

bool fits(const Figures& figures) { return expected_downtime(figures) <= figures.max_downtime; }

Decision decide(const Figures& figures) {
  if (figures.rounds >= figures.max_rounds || !figures.rounds_help) {
    return fits(figures) ? Decision::Switch : Decision::SwitchRegardless;
  }
  if (!fits(figures)) return Decision::AnotherRound;
  if (figures.fitting_rounds < kMaxImprovingRounds && another_round_pays(figures)) {
    return Decision::AnotherRound;
  }
  return Decision::Switch;
}

}  // namespace gangway::migrate
