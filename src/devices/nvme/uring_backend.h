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
  [[nodiscard]] const Fd& wake_event() const override { return wake_event_; }
  [[nodiscard]] std::string_view name() const override { return "io_uring"; }

 private:
  explicit UringBackend(Fd wake_event) : wake_event_(std::move(wake_event)) {}
  Result<void> set_up(std::span<const int> files);
  io_uring_sqe* next_entry();
  void arm_wake();

  Fd wake_event_;
  io_uring ring_{};
  bool ring_open_ = false;
  bool wake_armed_ = false;
  std::uint64_t wake_count_ = 0;  // where the ring reads the eventfd to
};

}  // namespace gangway::nvme
