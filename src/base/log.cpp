#include "base/log.h"

#include <spdlog/sinks/stdout_color_sinks.h>

namespace gangway::log {

void set_up(std::string_view program, spdlog::level::level_enum level) {
  auto logger =
      std::make_shared<spdlog::logger>(std::string(program), std::make_shared<spdlog::sinks::stderr_color_sink_mt>());
  logger->set_pattern("%n: %^%l%$: %v");
  logger->set_level(level);
  spdlog::set_default_logger(std::move(logger));
}

}  // namespace gangway::log
