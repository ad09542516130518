#include "devices/nvme/io_thread.h"

#include <pthread.h>
#include <sys/prctl.h>

#include <algorithm>
#include <utility>

namespace gangway::nvme {
namespace {

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

}  // namespace

IoThread::~IoThread() {
  if (!thread_.joinable()) return;
  stopping_.store(true);
  backend_.wake();
  thread_.join();
}

Result<void> IoThread::run() {
  std::optional<Result<void>> entered;
  std::mutex mutex;
  std::condition_variable ready;
  thread_ = std::thread([&, this] {
    ::pthread_setname_np(::pthread_self(), "nvme-io");
    ::prctl(PR_SET_TIMERSLACK, 1000UL);  // ns; naps are short
    Result<void> result = backend_.enter_thread();
    const bool good = result.has_value();
    {
      std::scoped_lock lock(mutex);
      entered = std::move(result);
      ready.notify_one();
    }
    if (good) loop();
  });
  std::unique_lock lock(mutex);
  ready.wait(lock, [&] { return entered.has_value(); });
  return std::move(*entered);
}

void IoThread::carry_out(std::function<void()> work) {
  Call call{.work = std::move(work)};
  std::unique_lock lock(mutex_);
  calls_.push_back(&call);
  has_calls_.store(true, std::memory_order_seq_cst);
  ring();
  done_.wait(lock, [&] { return call.done; });
}

void IoThread::run_calls() {
  std::vector<Call*> calls;
  {
    std::scoped_lock lock(mutex_);
    calls.swap(calls_);
    has_calls_.store(false, std::memory_order_relaxed);
  }
  for (Call* call : calls) {
    call->work();
    std::scoped_lock lock(mutex_);
    call->done = true;
    done_.notify_all();
  }
}

void IoThread::loop() {
  using Clock = std::chrono::steady_clock;
  auto last_work = Clock::now();
  bool was_busy = true;
  bool slept = false;
  while (!stopping_.load(std::memory_order_relaxed)) {
    if (has_calls_.load(std::memory_order_relaxed)) run_calls();
    if (core_.poll()) {
      if (std::exchange(slept, false)) {
        budget_.slept(Clock::now() - last_work);
      } else if (!was_busy) {
        budget_.covered();
      }
      was_busy = true;
      nap_ = kShortestNap;
      continue;
    }
    // The clock is read when idle only; the first idle round stands for the last busy one.
    const auto now = Clock::now();
    if (std::exchange(was_busy, false)) {
      last_work = now;
      budget_.begin_idle(core_.outstanding());
    }
    if (now - last_work < budget_.now()) {
      relax();
      continue;
    }
    sleep();
    slept = true;
  }
}

void IoThread::sleep() {
  sleeping_.store(true, std::memory_order_seq_cst);
  const bool has_work =
      core_.arm() || has_calls_.load(std::memory_order_seq_cst) || stopping_.load(std::memory_order_seq_cst);
  if (!has_work) {
    if (options_.mapped_doorbells && core_.expects_doorbells()) {
      backend_.wait(nap_);
      nap_ = std::min(nap_ * 2, kLongestNap);
    } else {
      backend_.wait(std::nullopt);
    }
  }
  sleeping_.store(false, std::memory_order_relaxed);
}

}  // namespace gangway::nvme
