// SIGINT and SIGTERM as something to look at instead of something that interrupts.
//
// Thread-safety: make it before any thread is started; arrived() and wait() from any thread.
#pragma once

#include <csignal>

namespace gangway::guest {

class Signals {
 public:
  Signals() {
    ::sigemptyset(&set_);
    ::sigaddset(&set_, SIGINT);
    ::sigaddset(&set_, SIGTERM);
    ::pthread_sigmask(SIG_BLOCK, &set_, nullptr);
    // A client or peer that is gone is an error of the call, not of the process.
    std::signal(SIGPIPE, SIG_IGN);
  }
  Signals(const Signals&) = delete;
  Signals& operator=(const Signals&) = delete;

  // One arrived since the last call.
  [[nodiscard]] bool arrived() const {
    const timespec now{};
    return ::sigtimedwait(&set_, nullptr, &now) > 0;
  }

  // Until one arrives; which.
  [[nodiscard]] int wait() const {
    int number = 0;
    while (::sigwait(&set_, &number) != 0) {
    }
    return number;
  }

 private:
  sigset_t set_{};
};

}  // namespace gangway::guest
