// gangway migrate: moves a running guest.
#include <unistd.h>

#include <fmt/format.h>

#include "base/json_text.h"
#include "base/log.h"
#include "cli/command.h"
#include "guest/migration_request.h"
#include "guest/timeline.h"

namespace gangway::cli {
namespace {

using nlohmann::ordered_json;

struct Arguments {
  std::string control;
  std::string to;
  unsigned max_downtime_ms = 300;
  unsigned channels = 1;
  bool json = false;
};

int run_migrate(const Arguments& arguments) {
  guest::ProgressLine line(stderr);
  const auto outcome = guest::request_migration(
      arguments.control,
      {{"to", arguments.to}, {"max_downtime_ms", arguments.max_downtime_ms}, {"channels", arguments.channels}},
      [&](const ordered_json& progress) {
        if (!arguments.json) line.show(guest::describe_progress(progress));
      });
  line.end();
  if (!outcome) {
    log::error("{}", outcome.error().message);
    return outcome.error().code == ECONNRESET ? kFailure : kCannotRun;
  }
  const bool completed = outcome->value("event", "") == "completed";
  if (arguments.json) {
    fmt::print("{}\n", json_text(*outcome));
  } else if (completed) {
    fmt::print("{}", guest::describe_timeline(*outcome));
  }
  if (completed) return kSuccess;
  log::error("the migration failed: {}", outcome->value("message", "no reason given"));
  return kFailure;
}

}  // namespace

void add_migrate(CLI::App& app, int& status) {
  CLI::App* command = app.add_subcommand("migrate", "Migrate a running guest, live, to one that waits for it");
  auto arguments = std::make_shared<Arguments>();
  command->add_option("control", arguments->control, "The guest's control socket (gangway guest --control)")
      ->required();
  command->add_option("to", arguments->to, "Where the other waits: tcp:HOST:PORT or unix:PATH")->required();
  command->add_option("--max-downtime", arguments->max_downtime_ms, "How long it may stand still, in ms")
      ->capture_default_str()
      ->check(CLI::Range(0U, 3'600'000U));
  command->add_option("--channels", arguments->channels, "Connections to send memory over")
      ->capture_default_str()
      ->check(CLI::Range(1U, 8U));
  command->add_flag("--json", arguments->json, "How it ended, as one JSON object; no progress");
  command->callback([arguments, &status] { status = run_migrate(*arguments); });
}

}  // namespace gangway::cli
