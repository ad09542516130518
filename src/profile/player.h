// Plays a profile on a device, or on two, and judges each act by the contract: a device may not rely on one userspace's
// habit, and what a userspace does legally must work.
//
// Thread-safety: one thread.
#pragma once

#include <optional>

#include "conformance/runner.h"
#include "profile/profile.h"
#include "profile/report.h"

namespace gangway::profile {

struct PlayOptions {
  conformance::Target target;
  std::optional<conformance::Target> peer;  // the destination's device; without one it is the target's, opened anew
  conformance::Settings settings;
};

// Errors: the device cannot be opened, or does not even say what it is.
[[nodiscard]] Result<PlayReport> play(const Profile& profile, const PlayOptions& options);

}  // namespace gangway::profile
