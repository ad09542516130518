#include "guest/cpus.h"

#include <chrono>

namespace gangway::guest {
namespace {

// Polls first, since an answer mostly comes within microseconds; then leaves the core to those who work on it.
class Backoff {
 public:
  void reset() { idle_ = 0; }
  void wait() {
    ++idle_;
    if (idle_ < 16) return;
    if (idle_ < 64) return std::this_thread::yield();
    std::this_thread::sleep_for(std::chrono::microseconds(50));
  }

 private:
  unsigned idle_ = 0;
};

}  // namespace

Cpus::~Cpus() {
  {
    const std::scoped_lock lock(mutex_);
    request_.store(Request::Stop);
  }
  changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void Cpus::start(const std::vector<CpuProgram*>& programs) {
  for (CpuProgram* program : programs) {
    threads_.emplace_back([this, program] { run(*program); });
  }
}

void Cpus::run(CpuProgram& program) {
  Backoff backoff;
  while (true) {
    if (request_.load(std::memory_order_relaxed) != Request::Run) {
      if (!stand()) return;
      backoff.reset();
    }
    const std::uint64_t kicks = kicks_.load();
    switch (program.step()) {
      case CpuProgram::Step::Worked:
        backoff.reset();
        break;
      case CpuProgram::Step::Idle:
        backoff.wait();
        break;
      case CpuProgram::Step::Finished:
        if (!stand_finished(kicks)) return;
        break;
    }
  }
}

bool Cpus::stand() {
  std::unique_lock lock(mutex_);
  ++standing_;
  changed_.notify_all();
  changed_.wait(lock, [&] { return request_.load() != Request::Pause; });
  --standing_;
  return request_.load() != Request::Stop;
}

bool Cpus::stand_finished(std::uint64_t kicks) {
  std::unique_lock lock(mutex_);
  if (kicks_.load() != kicks) return true;
  ++standing_;
  ++finished_;
  changed_.notify_all();
  changed_.wait(lock, [&] {
    const Request request = request_.load();
    return request == Request::Stop || (request == Request::Run && kicks_.load() != kicks);
  });
  --standing_;
  return request_.load() != Request::Stop;
}

void Cpus::pause() {
  std::unique_lock lock(mutex_);
  request_.store(Request::Pause);
  changed_.wait(lock, [&] { return standing_ == threads_.size(); });
}

void Cpus::resume() {
  {
    const std::scoped_lock lock(mutex_);
    request_.store(Request::Run);
  }
  changed_.notify_all();
}

bool Cpus::paused() const { return request_.load() == Request::Pause; }

void Cpus::kick() {
  {
    const std::scoped_lock lock(mutex_);
    ++kicks_;
    finished_ = 0;
  }
  changed_.notify_all();
}

void Cpus::wait_finished() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return finished_ == threads_.size() && request_.load() != Request::Pause; });
}

}  // namespace gangway::guest
