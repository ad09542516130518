#include "migrate/alive_timer.h"

#include <algorithm>

namespace gangway::migrate {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kLongestSilence{500};
constexpr int kTimesInALimit = 4;

}  // namespace

AliveTimer::AliveTimer(Channel& channel, milliseconds stall)
    : channel_(channel),
      interval_(std::clamp(stall / kTimesInALimit, milliseconds{1}, kLongestSilence)),
      thread_([this](const std::stop_token& stop) { run(stop); }) {}

void AliveTimer::run(const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  while (!stopped_.wait_for(lock, stop, interval_, [&] { return stop.stop_requested(); })) {
    // A peer that is gone is noticed by who waits for it.
    if (!channel_.send(MessageType::Alive, {})) return;
  }
}

}  // namespace gangway::migrate
