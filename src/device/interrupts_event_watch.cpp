#include "device/interrupts_event_watch.h"

#include <poll.h>
#include <sys/eventfd.h>

#include <array>
#include <system_error>
#include <utility>

#include "device/interrupts_eventfd.h"

namespace gangway {

Result<std::unique_ptr<Interrupts::EventWatch>> Interrupts::EventWatch::start(Fd event,
                                                                              std::function<void()> on_event) {
  Fd stop(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!stop) return fail_errno("watch an interrupt's eventfd");
  std::unique_ptr<EventWatch> watch(new EventWatch(std::move(event), std::move(stop)));
  try {
    watch->thread_ = std::thread([&self = *watch, on_event = std::move(on_event)] { self.run(on_event); });
  } catch (const std::system_error& error) {
    return fail(error.code().value(), "watch an interrupt's eventfd: no thread can be made");
  }
  return watch;
}

Interrupts::EventWatch::~EventWatch() {
  if (!thread_.joinable()) return;
  eventfd::signal(stop_.get());
  thread_.join();
}

void Interrupts::EventWatch::run(const std::function<void()>& on_event) const {
  std::array<pollfd, 2> waiting{{{event_.get(), POLLIN, 0}, {stop_.get(), POLLIN, 0}}};
  while (true) {
    if (::poll(waiting.data(), waiting.size(), -1) < 0) continue;  // EINTR
    if (waiting[1].revents != 0) return;
    if ((waiting[0].revents & POLLIN) != 0) {
      if (eventfd::consume(event_.get())) on_event();
    } else if (waiting[0].revents != 0) {
      waiting[0].fd = -1;  // cannot be waited for; nothing left but to be stopped
    }
  }
}

}  // namespace gangway
