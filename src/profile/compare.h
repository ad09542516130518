// Whether two profiles do the same: the interface, and phase by phase the side and the acts in order. Names, who it is,
// where it is known from and notes are what a profile says, not what it does.
//
// Thread-safety: everything here is pure.
#pragma once

#include <optional>
#include <string>

#include "profile/profile.h"

namespace gangway::profile {

// The first difference in words, `left` and `right` being what the two are called there; nullopt: they do the same.
[[nodiscard]] std::optional<std::string> difference(const Profile& a, const Profile& b, const std::string& left,
                                                    const std::string& right);

}  // namespace gangway::profile
