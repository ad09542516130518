// The card of the faulty devices, served in this process, for runs of the suite on it.
#pragma once

#include <unistd.h>

#include <chrono>
#include <memory>
#include <string>
#include <string_view>

#include <gangway/device_handle.h>
#include <gangway/server.h>
#include <gtest/gtest.h>

#include "conformance/runner.h"
#include "devices/faulty/defect.h"
#include "unit/migrate/recording_handle.h"

namespace gangway::conformance {

// As little of each test as asks its question.
inline Settings quick_settings(std::chrono::milliseconds limit = std::chrono::seconds(60)) {
  Settings settings;
  settings.limit = limit;
  settings.depth = 1;
  settings.walk = 30;
  settings.cycles = 5;
  settings.plays = 0;
  return settings;
}

class ServedCard {
 public:
  // "none": the good one.
  explicit ServedCard(std::string_view defect, const EndpointOptions& options = {}) {
    endpoint_ = faulty::FaultyEndpoint::create(faulty::find_defect(defect), options).value();
    server_ = Server::listen(socket_, *endpoint_).value();
    EXPECT_TRUE(server_->start());
  }
  ~ServedCard() { endpoint_->release(); }
  ServedCard(const ServedCard&) = delete;
  ServedCard& operator=(const ServedCard&) = delete;

  [[nodiscard]] std::string target() const { return "vfio-user:" + socket_; }
  [[nodiscard]] Endpoint& endpoint() { return *endpoint_; }

 private:
  const std::string socket_ = testing::TempDir() + "gangway-card-" + std::to_string(::getpid()) + ".sock";
  std::unique_ptr<faulty::FaultyEndpoint> endpoint_;
  std::unique_ptr<Server> server_;
};

// The served card as the kernel's interface would show it, so that nothing goes past the handle: no vfio-user target,
// and START without a range is refused.
class KernelLikeHandle : public migrate::RecordingHandle {
 public:
  using RecordingHandle::RecordingHandle;
  Result<void> set_state(DeviceState state) override { return set_state_number(static_cast<std::uint32_t>(state)); }
  Result<std::uint64_t> dma_logging_start(std::span<const IovaRange> ranges, std::uint64_t page_size) override {
    if (ranges.empty()) return fail(EINVAL, "no range");
    return RecordingHandle::dma_logging_start(ranges, page_size);
  }
  [[nodiscard]] std::string target() const override { return "like the kernel's"; }
};

inline Report run_suite(Runner::Plan plan) {
  const auto report = Runner(std::move(plan)).run();
  EXPECT_TRUE(report) << report.error().message;
  return report ? *report : Report{};
}

}  // namespace gangway::conformance
