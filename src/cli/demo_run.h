// The demo itself: a disk, two device processes, two guests, a live migration in between, and what came of it.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include <gangway/error.h>

#include <nlohmann/json.hpp>

#include "cli/demo_processes.h"
#include "guest/program.h"

namespace gangway::cli {

struct DemoOptions {
  std::string disk;      // empty: an image of its own
  bool scratch = false;  // all of `disk` may be overwritten
  unsigned disk_mib = 256;
  unsigned memory_mib = 256;
  unsigned depth = 32;
  unsigned block_size_kib = 4;
  unsigned dirty_rate_mib = 32;
  unsigned max_downtime_ms = 300;
  unsigned channels = 1;
  double seconds = 4;  // of I/O beside the migration, half before and half after
  std::uint64_t seed = 1;
};

// What happens, as it happens.
struct DemoObserver {
  std::function<void(const std::string& what, const std::string& text)> step;  // "image": "made ..."
  std::function<void(const std::string& text)> progress;                       // replaces the one before
};

struct DemoResult {
  nlohmann::ordered_json migration;  // the event "completed"
  nlohmann::ordered_json source;     // its status when it had migrated
  nlohmann::ordered_json final;      // the destination's, stopped and verified
  bool has_file_system = false;
  bool file_system_clean = false;
  std::string file_system_report;

  [[nodiscard]] bool verified() const;
  // The object that `gangway demo --json` prints.
  [[nodiscard]] nlohmann::ordered_json summary() const;
};

// Errors: what kept the demo from running to its end.
Result<DemoResult> run_demo(const DemoOptions& options, DemoProcesses& processes, const DemoObserver& observer);

}  // namespace gangway::cli
