// A step's first line, read and written.
#pragma once

#include <string_view>

#include <gangway/error.h>

#include "profile/profile.h"

namespace gangway::profile {

// Words separated by single blanks, without comment. EINVAL for what is no step, with what is wrong.
[[nodiscard]] Result<Step> parse_step(std::string_view line);

[[nodiscard]] std::string to_text(const Condition& condition);

}  // namespace gangway::profile
