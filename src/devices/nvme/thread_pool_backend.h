// Images through plain system calls on a few threads, where io_uring is forbidden.
#pragma once

#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <vector>

#include "devices/nvme/backend.h"

namespace gangway::nvme {

class ThreadPoolBackend final : public Backend {
 public:
  static Result<std::unique_ptr<Backend>> create(std::span<const int> files);
  ~ThreadPoolBackend() override;
  ThreadPoolBackend(const ThreadPoolBackend&) = delete;
  ThreadPoolBackend& operator=(const ThreadPoolBackend&) = delete;

  void start(ImageRequest& request) override { started_.push_back(&request); }
  void submit() override;
  std::size_t collect(std::span<ImageRequest*> out) override;
  void wait(std::optional<std::chrono::microseconds> timeout) override;
  void watch(const Fd& event) override { watched_ = event.get(); }
  [[nodiscard]] std::string_view name() const override { return "threads"; }

 private:
  ThreadPoolBackend(std::span<const int> files, Fd wake_event);
  void work();
  [[nodiscard]] std::int64_t carry_out(const ImageRequest& request) const;

  const std::vector<int> files_;
  int watched_ = -1;
  std::vector<ImageRequest*> started_;  // the I/O thread's

  std::mutex mutex_;
  std::condition_variable work_;
  std::deque<ImageRequest*> queue_;
  std::deque<ImageRequest*> finished_;
  bool waiting_ = false;  // the I/O thread sleeps, or is about to
  bool stopping_ = false;
  std::vector<std::jthread> threads_;
};

}  // namespace gangway::nvme
