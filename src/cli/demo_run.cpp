#include "cli/demo_run.h"

#include <fcntl.h>

#include <fmt/format.h>

#include "guest/ext4_image.h"
#include "guest/migration_request.h"
#include "guest/timeline.h"

namespace gangway::cli {
namespace {

using nlohmann::ordered_json;

constexpr std::chrono::seconds kPatience{30};
constexpr double kSlowestFill = 64;  // MiB/s
constexpr std::chrono::milliseconds kPoll{20};

struct Disk {
  std::filesystem::path image;
  bool has_file_system = false;
  std::vector<guest::Extent> extents;  // that may be written; empty: all of it
};

class Demo {
 public:
  Demo(const DemoOptions& options, DemoProcesses& processes, const DemoObserver& observer)
      : options_(options), processes_(processes), observer_(observer) {}

  Result<DemoResult> run();

 private:
  Result<void> prepare_disk();
  Result<void> use_given_disk();
  Result<void> start_source();
  Result<void> start_destination();
  Result<void> migrate();
  Result<void> finish();

  // Until the guest's status satisfies it.
  Result<ordered_json> wait_for(const std::string& guest, const std::function<bool(const ordered_json&)>& reached,
                                std::chrono::duration<double> patience = kPatience);
  Result<void> work(const std::string& guest, double seconds);
  [[nodiscard]] std::vector<std::string> guest_arguments(const std::string& name, const std::string& device) const;
  [[nodiscard]] std::filesystem::path file(const std::string& name) const { return processes_.directory() / name; }
  [[nodiscard]] std::filesystem::path control(const std::string& guest) const { return file(guest + ".control"); }

