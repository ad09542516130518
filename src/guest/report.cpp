#include "guest/report.h"

#include <cstring>

#include <fmt/format.h>

namespace gangway::guest {

using nlohmann::ordered_json;

namespace {

double milliseconds(std::chrono::nanoseconds time) { return std::chrono::duration<double, std::milli>(time).count(); }

ordered_json phases_to_json(const std::vector<migrate::Phase>& phases) {
  ordered_json json = ordered_json::array();
  for (const migrate::Phase& phase : phases) json.push_back({{"name", phase.name}, {"ms", milliseconds(phase.took)}});
  return json;
}

}  // namespace

ordered_json to_json(const migrate::Progress& progress) {
  return {{"event", "progress"},
          {"phase", progress.phase},
          {"round", progress.round},
          {"memory_bytes_sent", progress.memory_bytes_sent},
          {"memory_bytes_dirty", progress.memory_bytes_dirty},
          {"device_bytes_sent", progress.device_bytes_sent},
          {"bytes_per_second", progress.bytes_per_second}};
}

ordered_json to_json(const migrate::SourceReport& report) {
  return {{"event", "completed"},
          {"downtime_ms", milliseconds(report.downtime)},
          {"total_ms", milliseconds(report.total)},
          {"memory_bytes", report.memory_bytes},
          {"device_bytes", report.device_bytes},
          {"rounds", report.rounds},
          {"converged", report.converged},
          {"phases", phases_to_json(report.phases)}};
}

ordered_json failure_to_json(const Error& error) {
  const char* code = ::strerrorname_np(error.code);
  return {{"event", "failed"}, {"error", code == nullptr ? "?" : code}, {"message", error.message}};
}

ordered_json to_json(const migrate::DestinationReport& report) {
  return {{"total_ms", milliseconds(report.total)},
          {"memory_bytes", report.memory_bytes},
          {"device_bytes", report.device_bytes},
          {"rounds", report.rounds},
          {"phases", phases_to_json(report.phases)}};
}

void add_machine(ordered_json& json, const GuestMachine& machine) {
  const Totals totals = machine.totals();
  json["memory_size"] = machine.ram().size();
  json["tracking"] = const_cast<GuestMachine&>(machine).dirty_tracker().method();
  json["io"] = totals.commands();
  json["blocks_verified"] = totals.blocks_verified();
  json["blocks_bad"] = totals.blocks_bad();
  json["errors"] = totals.errors();
  json["pages"] = totals.memory_pages;
  json["pages_written"] = totals.memory.written;
  json["pages_verified"] = totals.memory.verified;
  json["pages_bad"] = totals.memory.bad;
  json["disks"] = ordered_json::array();
  for (const DiskTotals& disk : totals.disks) {
    json["disks"].push_back({{"id", disk.id},
                             {"blocks", disk.blocks},
                             {"reads", disk.counters.reads},
                             {"writes", disk.counters.writes},
                             {"flushes", disk.counters.flushes},
                             {"interrupts", disk.interrupts},
                             {"doorbells", disk.doorbells_mapped ? "mapped" : "region writes"}});
  }
  json["devices"] = ordered_json::array();
  for (const GuestMachine::Connected& device : machine.connected()) {
    json["devices"].push_back(
        {{"id", device.id}, {"class", fmt::format("{:#08x}", device.class_code)}, {"driven", device.driven}});
  }
  if (const auto bad = machine.findings().first_bad(); !bad.empty()) json["first_bad"] = bad;
  if (const auto failure = machine.findings().failure(); !failure.empty()) json["failure"] = failure;
}

std::string metrics_of(const Totals& totals) {
  std::string text;
  const auto declare = [&](std::string_view name, std::string_view help) {
    text += fmt::format("# HELP gangway_guest_{0} {1}\n# TYPE gangway_guest_{0} counter\n", name, help);
  };
  declare("commands_total", "NVMe commands completed.");
  for (const DiskTotals& disk : totals.disks) {
    const auto line = [&](std::string_view kind, std::uint64_t value) {
      text += fmt::format("gangway_guest_commands_total{{disk=\"{}\",kind=\"{}\"}} {}\n", disk.id, kind, value);
    };
    line("read", disk.counters.reads);
    line("write", disk.counters.writes);
    line("flush", disk.counters.flushes);
  }
  declare("interrupts_total", "Interrupts that the controllers raised here.");
  for (const DiskTotals& disk : totals.disks) {
    text += fmt::format("gangway_guest_interrupts_total{{disk=\"{}\"}} {}\n", disk.id, disk.interrupts);
  }
  const auto single = [&](std::string_view name, std::string_view help, std::uint64_t value) {
    declare(name, help);
    text += fmt::format("gangway_guest_{} {}\n", name, value);
  };
  single("blocks_verified_total", "Disk blocks read and found right.", totals.blocks_verified());
  single("blocks_bad_total", "Disk blocks read and found wrong.", totals.blocks_bad());
  single("errors_total", "NVMe commands that failed.", totals.errors());
  single("pages_written_total", "Memory pages written.", totals.memory.written);
  single("pages_verified_total", "Memory pages found right.", totals.memory.verified);
  single("pages_bad_total", "Memory pages found wrong.", totals.memory.bad);
  return text;
}

}  // namespace gangway::guest
