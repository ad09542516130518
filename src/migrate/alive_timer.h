// Tells the peer, as long as it exists, that this side lives: a step of a device, a tracker or the CPUs may take longer
// than the peer's time limit, and says nothing while it does.
//
// It begins to speak only when the step takes its time. Thread-safety: one owner; the channel takes sends from any
// thread.
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <stop_token>
#include <thread>

#include "migrate/channel.h"

namespace gangway::migrate {

class AliveTimer {
 public:
  // `stall` is this side's own limit; the peer's is taken to be no less than a second, or than this one.
  AliveTimer(Channel& channel, std::chrono::milliseconds stall);
  AliveTimer(const AliveTimer&) = delete;
  AliveTimer& operator=(const AliveTimer&) = delete;

 private:
  void run(const std::stop_token& stop);

  Channel& channel_;
  const std::chrono::milliseconds interval_;
  std::mutex mutex_;
  std::condition_variable_any stopped_;
  std::jthread thread_;  // last: it uses the others
};

}  // namespace gangway::migrate
