// The one thread that owns a controller's queues and backend. Other threads ring it, or have it carry something out and
// wait.
//
// It polls for a while after the last work (PollBudget), then sleeps. Who rings it looks at `sleeping_` after storing
// the doorbell; the thread looks at the doorbells after setting `sleeping_`: one of the two sees the other. A mapped
// doorbell is stored by nobody who could ring, so with mapped doorbells the thread sleeps in naps that grow to
// kLongestNap.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>
#include <type_traits>
#include <vector>

#include "devices/nvme/backend.h"
#include "devices/nvme/core.h"
#include "devices/nvme/poll_budget.h"

namespace gangway::nvme {

class IoThread {
 public:
  static constexpr std::chrono::microseconds kShortestNap{20};
  static constexpr std::chrono::microseconds kLongestNap{1000};

  struct Options {
    std::chrono::microseconds spin{};  // polls this long after the last work, at most
    bool mapped_doorbells = false;
  };

  IoThread(Core& core, Backend& backend, Options options)
      : core_(core), backend_(backend), options_(options), budget_(options.spin) {}
  ~IoThread();  // joins
  IoThread(const IoThread&) = delete;
  IoThread& operator=(const IoThread&) = delete;

  // Fails when the backend cannot be used from the thread.
  Result<void> run();

  // A doorbell was stored. Any thread.
  void ring() {
    if (sleeping_.load(std::memory_order_seq_cst)) backend_.wake();
  }

  // Runs `work` on the thread, between two rounds of its loop, and returns what it returns. Not from the thread itself.
  template <class Work>
  auto call(Work work) -> std::invoke_result_t<Work> {
    using Value = std::invoke_result_t<Work>;
    if constexpr (std::is_void_v<Value>) {
      carry_out([&work] { work(); });
    } else {
      std::optional<Value> value;
      carry_out([&] { value.emplace(work()); });
      return std::move(*value);
    }
  }

 private:
  struct Call {
    std::function<void()> work;
    bool done = false;
  };
  void carry_out(std::function<void()> work);
  void loop();
  void run_calls();
  void sleep();

  Core& core_;
  Backend& backend_;
  const Options options_;
  PollBudget budget_;  // the thread's own
  std::atomic<bool> sleeping_{false};
  std::atomic<bool> has_calls_{false};
  std::atomic<bool> stopping_{false};
  std::chrono::microseconds nap_ = kShortestNap;

  std::mutex mutex_;
  std::condition_variable done_;
  std::vector<Call*> calls_;
  std::thread thread_;
};

}  // namespace gangway::nvme
