// Finds the pages that the guest's CPUs wrote, by the best means that this machine offers.
//
//   write-protect scan  asynchronous write protection and PAGEMAP_SCAN (Linux 6.7): a write costs one fault that the
//                       kernel handles alone, a collection one system call that visits what is written
//   userfaultfd         write protection with a handler thread (Linux 5.19): a fault waits for the handler
//   workload            the writers mark a bitmap themselves; needs no kernel support
//
// None may ever lose a page. Thread-safety: as migrate::DirtyTracker; the CPUs write meanwhile.
#pragma once

#include <memory>
#include <optional>
#include <string_view>

#include <gangway/error.h>

#include "guest/memory.h"
#include "migrate/machine.h"

namespace gangway::guest {

enum class TrackingMethod { WriteProtectScan, Userfaultfd, Workload };
[[nodiscard]] std::string_view name(TrackingMethod method);
[[nodiscard]] std::optional<TrackingMethod> tracking_method_from_name(std::string_view name);

// ENOTSUP, with the reason, where this machine cannot. `memory` outlives the tracker.
Result<std::unique_ptr<migrate::DirtyTracker>> make_dirty_tracker(TrackingMethod method, GuestMemory& memory);

// The first of the three that works here.
Result<std::unique_ptr<migrate::DirtyTracker>> make_best_dirty_tracker(GuestMemory& memory);

}  // namespace gangway::guest