  const DemoOptions& options_;
  DemoProcesses& processes_;
  const DemoObserver& observer_;
  Disk disk_;
  std::string destination_;  // where the second guest waits
  DemoResult result_;
};

Result<void> Demo::prepare_disk() {
  disk_.image = options_.disk.empty() ? file("disk.img") : std::filesystem::absolute(options_.disk);
  disk_.has_file_system = !options_.scratch;
  if (!options_.disk.empty() && std::filesystem::exists(disk_.image)) {
    if (auto used = use_given_disk(); !used) return used;
  } else {
    if (options_.scratch) return fail(EINVAL, "--scratch: name a disk that may be overwritten (--disk)");
    const std::uint64_t size = std::uint64_t{options_.disk_mib} << 20;
    if (auto made = guest::make_ext4_image(disk_.image, size, size / 2); !made) return made;
  }
  if (!disk_.has_file_system) {
    observer_.step("disk", fmt::format("{}, all of it to be overwritten", disk_.image.string()));
    return {};
  }
  auto extents = guest::find_workload_file(disk_.image);
  if (!extents) return std::unexpected(extents.error());
  disk_.extents = std::move(*extents);
  std::uint64_t size = 0;
  for (const guest::Extent& extent : disk_.extents) size += extent.size;
  observer_.step("disk", fmt::format("{}, ext4; the workload keeps to the {} MiB of its file /{}", disk_.image.string(),
                                     size >> 20, guest::kWorkloadFile));
  return {};
}

// A file system that is not clean before cannot show anything afterwards.
Result<void> Demo::use_given_disk() {
  if (options_.scratch) return {};
  const auto ext4 = guest::is_ext4(disk_.image);
  if (!ext4) return std::unexpected(ext4.error());
  if (!*ext4) {
    return fail(EINVAL, fmt::format("{} has no ext4 file system; with --scratch all of it is overwritten",
                                    disk_.image.string()));
  }
  const auto check = guest::check_ext4(disk_.image);
  if (!check) return std::unexpected(check.error());
  if (!check->clean) {
    return fail(EINVAL, fmt::format("{}: its file system is not clean to begin with:\n{}", disk_.image.string(),
                                    check->output));
  }
  if (const auto found = guest::find_workload_file(disk_.image); found || found.error().code != ENOENT) return {};
  return guest::add_workload_file(disk_.image, 64U << 20);
}

std::vector<std::string> Demo::guest_arguments(const std::string& name, const std::string& device) const {
  return {"guest",
          "--memory",
          std::to_string(options_.memory_mib),
          "--device",
          fmt::format("nvme0=vfio-user:{}", file(device + ".sock").string()),
          "--control",
          control(name).string(),
          "--json"};
}

Result<void> Demo::start_source() {
  for (const char* device : {"device-a", "device-b"}) {
    const std::vector<std::string> arguments{
        "serve", "nvme", "--socket", file(std::string(device) + ".sock").string(), "--disk", disk_.image.string()};
    if (auto started = processes_.start(device, arguments); !started) return started;
  }
  auto arguments = guest_arguments("guest-a", "device-a");
  const auto add = [&](const std::string& option, const std::string& value) {
    arguments.push_back(option);
    arguments.push_back(value);
  };
  add("--depth", std::to_string(options_.depth));
  add("--block-size", std::to_string(options_.block_size_kib));
  add("--dirty-rate", std::to_string(options_.dirty_rate_mib));
  add("--seed", std::to_string(options_.seed));
  if (disk_.extents.empty()) {
    arguments.emplace_back("--scratch");
  } else {
    std::string region = "nvme0=";
    for (const guest::Extent& extent : disk_.extents) {
      region += fmt::format("{}{}+{}", region.ends_with('=') ? "" : ",", extent.offset, extent.size);
    }
    add("--region", region);
  }
  return processes_.start("guest-a", arguments);
}

Result<void> Demo::start_destination() {
  auto arguments = guest_arguments("guest-b", "device-b");
  arguments.emplace_back("--incoming");
  arguments.emplace_back("tcp:127.0.0.1:0");
  if (auto started = processes_.start("guest-b", arguments); !started) return started;
  const auto waiting = wait_for("guest-b", [](const ordered_json& status) { return status.contains("incoming"); });
  if (!waiting) return std::unexpected(waiting.error());
  destination_ = waiting->value("incoming", "");
  return {};
}

Result<ordered_json> Demo::wait_for(const std::string& guest, const std::function<bool(const ordered_json&)>& reached,
                                    std::chrono::duration<double> patience) {
  const auto begin = std::chrono::steady_clock::now();
  Error last{.code = ETIMEDOUT, .message = fmt::format("{} did not come to the expected state", guest), .clause = {}};
  while (std::chrono::steady_clock::now() - begin < patience) {
    if (auto running = processes_.check_running(); !running) return std::unexpected(running.error());
    auto status = guest::request_status(control(guest));
    if (status && reached(*status)) return status;
    if (status && status->contains("failure"))
      return fail(EIO, fmt::format("{}: {}", guest, status->value("failure", "")));
    if (!status) last.message = fmt::format("{}: {}", guest, status.error().message);
    std::this_thread::sleep_for(kPoll);
  }
  return std::unexpected(last);
}

// Lets the guest work for a time, and long enough to have done something and to have written all of its pages once:
// that it does as fast as it goes, and only then at the set rate.
Result<void> Demo::work(const std::string& guest, double seconds) {
  const auto begin = std::chrono::steady_clock::now();
  const std::chrono::duration<double> patience(kPatience.count() + seconds + options_.memory_mib / kSlowestFill);
  std::uint64_t first = ~std::uint64_t{0};
  const auto worked = wait_for(
      guest,
      [&](const ordered_json& status) {
        const auto done = status.value("io", std::uint64_t{0});
        first = std::min(first, done);
        observer_.progress(fmt::format("{}: {} commands completed, {} blocks verified, {} bad", guest, done,
                                       status.value("blocks_verified", 0), status.value("blocks_bad", 0)));
        const bool time_over = std::chrono::steady_clock::now() - begin >= std::chrono::duration<double>(seconds);
        const bool filled = status.value("pages_written", std::uint64_t{0}) >= status.value("pages", std::uint64_t{0});
        return time_over && filled && done > first && status.value("state", "") == "running";
      },
      patience);
  if (!worked) return std::unexpected(worked.error());
  observer_.step("I/O",
                 fmt::format("{}: {} commands completed, {} blocks verified, {} bad", guest, worked->value("io", 0),
                             worked->value("blocks_verified", 0), worked->value("blocks_bad", 0)));
  return {};
}

Result<void> Demo::migrate() {
  const ordered_json request{
      {"to", destination_}, {"max_downtime_ms", options_.max_downtime_ms}, {"channels", options_.channels}};
  const auto outcome = guest::request_migration(control("guest-a"), request, [&](const ordered_json& progress) {
    observer_.progress(guest::describe_progress(progress));
  });
  if (!outcome) return std::unexpected(outcome.error());
  if (outcome->value("event", "") != "completed") {
    return fail(EIO, fmt::format("the migration failed: {}", outcome->value("message", "no reason given")));
  }
  result_.migration = *outcome;
  observer_.step("migration", fmt::format("guest-a is guest-b at {} now, {:.1f} ms of downtime", destination_,
                                          outcome->value("downtime_ms", 0.0)));
  return {};
}

Result<void> Demo::finish() {
  observer_.progress("verifying every block and page once more");
  auto final = guest::request_stop(control("guest-b"));
  if (!final) return fail_within("stop guest-b", final.error());
  result_.final = std::move(*final);
  processes_.wait("guest-b");
  if (auto stopped = guest::request_stop(control("guest-a")); !stopped)
    return fail_within("stop guest-a", stopped.error());
  processes_.wait("guest-a");
  for (const char* device : {"device-a", "device-b"}) processes_.stop(device);
  result_.has_file_system = disk_.has_file_system;
  if (!disk_.has_file_system) return {};
  auto check = guest::check_ext4(disk_.image);
  if (!check) return std::unexpected(check.error());
  result_.file_system_clean = check->clean;
  result_.file_system_report = std::move(check->output);
  return {};
}

Result<DemoResult> Demo::run() {
  if (auto prepared = prepare_disk(); !prepared) return std::unexpected(prepared.error());
  if (auto started = start_source(); !started) return std::unexpected(started.error());
  const auto running =
      wait_for("guest-a", [](const ordered_json& status) { return status.value("state", "") == "running"; });
  if (!running) return std::unexpected(running.error());
  observer_.step("guest-a", fmt::format("runs: {} MiB of memory, written pages found by {}, {} commands in flight",
                                        options_.memory_mib, running->value("tracking", "?"), options_.depth));
  if (auto started = start_destination(); !started) return std::unexpected(started.error());
  observer_.step("guest-b", fmt::format("waits at {}", destination_));
  if (auto worked = work("guest-a", options_.seconds / 2); !worked) return std::unexpected(worked.error());
  if (auto migrated = migrate(); !migrated) return std::unexpected(migrated.error());
  auto source = guest::request_status(control("guest-a"));
  if (!source) return std::unexpected(source.error());
  result_.source = std::move(*source);
  if (auto worked = work("guest-b", options_.seconds / 2); !worked) return std::unexpected(worked.error());
  if (auto finished = finish(); !finished) return std::unexpected(finished.error());
  return std::move(result_);
}

}  // namespace

bool DemoResult::verified() const {
  return final.value("verified", false) && final.value("blocks_verified", 0ULL) > 0 &&
         final.value("blocks_bad", 1ULL) == 0 && final.value("errors", 1ULL) == 0 &&
         final.value("pages_bad", 1ULL) == 0 && (!has_file_system || file_system_clean);
}

// Counters move with the guest's memory, so the destination's contain the source's.
ordered_json DemoResult::summary() const {
  const auto before = source.value("io", std::uint64_t{0});
  const auto all = final.value("io", std::uint64_t{0});
  return {{"verified", verified()},
          {"blocks_verified", final.value("blocks_verified", std::uint64_t{0})},
          {"blocks_bad", final.value("blocks_bad", std::uint64_t{0})},
          {"pages_verified", final.value("pages_verified", std::uint64_t{0})},
          {"pages_bad", final.value("pages_bad", std::uint64_t{0})},
          {"downtime_ms", migration.value("downtime_ms", 0.0)},
          {"total_ms", migration.value("total_ms", 0.0)},
          {"memory_bytes", migration.value("memory_bytes", std::uint64_t{0})},
          {"device_bytes", migration.value("device_bytes", std::uint64_t{0})},
          {"rounds", migration.value("rounds", 0)},
          {"io_before", before},
          {"io_after", all - std::min(all, before)},
          {"tracking", final.value("tracking", "")},
          {"file_system", has_file_system ? (file_system_clean ? "clean" : "damaged") : "none"},
          {"phases", migration.value("phases", ordered_json::array())}};
}

Result<DemoResult> run_demo(const DemoOptions& options, DemoProcesses& processes, const DemoObserver& observer) {
  return Demo(options, processes, observer).run();
}

}  // namespace gangway::cli
