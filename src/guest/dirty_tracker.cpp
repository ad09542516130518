#include "guest/dirty_tracker.h"

#include <array>

#include <fmt/format.h>

#include "base/log.h"
#include "guest/scan_tracker.h"
#include "guest/userfaultfd_tracker.h"

namespace gangway::guest {
namespace {

struct Named {
  TrackingMethod method;
  std::string_view name;
};
constexpr std::array<Named, 3> kMethods{{
    {TrackingMethod::WriteProtectScan, "write-protect scan"},
    {TrackingMethod::Userfaultfd, "userfaultfd"},
    {TrackingMethod::Workload, "workload"},
}};

class WorkloadTracker : public migrate::DirtyTracker {
 public:
  explicit WorkloadTracker(GuestMemory& memory) : memory_(memory) {}
  Result<void> start() override {
    memory_.record_writes(true);
    return {};
  }
  Result<void> collect(std::size_t block, std::span<std::uint64_t> bitmap) override {
    memory_.take_writes(block, bitmap);
    return {};
  }
  Result<void> stop() override {
    memory_.record_writes(false);
    return {};
  }
  [[nodiscard]] std::string_view method() const override { return name(TrackingMethod::Workload); }

 private:
  GuestMemory& memory_;
};

}  // namespace

std::string_view name(TrackingMethod method) {
  for (const Named& entry : kMethods) {
    if (entry.method == method) return entry.name;
  }
  return "?";
}

std::optional<TrackingMethod> tracking_method_from_name(std::string_view name) {
  for (const Named& entry : kMethods) {
    if (entry.name == name) return entry.method;
  }
  return std::nullopt;
}

Result<std::unique_ptr<migrate::DirtyTracker>> make_dirty_tracker(TrackingMethod method, GuestMemory& memory) {
  switch (method) {
    case TrackingMethod::WriteProtectScan:
      return ScanTracker::create(memory);
    case TrackingMethod::Userfaultfd:
      return UserfaultfdTracker::create(memory);
    case TrackingMethod::Workload:
      return std::make_unique<WorkloadTracker>(memory);
  }
  return fail(EINVAL, "no such way to track written pages");
}

Result<std::unique_ptr<migrate::DirtyTracker>> make_best_dirty_tracker(GuestMemory& memory) {
  for (const Named& entry : kMethods) {
    auto tracker = make_dirty_tracker(entry.method, memory);
    if (tracker) return tracker;
    log::debug("tracking written pages by {}: {}", entry.name, tracker.error().message);
  }
  return fail(ENOTSUP, "no way to track written pages works on this machine");
}

}  // namespace gangway::guest
