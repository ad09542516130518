// A thread that carries out one piece of work after another for somebody who does not wait for ever.
//
// A driver that hangs must not hang the suite. Work that does not end within its time stays behind with its thread and
// with whatever it owns; the lane goes on with a new thread. So work owns all that it uses.
//
// Thread-safety: one thread at a time.
#pragma once

#include <chrono>
#include <functional>
#include <memory>

namespace gangway::conformance {

class Lane {
 public:
  Lane();
  ~Lane();
  Lane(const Lane&) = delete;
  Lane& operator=(const Lane&) = delete;

  // False: it did not end within the limit.
  bool run(std::function<void()> work, std::chrono::milliseconds limit);

  // The same in two steps, for what happens at once with something else.
  void start(std::function<void()> work);
  bool finish(std::chrono::milliseconds limit);

 private:
  struct Worker;
  std::shared_ptr<Worker> worker_;
};

}  // namespace gangway::conformance
