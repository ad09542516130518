// Counts what a source sends and tells its caller at most ten times a second.
//
// Thread-safety: sent_memory() from any thread; the rest from the migrating one.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>

#include "migrate/report.h"

namespace gangway::migrate {

class Meter {
 public:
  explicit Meter(std::function<void(const Progress&)> tell) : tell_(std::move(tell)) {}

  void phase(std::string name) { progress_.phase = std::move(name); }
  void round(int number, std::uint64_t dirty_bytes) {
    progress_.round = number;
    dirty_at_round_ = dirty_bytes;
    sent_at_round_ = memory_bytes();
  }
  void sent_memory(std::uint64_t bytes) { memory_bytes_.fetch_add(bytes, std::memory_order_relaxed); }
  void sent_device(std::uint64_t bytes) { progress_.device_bytes_sent += bytes; }

  [[nodiscard]] std::uint64_t memory_bytes() const { return memory_bytes_.load(std::memory_order_relaxed); }
  [[nodiscard]] std::uint64_t device_bytes() const { return progress_.device_bytes_sent; }

  void tick() {
    using namespace std::chrono_literals;
    if (!tell_) return;
    const auto now = Clock::now();
    if (now - told_ < 100ms) return;
    told_ = now;
    const std::uint64_t sent = memory_bytes() - sent_at_round_;
    progress_.memory_bytes_sent = memory_bytes();
    progress_.memory_bytes_dirty = dirty_at_round_ > sent ? dirty_at_round_ - sent : 0;
    const double seconds = std::chrono::duration<double>(now - started_).count();
    progress_.bytes_per_second = static_cast<double>(memory_bytes() + device_bytes()) / seconds;
    tell_(progress_);
  }

 private:
  using Clock = std::chrono::steady_clock;

  std::function<void(const Progress&)> tell_;
  Progress progress_;
  std::atomic<std::uint64_t> memory_bytes_{0};
  std::uint64_t dirty_at_round_ = 0;
  std::uint64_t sent_at_round_ = 0;
  const Clock::time_point started_ = Clock::now();
  Clock::time_point told_;
};

}  // namespace gangway::migrate
