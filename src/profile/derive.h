// A profile out of a recording: what a userspace did to a device, as acts that can be played on any other.
//
// What it did is kept, not how often: between two changes of state an act that is repeated stands once, data is read
// until its end if it was, and accesses to the device's own registers, which mean something to that device alone, are
// left out.
//
// Thread-safety: everything here is pure.
#pragma once

#include <span>
#include <string>

#include <gangway/error.h>

#include "profile/profile.h"
#include "record/act.h"

namespace gangway::profile {

// A phase for each connection in which migration was driven by the interface that was driven first (v2, v1, region-v2).
// If none was, one for each in which the device was reset, set up or enabled, as by a machine that boots. ENODATA if
// there is neither.
[[nodiscard]] Result<Profile> derive_profile(std::string name, const record::Meta& meta,
                                             std::span<const record::Act> acts);

}  // namespace gangway::profile
