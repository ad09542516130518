#include "cli/command.h"

#include <cmath>
#include <cstdlib>

#include <fmt/format.h>

#include "base/log.h"

namespace gangway::cli {

int cannot_run(std::string_view why) {
  log::error("{}", why);
  return kCannotRun;
}

CLI::Validator seconds_in_reach() {
  return CLI::Validator(
      [](const std::string& text) {
        const double seconds = std::strtod(text.c_str(), nullptr);  // 0 for what is no number
        const bool in_reach = std::isfinite(seconds) && seconds >= kShortestLimit && seconds <= kLongestLimit;
        return in_reach ? std::string() : fmt::format("{}: give {} to {} seconds", text, kShortestLimit, kLongestLimit);
      },
      "");
}

std::chrono::milliseconds limit_of(double seconds) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::duration<double>(seconds));
}

}  // namespace gangway::cli
