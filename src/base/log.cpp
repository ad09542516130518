#include "base/log.h"

// Only here: the header costs seconds wherever it is included.
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

namespace gangway::log {
namespace {

spdlog::level::level_enum to_spdlog(Level level) {
  switch (level) {
    case Level::Debug:
      return spdlog::level::debug;
    case Level::Info:
      return spdlog::level::info;
    case Level::Warning:
      return spdlog::level::warn;
    case Level::Error:
      break;
  }
  return spdlog::level::err;
}

std::shared_ptr<spdlog::logger> make_logger(std::string_view program, Level level) {
  auto logger =
      std::make_shared<spdlog::logger>(std::string(program), std::make_shared<spdlog::sinks::stderr_color_sink_mt>());
  logger->set_pattern("%n: %^%l%$: %v");
  logger->set_level(to_spdlog(level));
  return logger;
}

// Not spdlog's own: that is the embedding program's, and it prints to stdout.
std::shared_ptr<spdlog::logger>& logger() {
  static std::shared_ptr<spdlog::logger> logger = make_logger("gangway", Level::Info);
  return logger;
}

}  // namespace

void set_up(std::string_view program, Level level) { logger() = make_logger(program, level); }

bool shown(Level level) { return logger()->should_log(to_spdlog(level)); }

void write(Level level, std::string_view message) { logger()->log(to_spdlog(level), message); }

}  // namespace gangway::log
