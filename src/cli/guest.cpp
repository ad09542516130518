// gangway guest: a VM stand-in.
#include <signal.h>

#include <charconv>

#include <fmt/format.h>

#include "base/json_text.h"
#include "base/log.h"
#include "cli/command.h"
#include "guest/control.h"
#include "guest/guest.h"
#include "guest/signals.h"

namespace gangway::cli {
namespace {

using guest::Extent;
using guest::Guest;

struct Arguments {
  std::uint64_t memory_mib = 256;
  bool huge_pages = false;
  std::vector<std::string> devices;
  std::vector<std::string> regions;
  bool scratch = false;
  std::string control;
  std::string incoming;
  std::string tracking;
  std::uint64_t dirty_rate_mib = 32;
  std::uint64_t dirty_span_mib = 0;
  std::uint32_t block_size_kib = 4;
  double seconds = 0;
  bool json = false;
  guest::BootOptions boot;
};

std::optional<std::pair<std::string, std::string>> split(const std::string& text, char at) {
  const auto position = text.find(at);
  if (position == std::string::npos || position == 0) return std::nullopt;
  return std::pair{text.substr(0, position), text.substr(position + 1)};
}

std::optional<std::uint64_t> parse_number(const std::string& text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

// "OFFSET+SIZE,OFFSET+SIZE", bytes.
Result<std::vector<Extent>> parse_extents(const std::string& text) {
  std::vector<Extent> extents;
  for (std::size_t from = 0; from <= text.size();) {
    const auto to = std::min(text.find(',', from), text.size());
    const auto pair = split(text.substr(from, to - from), '+');
    const auto offset = pair ? parse_number(pair->first) : std::nullopt;
    const auto size = pair ? parse_number(pair->second) : std::nullopt;
    if (!offset || !size) return fail(EINVAL, fmt::format("--region '{}': expected ID=OFFSET+SIZE,...", text));
    extents.push_back({*offset, *size});
    from = to + 1;
  }
  return extents;
}

Result<std::vector<guest::GuestOptions::DeviceAddress>> parse_devices(const std::vector<std::string>& texts) {
  std::vector<guest::GuestOptions::DeviceAddress> devices;
  for (const std::string& text : texts) {
    const auto pair = split(text, '=');
    if (!pair) return fail(EINVAL, fmt::format("--device '{}': expected ID=TARGET, as nvme0=vfio-user:SOCKET", text));
    for (const auto& other : devices) {
      if (other.id == pair->first) return fail(EINVAL, fmt::format("--device: two are called '{}'", other.id));
    }
    devices.push_back({.id = pair->first, .target = pair->second});
  }
  return devices;
}

// What the workload may write of each device. A guest that only waits for another takes what that one brings.
Result<std::vector<std::vector<Extent>>> choose_regions(const Arguments& arguments,
                                                        std::span<const guest::GuestOptions::DeviceAddress> devices) {
  std::vector<std::vector<Extent>> disks(devices.size());
  for (const std::string& text : arguments.regions) {
    const auto pair = split(text, '=');
    const auto device =
        std::ranges::find_if(devices, [&](const auto& known) { return pair && known.id == pair->first; });
    if (device == devices.end()) return fail(EINVAL, fmt::format("--region '{}': names no --device", text));
    auto extents = parse_extents(pair->second);
    if (!extents) return std::unexpected(extents.error());
    disks[static_cast<std::size_t>(device - devices.begin())] = std::move(*extents);
  }
  return disks;
}

Result<guest::GuestOptions> to_options(const Arguments& arguments) {
  guest::GuestOptions options{.memory = {.size = arguments.memory_mib << 20, .huge_pages = arguments.huge_pages}};
  options.incoming = arguments.incoming;
  auto devices = parse_devices(arguments.devices);
  if (!devices) return std::unexpected(devices.error());
  options.devices = std::move(*devices);
  if (!arguments.tracking.empty()) {
    options.tracking = guest::tracking_method_from_name(arguments.tracking);
    if (!options.tracking) {
      return fail(EINVAL, fmt::format("--tracking '{}': expected 'write-protect scan', 'userfaultfd' or 'workload'",
                                      arguments.tracking));
    }
  }
  auto regions = choose_regions(arguments, options.devices);
  if (!regions) return std::unexpected(regions.error());
  options.boot = arguments.boot;
  options.boot.disks = std::move(*regions);
  options.boot.whole_disks = arguments.scratch;
  options.boot.block_size = arguments.block_size_kib << 10;
  options.boot.dirty_rate = arguments.dirty_rate_mib << 20;
  options.boot.dirty_span = (arguments.dirty_span_mib == 0 ? arguments.memory_mib / 2 : arguments.dirty_span_mib) << 20;
  return options;
}

// What to do about it, in the words of the command line. A guest that waits for a machine writes no disk of its own
// accord.
Error in_words(Error error, const Arguments& arguments) {
  if (error.code == EROFS && arguments.incoming.empty()) {
    error.message += "; --region ID=OFFSET+SIZE names stretches of it, --scratch gives it whole";
  }
  return error;
}

// Until somebody stops it, a signal comes, the time is over, or it cannot go on.
void run(Guest& guest, const guest::Signals& signals, double seconds) {
  const auto begin = std::chrono::steady_clock::now();
  const auto over = [&] {
    return seconds > 0 && std::chrono::steady_clock::now() - begin >= std::chrono::duration<double>(seconds);
  };
  bool told = false;
  while (!guest.wait_ended(std::chrono::milliseconds(50))) {
    told = told || signals.arrived() || over() || !guest.failure().empty();
    if (!told) continue;
    // Neither finds anything to do when it was stopped or its migration ended meanwhile.
    if (auto cancelled = guest.cancel(); cancelled) continue;
    if (auto stopped = guest.stop(); !stopped) log::debug("{}", stopped.error().message);
  }
}

void print_report(const nlohmann::ordered_json& status) {
  for (const auto& [key, value] : status.items()) {
    if (!value.is_structured())
      fmt::print("{:<16} {}\n", key, value.is_string() ? value.get<std::string>() : json_text(value));
  }
}

int run_guest(const Arguments& arguments) {
  const auto cannot = [](const Error& error) {
    log::error("{}", error.message);
    return kCannotRun;
  };
  const guest::Signals signals;  // before there are threads
  auto options = to_options(arguments);
  if (!options) return cannot(options.error());
  auto guest = Guest::create(std::move(*options));
  if (!guest) return cannot(in_words(guest.error(), arguments));
  std::unique_ptr<guest::HttpServer> control;
  if (!arguments.control.empty()) {
    auto served = guest::serve_control(arguments.control, **guest);
    if (!served) return cannot(served.error());
    control = std::move(*served);
  }
  if (const auto waits_at = (*guest)->status().value("incoming", ""); !waits_at.empty() && !arguments.json) {
    fmt::print("waiting for a machine at {}\n", waits_at);
    std::fflush(stdout);
  }
  run(**guest, signals, arguments.seconds);
  const auto status = (*guest)->status();
  control.reset();
  if (arguments.json) {
    fmt::print("{}\n", json_text(status, 2));
  } else {
    print_report(status);
  }
  return (*guest)->succeeded() ? kSuccess : kFailure;
}

void add_workload_options(CLI::App& command, Arguments& arguments) {
  const std::string group = "Workload (of a guest that boots)";
  command.add_option("--region", arguments.regions, "What of a disk may be written: ID=OFFSET+SIZE,... in bytes")
      ->group(group);
  command.add_flag("--scratch", arguments.scratch, "All of every disk without a --region may be overwritten")
      ->group(group);
  command.add_option("--depth", arguments.boot.depth, "Commands in flight in a queue pair")
      ->capture_default_str()
      ->check(CLI::Range(1U, guest::kMaxDepth))
      ->group(group);
  command.add_option("--queues", arguments.boot.queues, "I/O queue pairs of a disk")
      ->capture_default_str()
      ->check(CLI::Range(1U, guest::kMaxQueues))
      ->group(group);
  command.add_option("--block-size", arguments.block_size_kib, "KiB of a read or write")
      ->capture_default_str()
      ->check(CLI::IsMember({4, 8, 16, 32, 64, 128}))
      ->group(group);
  command.add_option("--write-percent", arguments.boot.write_percent, "Writes among the commands")
      ->capture_default_str()
      ->check(CLI::Range(1U, 100U))
      ->group(group);
  command.add_option("--dirty-rate", arguments.dirty_rate_mib, "MiB of memory written a second")
      ->capture_default_str()
      ->check(CLI::Range(0U, 1U << 20))
      ->group(group);
  command.add_option("--dirty-span", arguments.dirty_span_mib, "MiB of memory that this goes over (default: half)")
      ->group(group);
  command.add_option("--memory-threads", arguments.boot.memory_cpus, "Threads that write memory")
      ->capture_default_str()
      ->check(CLI::Range(0U, guest::kMaxMemoryCpus))
      ->group(group);
  command.add_option("--seed", arguments.boot.seed, "Of everything random")->capture_default_str()->group(group);
}

}  // namespace

void add_guest(CLI::App& app, int& status) {
  CLI::App* command = app.add_subcommand(
      "guest", "Run a VM stand-in: memory, NVMe drivers and a verified workload, that can be migrated live");
  auto arguments = std::make_shared<Arguments>();
  command->add_option("--memory", arguments->memory_mib, "MiB of guest memory")
      ->capture_default_str()
      ->check(CLI::Range(4U, 1U << 26));
  command->add_flag("--huge-pages", arguments->huge_pages, "Memory from the kernel's pool of huge pages");
  command->add_option("--device", arguments->devices,
                      "ID=TARGET, as nvme0=vfio-user:SOCKET, or nvme0=vfio:ADDRESS for one of the kernel's. NVMe "
                      "controllers are driven, other devices only move along");
  command->add_option("--control", arguments->control,
                      "Answer HTTP on this UNIX socket: /status, /migrate, /stop, ...");
  command->add_option("--incoming", arguments->incoming,
                      "Do not boot: wait for a machine at tcp:HOST:PORT (port 0: any) or unix:PATH");
  command->add_option("--tracking", arguments->tracking,
                      "How written pages are found: 'write-protect scan', 'userfaultfd' or 'workload' (default: the "
                      "first that works here)");
  command->add_option("--seconds", arguments->seconds, "Stop after this time (default: when told)");
  command->add_flag("--json", arguments->json, "The final status as one JSON object");
  add_workload_options(*command, *arguments);
  command->callback([arguments, &status] { status = run_guest(*arguments); });
}

}  // namespace gangway::cli
