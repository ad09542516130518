// gangway check: the conformance suite.
#include <unistd.h>

#include <array>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <sstream>

#include <fmt/core.h>

#include "base/log.h"
#include "cli/check_profile.h"
#include "cli/command.h"
#include "cli/self_test.h"
#include "conformance/player.h"
#include "conformance/runner.h"
#include "conformance/script.h"

namespace gangway::cli {
namespace {

using namespace conformance;

struct CheckArguments {
  std::string target;
  std::string peer;
  std::string format = "text";
  std::vector<std::string> outputs;
  std::vector<std::string> select;
  std::vector<std::string> skip;
  std::string waivers;
  std::string script;
  std::string profile;
  bool list = false;
  bool list_profiles = false;
  bool self_test = false;
  bool json = false;
  unsigned jobs = 2;
  double limit_seconds = 10;
  Settings settings;
};

constexpr std::pair<std::string_view, std::string_view> kExtensions[] = {
    {".tap", "tap"}, {".xml", "junit"}, {".json", "json"}, {".html", "html"}, {".txt", "text"}};

Result<Format> format_of_file(const std::string& file) {
  const std::string extension = std::filesystem::path(file).extension().string();
  for (const auto& [known, format] : kExtensions) {
    if (extension == known) return *parse_format(format);
  }
  return fail(EINVAL, fmt::format("--output {}: its name must end in .tap, .xml (JUnit), .json, .html or .txt", file));
}

// Leaves what is in the file: the report of an earlier run is better than none, should this one not come to its end.
Result<void> can_be_written(const std::string& file) {
  const std::ofstream out(file, std::ios::binary | std::ios::app);
  if (!out) return fail_errno(fmt::format("write {}", file));
  return {};
}

Result<void> write_file(const std::string& file, const std::string& text) {
  std::ofstream out(file, std::ios::binary | std::ios::trunc);
  out << text << std::flush;
  if (!out) return fail_errno(fmt::format("write {}", file));
  return {};
}

int list_tests(const Selection& selection) {
  for (const Test& test : all_tests()) {
    if (!selection.wants(test)) continue;
    std::string clauses;
    for (const std::string_view clause : test.clauses) clauses += (clauses.empty() ? "" : " ") + std::string(clause);
    fmt::print("{:<45} {}{}{}\n", test.name, clauses, test.level == Level::Should ? " (SHOULD)" : "",
               test.unsafe ? " (unsafe)" : "");
  }
  return kSuccess;
}

// One line that is written over and over, on a terminal alone.
void show_progress(const Progress& progress) {
  const std::string_view clause = progress.test->clauses.empty() ? std::string_view() : progress.test->clauses.front();
  const std::string line =
      fmt::format("[{}/{}] {} {} {}", progress.number, progress.tests, clause, progress.test->name, progress.doing);
  fmt::print(stderr, "\r\033[K{:.100}", line);
  std::fflush(stderr);
}

void clear_progress() {
  fmt::print(stderr, "\r\033[K");
  std::fflush(stderr);
}

int repeat_script(const CheckArguments& arguments) {
  std::ifstream in(arguments.script);
  std::ostringstream text;
  text << in.rdbuf();
  if (!in) return cannot_run(fmt::format("cannot read {}", arguments.script));
  const auto acts = parse_script(text.str());
  if (!acts) return cannot_run(fmt::format("{}: {}", arguments.script, acts.error().message));
  const auto played = play_script(named_target(arguments.target, arguments.settings.limit), arguments.settings, *acts);
  if (!played) return cannot_run(played.error().message);
  fmt::print("{}", played->transcript);
  for (const Act& act : played->left_out) fmt::print("left out by --safe: {}\n", to_text(act));
  if (!played->judged) {
    fmt::print("not judged: the script drives a migration region; compare what came with the failure's text\n");
    return kSuccess;
  }
  if (!played->finding) {
    fmt::print("every outcome is one that the contract allows\n");
    return kSuccess;
  }
  const Finding& finding = *played->finding;
  fmt::print("{}: {}\n  expected: {}\n  came: {}\n", finding.clause, contract::find_clause(finding.clause)->text,
             finding.expected, finding.came);
  return kFailure;
}

// What the options are called, for what the library says of the settings behind them.
constexpr SettingNames kNames{.safe = "--safe",
                              .peer = "--peer TARGET",
                              .cycles = "--cycles",
                              .depth = "--depth",
                              .walk = "--walk",
                              .tests = "--list shows all"};

Result<Runner::Plan> plan_of(const CheckArguments& arguments) {
  Runner::Plan plan{.target = named_target(arguments.target, arguments.settings.limit),
                    .settings = arguments.settings,
                    .selection = {arguments.select, arguments.skip}};
  if (!arguments.peer.empty()) plan.peer = named_target(arguments.peer, arguments.settings.limit);
  if (!arguments.waivers.empty()) {
    auto waivers = Waivers::load(arguments.waivers);
    if (!waivers) return std::unexpected(waivers.error());
    plan.waivers = *std::move(waivers);
  }
  if (::isatty(STDERR_FILENO) == 1) plan.progress = show_progress;
  return plan;
}

// Where reports go: the format of standard output, and files by their names.
Result<Format> check_outputs(const CheckArguments& arguments) {
  const auto format = parse_format(arguments.format);
  if (!format) return fail(EINVAL, fmt::format("--format {}: use text, tap, junit, json or html", arguments.format));
  for (const std::string& file : arguments.outputs) {
    if (const auto known = format_of_file(file); !known) return std::unexpected(known.error());
    // Before the run, which may take minutes.
    if (const auto writable = can_be_written(file); !writable) return std::unexpected(writable.error());
  }
  return *format;
}

template <class Report>
Result<void> write_reports(const CheckArguments& arguments, const Report& report, Format format) {
  fmt::print("{}", write(report, format));
  std::fflush(stdout);
  for (const std::string& file : arguments.outputs) {
    if (auto written = write_file(file, write(report, *format_of_file(file))); !written) return written;
  }
  return {};
}

int run_profile(const CheckArguments& arguments) {
  const auto format = check_outputs(arguments);
  if (!format) return cannot_run(format.error().message);
  const auto report = cli::play_profile(arguments.profile, arguments.target, arguments.peer, arguments.settings);
  if (!report) return cannot_run(report.error().message);
  if (const auto written = write_reports(arguments, *report, *format); !written)
    return cannot_run(written.error().message);
  return report->played() ? report->exit_status() : cannot_run("no phase of the profile could be played");
}

int run_tests(const CheckArguments& arguments) {
  const auto format = check_outputs(arguments);
  if (!format) return cannot_run(format.error().message);
  auto plan = plan_of(arguments);
  if (!plan) return cannot_run(plan.error().message);
  const bool shows_progress = static_cast<bool>(plan->progress);
  Runner runner(*std::move(plan));
  const auto report = runner.run();
  if (shows_progress) clear_progress();
  if (!report) return cannot_run(report.error().message);
  if (*format != Format::Text) {
    for (const std::string& waiver : report->unused_waivers) log::warn("unused waiver: {}", waiver);
  }
  if (const auto written = write_reports(arguments, *report, *format); !written)
    return cannot_run(written.error().message);
  return report->exit_status();
}

int check(CheckArguments& arguments) {
  arguments.settings.limit = limit_of(arguments.limit_seconds);
  arguments.settings.names = kNames;
  if (arguments.list_profiles) return list_profiles();
  if (arguments.list) return list_tests({arguments.select, arguments.skip});
  if (arguments.self_test) {
    return self_test(
        {.settings = arguments.settings, .select = arguments.select, .jobs = arguments.jobs, .json = arguments.json});
  }
  if (arguments.target.empty())
    return cannot_run("which device? say vfio-user:SOCKET, vfio:ADDRESS, vfio:UUID or /dev/vfio/devices/vfioN");
  if (!arguments.profile.empty()) return run_profile(arguments);
  return arguments.script.empty() ? run_tests(arguments) : repeat_script(arguments);
}

void add_choice_options(CLI::App& command, CheckArguments& arguments) {
  const std::string group = "Which tests";
  Settings& settings = arguments.settings;
  command.add_flag("--list", arguments.list, "List the tests, their clauses, and which are unsafe")->group(group);
  command
      .add_option("--select", arguments.select, "Only clauses or tests that match, such as 'DAT-*'; may be repeated")
      ->type_name("GLOB")
      ->group(group);
  command.add_option("--skip", arguments.skip, "Not those that match")->type_name("GLOB")->group(group);
  command.add_flag("--safe", settings.safe, "Leave out what is known to crash some kernels")->group(group);
  command
      .add_option("--peer", arguments.peer,
                  "A second device of the same kind, which loads what the first one saves. Without one, what needs two "
                  "is not tested")
      ->type_name("TARGET")
      ->group(group);
  // Of none at all a test would say that all went well.
  const auto some = CLI::Range(1U, 1'000'000U);
  command.add_option("--depth", settings.depth, "Try all sequences of so many acts; one more takes many times as long")
      ->check(some)
      ->capture_default_str()
      ->group(group);
  command.add_option("--walk", settings.walk, "Acts of the random walks")
      ->check(some)
      ->capture_default_str()
      ->group(group);
  command.add_option("--seed", settings.seed, "Of the random walks: the same number, the same walks")
      ->capture_default_str()
      ->group(group);
  command.add_option("--cycles", settings.cycles, "Cycles of the search for leaks")
      ->check(some)
      ->capture_default_str()
      ->group(group);
  command.add_option("--time-limit", arguments.limit_seconds, "For one act; a device that takes longer hangs")
      ->capture_default_str()
      ->type_name("SECONDS")
      ->check(seconds_in_reach())
      ->group(group);
}

void add_report_options(CLI::App& command, CheckArguments& arguments) {
  const std::string group = "Verdicts and reports";
  Settings& settings = arguments.settings;
  command.add_option("--format", arguments.format, "On standard output: text, tap, junit, json or html")
      ->capture_default_str()
      ->group(group);
  command
      .add_option("--output", arguments.outputs,
                  "Write a report there as well; .tap, .xml (JUnit), .json, .html or .txt says which. May be repeated")
      ->type_name("FILE")
      ->group(group);
  command
      .add_option("--waivers", arguments.waivers,
                  "Known failures, a line each: DEVICE-GLOB CLAUSE-GLOB YYYY-MM-DD|never LINK|- REASON")
      ->type_name("FILE")
      ->group(group);
  command
      .add_flag("--strict", settings.strict, "What the contract recommends (SHOULD) fails too, instead of a warning")
      ->group(group);
  command.add_option("--shrink", settings.plays, "Repetitions to make the script of a failure shorter; 0: as it came")
      ->capture_default_str()
      ->group(group);
}

void add_other_options(CLI::App& command, CheckArguments& arguments) {
  const std::string script = "One script or userspace instead of the tests";
  auto* repeats =
      command
          .add_option("--script", arguments.script, "Repeat the acts of a script, such as a failure's, and judge each")
          ->type_name("FILE")
          ->group(script);
  command
      .add_option("--profile", arguments.profile,
                  "Drive the device as a userspace in the field does, source and destination, and judge each act")
      ->type_name("NAME|FILE")
      ->excludes(repeats)
      ->group(script);
  command.add_flag("--list-profiles", arguments.list_profiles, "List the profiles that are built in")->group(script);
  const std::string suite = "The suite itself";
  auto* self_test =
      command
          .add_flag("--self-test", arguments.self_test,
                    "Test the suite on good devices and on faulty ones; --select takes the faulty devices' names")
          ->group(suite);
  command.add_flag("--json", arguments.json, "The counts of --self-test as JSON")->needs(self_test)->group(suite);
  command.add_option("--jobs", arguments.jobs, "Devices that --self-test tests at once")
      ->needs(self_test)
      ->check(CLI::Range(1U, 1024U))
      ->capture_default_str()
      ->group(suite);
}

// What one way of running would not heed is refused and not passed over.
struct Unheeded {
  const char* way;
  std::vector<const char*> options;
};

void refuse_unheeded(CLI::App& command) {
  const std::array<Unheeded, 3> all{
      {{"--script", {"--format", "--output", "--waivers", "--peer", "--select", "--skip"}},
       {"--profile", {"--waivers", "--select", "--skip"}},
       {"--self-test", {"target", "--format", "--output", "--waivers", "--peer", "--skip", "--script", "--profile"}}}};
  for (const Unheeded& one : all) {
    for (const char* const option : one.options) command.get_option(one.way)->excludes(command.get_option(option));
  }
}

void add_options(CLI::App& command, CheckArguments& arguments) {
  command.add_option("target", arguments.target,
                     "vfio-user:SOCKET, vfio:ADDRESS, vfio:UUID or /dev/vfio/devices/vfioN");
  add_choice_options(command, arguments);
  add_report_options(command, arguments);
  add_other_options(command, arguments);
  refuse_unheeded(command);
}

}  // namespace

void add_check(CLI::App& app, int& status) {
  CLI::App* command = app.add_subcommand("check", "Test a device against the migration contract, clause by clause");
  auto arguments = std::make_shared<CheckArguments>();
  add_options(*command, *arguments);
  command->footer(
      "A failure names the clause, what was expected, what came, and the shortest script that shows it.\n"
      "docs/conformance.md tells how to run it on a driver of your own.\n\n"
      "Examples:\n"
      "  gangway check vfio-user:/run/nvme.sock\n"
      "  gangway check vfio-user:/run/nvme.sock --select 'DAT-*' --output report.html\n"
      "  gangway check vfio-user:/run/nvme.sock --script failure.txt\n"
      "  gangway check vfio-user:/run/nvme.sock --profile cloud-hypervisor-2026\n"
      "  gangway check vfio:0000:01:00.0 --safe\n\n"
      "Exit status: 0 all passed, 1 a failure, 2 could not run.");
  command->callback([arguments, &status] { status = check(*arguments); });
}

}  // namespace gangway::cli
