// Carries requests to the images and back, without making the I/O thread wait for any.
//
// Two implementations: io_uring, and a pool of threads for systems that forbid it. The I/O thread sleeps in wait()
// and is woken by a finished request or by wake().
//
// Thread-safety: the I/O thread's own, except wake(), which any thread may call.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <utility>

#include <gangway/error.h>
#include <gangway/fd.h>

#include "devices/nvme/image_request.h"

namespace gangway::nvme {

class Backend {
 public:
  virtual ~Backend() = default;

  // Called once, on the I/O thread, before anything else but wake().
  virtual Result<void> enter_thread() { return {}; }

  // Takes a prepared request; the caller keeps it until collect() returns it.
  virtual void start(ImageRequest& request) = 0;
  // Hands over what was started. Requests may wait until this is called.
  virtual void submit() = 0;
  // Finished requests, as many as fit; the count.
  virtual std::size_t collect(std::span<ImageRequest*> out) = 0;

  // Until a request finished, wake() was called since the last wait, or the time is up.
  virtual void wait(std::optional<std::chrono::microseconds> timeout) = 0;
  virtual void wake();

  // Also wakes when this eventfd is written. The client holds it too and may do with it what it likes, so nothing may
  // depend on it: it only makes naps shorter. Called once, before enter_thread().
  virtual void watch(const Fd& event) = 0;

  [[nodiscard]] virtual std::string_view name() const = 0;

 protected:
  explicit Backend(Fd wake_event) : wake_event_(std::move(wake_event)) {}
  [[nodiscard]] int wake_fd() const { return wake_event_.get(); }

 private:
  Fd wake_event_;  // nobody else's
};

// How many requests may be started and not collected.
inline constexpr std::size_t kMaxRequests = 1024;

// Makes the backend of a controller for its images' descriptors; ImageRequest::file is an index into them.
using BackendFactory = std::function<Result<std::unique_ptr<Backend>>(std::span<const int> files)>;

// EPERM, ENOSYS or ENOMEM where the system forbids io_uring.
Result<std::unique_ptr<Backend>> make_uring_backend(std::span<const int> files);
Result<std::unique_ptr<Backend>> make_thread_pool_backend(std::span<const int> files);
// io_uring, or the threads where it is forbidden.
Result<std::unique_ptr<Backend>> make_backend(std::span<const int> files);

}  // namespace gangway::nvme
