// The one logger. Messages go to standard error: "gangway: warning: ...".
// Thread-safe.
#pragma once

#include <string_view>
#include <utility>

#include <fmt/core.h>

namespace gangway::log {

enum class Level { Debug, Info, Warning, Error };

// Names the process in every line and sets the level; call once, early. Without it everything but Debug is shown.
void set_up(std::string_view program, Level level);

[[nodiscard]] bool shown(Level level);
void write(Level level, std::string_view message);

template <class... Args>
void debug(fmt::format_string<Args...> text, Args&&... args) {
  if (shown(Level::Debug)) write(Level::Debug, fmt::format(text, std::forward<Args>(args)...));
}
template <class... Args>
void info(fmt::format_string<Args...> text, Args&&... args) {
  if (shown(Level::Info)) write(Level::Info, fmt::format(text, std::forward<Args>(args)...));
}
template <class... Args>
void warn(fmt::format_string<Args...> text, Args&&... args) {
  if (shown(Level::Warning)) write(Level::Warning, fmt::format(text, std::forward<Args>(args)...));
}
template <class... Args>
void error(fmt::format_string<Args...> text, Args&&... args) {
  if (shown(Level::Error)) write(Level::Error, fmt::format(text, std::forward<Args>(args)...));
}

}  // namespace gangway::log
