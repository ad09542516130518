// Images through io_uring: one ring a controller, descriptors registered, waking by a read of an eventfd in the ring.
#pragma once

#include <liburing.h>

#include <vector>

#include "devices/nvme/backend.h"

namespace gangway::nvme {

class UringBackend final : public Backend {
 public:
  static Result<std::unique_ptr<Backend>> create(std::span<const int> files);
  ~UringBackend() override;
  UringBackend(const UringBackend&) = delete;
  UringBackend& operator=(const UringBackend&) = delete;

  Result<void> enter_thread() override;
  void start(ImageRequest& request) override;
  void submit() override;
  std::size_t collect(std::span<ImageRequest*> out) override;
  void wait(std::optional<std::chrono::microseconds> timeout) override;
  void watch(const Fd& event) override { watched_.fd = event.get(); }
  [[nodiscard]] std::string_view name() const override { return "io_uring"; }

 private:
  // An eventfd that is read in the ring. Its entries are known by its address.
  struct Event {
    int fd = -1;
    bool armed = false;
    std::uint64_t count = 0;
  };

  explicit UringBackend(Fd wake_event);
  Result<void> set_up(std::span<const int> files);
  io_uring_sqe* next_entry();
  void arm(Event& event);
  // False when the completion is a request's.
  bool take_event(const void* owner, int answer);

  Event wake_;
  Event watched_;
  io_uring ring_{};
  bool ring_open_ = false;
};

}  // namespace gangway::nvme
