// Waits for a client's eventfd and calls back each time it was signalled: how a client masks or unmasks INTx from the
// kernel's side (KVM's resample descriptor) without a message.
//
// Thread-safety: construct and destroy from any thread but the callback's. The callback runs on a thread of its own;
// the destructor returns when it runs no more.
#pragma once

#include <functional>
#include <memory>
#include <thread>

#include <gangway/error.h>
#include <gangway/fd.h>
#include <gangway/interrupts.h>

namespace gangway {

class Interrupts::EventWatch {
 public:
  static Result<std::unique_ptr<EventWatch>> start(Fd event, std::function<void()> on_event);
  ~EventWatch();
  EventWatch(const EventWatch&) = delete;
  EventWatch& operator=(const EventWatch&) = delete;

 private:
  EventWatch(Fd event, Fd stop) : event_(std::move(event)), stop_(std::move(stop)) {}
  void run(const std::function<void()>& on_event) const;

  Fd event_;
  Fd stop_;
  std::thread thread_;
};

}  // namespace gangway
