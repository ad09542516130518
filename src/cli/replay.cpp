// gangway replay: the client's side of a recording, against a device.
#include <fmt/core.h>

#include "base/log.h"
#include "cli/command.h"
#include "profile/replay.h"
#include "record/act_reader.h"

namespace gangway::cli {
namespace {

struct ReplayArguments {
  std::string file;
  std::string target;
  std::string only;
  std::optional<std::uint32_t> connection;
  double limit_seconds = 10;
  bool json = false;
};

int replay(const ReplayArguments& arguments) {
  if (!arguments.only.empty() && arguments.only != "migration") {
    return cannot_run(fmt::format("--only {}: it is 'migration', or everything", arguments.only));
  }
  auto reader = record::ActReader::open(arguments.file);
  if (!reader) return cannot_run(reader.error().message);
  const auto acts = reader->rest();
  if (!acts) return cannot_run(fmt::format("{}: {}", arguments.file, acts.error().message));
  if (reader->cut()) log::warn("{}: {}", arguments.file, *reader->cut());
  conformance::Settings settings;
  settings.limit = limit_of(arguments.limit_seconds);
  const auto report = profile::replay(*acts, {.target = conformance::named_target(arguments.target, settings.limit),
                                              .settings = settings,
                                              .migration_only = !arguments.only.empty(),
                                              .connection = arguments.connection});
  if (!report) return cannot_run(report.error().message);
  fmt::print("{}", arguments.json ? profile::to_json(*report) : profile::to_text(*report));
  const bool nothing = report->played == 0 && report->deviations.empty();
  return nothing ? cannot_run(fmt::format("nothing of {} could be played", arguments.file)) : report->exit_status();
}

}  // namespace

void add_replay(CLI::App& app, int& status) {
  CLI::App* command = app.add_subcommand(
      "replay", "Play the client's side of a recording against a device, and tell where its answers deviate");
  auto arguments = std::make_shared<ReplayArguments>();
  command->add_option("file", arguments->file, "A recording of `gangway record`")->required()->type_name("FILE");
  command->add_option("target", arguments->target, "The device: vfio-user:SOCKET")->required()->type_name("TARGET");
  command
      ->add_option(
          "--only", arguments->only,
          "migration: leave out what is the device's own (identity, configuration, registers, interrupts, memory), "
          "to play a VMM on another kind of device")
      ->type_name("PART");
  command->add_option("--connection", arguments->connection, "Of the recording; all one after the other by default")
      ->type_name("N");
  command->add_option("--time-limit", arguments->limit_seconds, "For one act; a device that takes longer hangs")
      ->capture_default_str()
      ->type_name("SECONDS")
      ->check(seconds_in_reach());
  command->add_flag("--json", arguments->json, "The report as JSON");
  command->footer(
      "Record the VMM that you ship with today, replay it against the driver that you want to ship tomorrow. Whether "
      "an "
      "act\nsucceeds, its errno, what the device says of itself, its states and its configuration must be as they "
      "were; "
      "clocks,\nhandles and opaque data may be others: docs/replay.md has the rule. The device is taken, and its state "
      "lost.\n\n"
      "Examples:\n"
      "  gangway replay vmm.trace vfio-user:/run/nvme.sock\n"
      "  gangway replay vmm.trace vfio-user:/run/card.sock --only migration --json\n\n"
      "Exit status: 0 no deviation, 1 a deviation, 2 could not run.");
  command->callback([arguments, &status] { status = replay(*arguments); });
}

}  // namespace gangway::cli
