// Makes what fails shorter.
#pragma once

#include <functional>
#include <vector>

#include "conformance/act.h"

namespace gangway::conformance {

using Fails = std::function<bool(const std::vector<Act>&)>;

// The shortest part of `acts`, in their order, that is found to fail within `plays` tries: larger stretches are left
// out first, then single acts. `acts` itself is known to fail and is not tried.
[[nodiscard]] std::vector<Act> shrink(std::vector<Act> acts, const Fails& fails, std::uint32_t plays);

}  // namespace gangway::conformance
