// SIGINT and SIGTERM as something to look at instead of something that interrupts.
//
// Thread-safety: make it before any thread is started; arrived() and wait() from any thread.
#pragma once

#include <poll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <optional>

#include <gangway/fd.h>

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

  // Until one arrives; which. nullopt when `stop`, an eventfd, was written before.
  [[nodiscard]] std::optional<int> wait(const Fd& stop) const {
    const Fd signals(::signalfd(-1, &set_, SFD_CLOEXEC));
    std::array<pollfd, 2> events{{{signals.get(), POLLIN, 0}, {stop.get(), POLLIN, 0}}};
    while (::poll(events.data(), events.size(), -1) <= 0) {
    }
    signalfd_siginfo info{};
    if (events[0].revents == 0 || ::read(signals.get(), &info, sizeof info) != sizeof info) return std::nullopt;
    return static_cast<int>(info.ssi_signo);
  }

 private:
  sigset_t set_{};
};

}  // namespace gangway::guest
