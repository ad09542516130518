// What the benchmarks share: medians over several runs that alternate between the subject and its floor, so that a
// change of the machine's speed meets both; and one line of JSON a result.
#pragma once

#include <sched.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include <gangway/error.h>

namespace gangway::bench {

using Clock = std::chrono::steady_clock;

inline double seconds_since(Clock::time_point began) {
  return std::chrono::duration<double>(Clock::now() - began).count();
}

inline double percentile(std::vector<double> values, double fraction) {
  const auto at = values.begin() + static_cast<std::ptrdiff_t>(fraction * static_cast<double>(values.size() - 1));
  std::nth_element(values.begin(), at, values.end());
  return *at;
}
inline double median(std::vector<double> values) { return percentile(std::move(values), 0.5); }

// `scripts/bench --quick` asks for as little as shows that a benchmark runs and prints what it should: the names are
// the same, the figures mean nothing.
inline bool quick() {
  static const bool asked = std::getenv("GANGWAY_BENCH_QUICK") != nullptr;
  return asked;
}
// What is measured, or how often; `quickly` is what is enough for a quick run.
template <class T>
T usually(T usual, T quickly) {
  return quick() ? quickly : usual;
}

struct Pair {
  double value;
  double floor;
  double spread = 0;  // of the values: half the distance between their quartiles
};

inline double spread(const std::vector<double>& values) {
  return (percentile(values, 0.75) - percentile(values, 0.25)) / 2;
}

// Medians of `runs` alternating measurements.
inline Pair alternate(int runs, const std::function<double()>& subject, const std::function<double()>& floor) {
  std::vector<double> values;
  std::vector<double> floors;
  for (int run = 0; run < runs; ++run) {
    floors.push_back(floor());
    values.push_back(subject());
  }
  return {median(values), median(floors), spread(values)};
}

// Ratio is value / floor: below 1 is better for times, above 1 for rates.
inline void report(const std::string& name, Pair measured, const char* unit) {
  std::printf(
      "{\"name\": \"%s\", \"value\": %.6g, \"unit\": \"%s\", \"floor\": %.6g, \"ratio\": %.4g, \"spread\": %.3g}\n",
      name.c_str(), measured.value, unit, measured.floor, measured.value / measured.floor, measured.spread);
  std::fflush(stdout);
}

// Of this thread and of those it starts.
inline void run_on(std::initializer_list<std::size_t> cores) {
  cpu_set_t set;
  CPU_ZERO(&set);
  for (const std::size_t core : cores) CPU_SET(core, &set);
  sched_setaffinity(0, sizeof set, &set);
}

// A benchmark has nobody to hand an error to.
template <class T>
T must(Result<T> result) {
  if (!result) {
    std::fprintf(stderr, "%s\n", result.error().message.c_str());
    std::exit(1);
  }
  if constexpr (!std::is_void_v<T>) return std::move(*result);
}

}  // namespace gangway::bench
