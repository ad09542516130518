// The one logger. Messages go to standard error: "gangway: warning: ...".
// Thread-safe.
#pragma once

#include <spdlog/spdlog.h>

namespace gangway::log {

// Names the process in every line and sets the level; call once, early. Without it warnings and errors are shown.
void set_up(std::string_view program, spdlog::level::level_enum level);

using spdlog::debug;
using spdlog::error;
using spdlog::info;
using spdlog::warn;

}  // namespace gangway::log
