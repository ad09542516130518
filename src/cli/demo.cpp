// gangway demo: a live migration from nothing, with its own processes, on this machine.
#include <sys/eventfd.h>

#include <optional>
#include <thread>

#include <fmt/format.h>

#include <gangway/fd.h>

#include "base/json_text.h"
#include "base/log.h"
#include "cli/command.h"
#include "cli/demo_processes.h"
#include "cli/demo_run.h"
#include "guest/signals.h"
#include "guest/timeline.h"

namespace gangway::cli {
namespace {

// A demo that is interrupted takes everything down with it, at once.
class EndOnSignal {
 public:
  EndOnSignal(const guest::Signals& signals, DemoProcesses& processes)
      : stop_(::eventfd(0, EFD_CLOEXEC)), thread_([this, &signals, &processes] {
          const std::optional<int> number = signals.wait(stop_);
          if (!number) return;
          processes.end_now();
          ::_exit(128 + *number);
        }) {}
  ~EndOnSignal() { ::eventfd_write(stop_.get(), 1); }
  EndOnSignal(const EndOnSignal&) = delete;
  EndOnSignal& operator=(const EndOnSignal&) = delete;

 private:
  const Fd stop_;
  std::jthread thread_;
};

void print_verification(const DemoResult& result) {
  const auto number = [&](const char* key) { return result.final.value(key, std::uint64_t{0}); };
  fmt::print("Verification\n");
  fmt::print("  disk blocks     {} read and found right, {} wrong\n", number("blocks_verified"), number("blocks_bad"));
  fmt::print("  memory pages    {} found right, {} wrong\n", number("pages_verified"), number("pages_bad"));
  fmt::print("  commands        {} failed\n", number("errors"));
  if (result.has_file_system) fmt::print("  e2fsck -fn      {}\n", result.file_system_clean ? "clean" : "errors:");
  if (result.has_file_system && !result.file_system_clean) fmt::print("{}\n", result.file_system_report);
  if (result.final.contains("first_bad")) fmt::print("  first           {}\n", result.final.value("first_bad", ""));
}

// What kept the demo from its end; as JSON it is the one object, like any other outcome.
int tell_failure(const Error& error, bool json) {
  log::error("{}", error.message);
  if (json) fmt::print("{}\n", json_text(nlohmann::ordered_json{{"verified", false}, {"error", error.message}}, 2));
  return error.code == EINVAL || error.code == ENOENT ? kCannotRun : kFailure;
}

int run(const DemoOptions& options, bool json, bool keep) {
  const guest::Signals signals;  // before there are threads
  auto processes = DemoProcesses::create(keep);
  if (!processes) {
    tell_failure(processes.error(), json);
    return kCannotRun;
  }
  const EndOnSignal end_on_signal(signals, **processes);
  guest::ProgressLine line(stderr);
  const DemoObserver observer{
      .step =
          [&](const std::string& what, const std::string& text) {
            if (json) return;
            line.clear();
            fmt::print("{:<10} {}\n", what, text);
            std::fflush(stdout);
          },
      .progress =
          [&](const std::string& text) {
            if (!json) line.show_on_terminal(text);
          },
  };
  const auto result = run_demo(options, **processes, observer);
  line.clear();
  if (keep) log::warn("kept {}", (*processes)->directory().string());
  if (!result) return tell_failure(result.error(), json);
  if (json) {
    fmt::print("{}\n", json_text(result->summary(), 2));
  } else {
    fmt::print("\n{}\n", guest::describe_timeline(result->migration));
    print_verification(*result);
    fmt::print("\n{}\n",
               result->verified() ? "Everything verified: nothing was lost, nothing was corrupted." : "NOT verified.");
  }
  return result->verified() ? kSuccess : kFailure;
}

}  // namespace

void add_demo(CLI::App& app, int& status) {
  CLI::App* command = app.add_subcommand(
      "demo", "Migrate a guest with an NVMe disk, live, under verified I/O, with processes of its own on this machine");
  struct Arguments {
    DemoOptions options;
    bool json = false;
    bool keep = false;
  };
  auto arguments = std::make_shared<Arguments>();
  DemoOptions& options = arguments->options;
  command->add_option("--disk", options.disk,
                      "An ext4 image or disk to use; a file is put into it and written. Made when it is not there "
                      "(default: an image of its own, removed afterwards)");
  command->add_flag("--scratch", options.scratch, "All of --disk may be overwritten; it needs no file system");
  command->add_option("--disk-size", options.disk_mib, "MiB of an image that is made")
      ->capture_default_str()
      ->check(CLI::Range(32U, 1U << 20));
  command->add_option("--memory", options.memory_mib, "MiB of guest memory")
      ->capture_default_str()
      ->check(CLI::Range(16U, 1U << 20));
  command->add_option("--depth", options.depth, "Commands in flight")
      ->capture_default_str()
      ->check(CLI::Range(1U, guest::kMaxDepth));
  command->add_option("--block-size", options.block_size_kib, "KiB of a read or write")
      ->capture_default_str()
      ->check(CLI::IsMember({4, 8, 16, 32, 64, 128}));
  command->add_option("--dirty-rate", options.dirty_rate_mib, "MiB of memory written a second")->capture_default_str();
  command->add_option("--max-downtime", options.max_downtime_ms, "How long the guest may stand still, in ms")
      ->capture_default_str();
  command->add_option("--channels", options.channels, "Connections to send memory over")
      ->capture_default_str()
      ->check(CLI::Range(1U, 8U));
  command->add_option("--seconds", options.seconds, "Of I/O, half of it before the migration and half after")
      ->capture_default_str()
      ->check(CLI::Range(0.0, 1e6));
  command->add_option("--seed", options.seed, "Of everything random")->capture_default_str();
  command->add_flag("--json", arguments->json, "What came of it, as one JSON object");
  command->add_flag("--keep", arguments->keep, "Leave the image and the logs behind");
  command->callback([arguments, &status] { status = run(arguments->options, arguments->json, arguments->keep); });
}

}  // namespace gangway::cli
