// Acts and states of a recording in words.
#pragma once

#include <cstdint>
#include <string>

#include "record/act.h"

namespace gangway::profile {

// "RESUMING"; the number of what is no state.
[[nodiscard]] std::string state_text(std::uint32_t state);
// "set_state RESUMING", "read_region 7 at 0x4"
[[nodiscard]] std::string act_text(const record::Doing& doing);

}  // namespace gangway::profile
