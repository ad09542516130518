// One test: a named function, the clauses it is about, and what it needs. Each file of a group of clauses has its
// table.
//
// A test asks one question. What it does to get there are steps (steps.h), whose failure makes it "not tested"; only
// the answer to the question fails a clause. So a device with one defect fails the clauses of that defect and no
// others.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "conformance/abilities.h"
#include "conformance/finding.h"
#include "conformance/journal.h"
#include "conformance/subject.h"
#include "conformance/workload.h"

namespace gangway::conformance {

// What a program calls the settings that it lets its user choose, so that a message can name the one to change. Empty:
// it is not named.
struct SettingNames {
  std::string_view safe;
  std::string_view peer;
  std::string_view cycles;
  std::string_view depth;
  std::string_view walk;
  std::string_view tests;  // that lists them
};

// "text (name)", or the text alone.
[[nodiscard]] std::string with_name(std::string_view text, std::string_view name);

// How a run is done, apart from which tests.
struct Settings {
  std::chrono::milliseconds limit{10'000};  // for one act
  std::uint64_t seed = 1;
  std::uint32_t walk = 300;     // acts of a random walk
  std::uint32_t cycles = 1000;  // of the search for leaks
  std::uint32_t depth = 3;      // acts of the sequences that are tried exhaustively
  std::uint32_t plays = 200;    // to make the script of a failure shorter; 0: it stays as it is
  bool safe = false;            // leave out what is known to crash some kernels
  bool strict = false;          // SHOULD clauses fail as MUST clauses do
  SettingNames names;
};

// What a test works with.
struct Context {
  Subject& device;  // open and RUNNING
  Subject* peer;    // a second device, if one was given, likewise
  const Abilities& abilities;
  const Settings& settings;
  Journal& journal;
  std::string_view target;
  std::vector<Finding> found;                   // beside what is thrown
  std::string note;                             // what a test that is done says of itself
  std::function<void(std::string_view)> doing;  // for the progress line

  [[nodiscard]] MigrationFlags flags() const { return abilities.migration(); }
};

enum class Level : std::uint8_t { Must, Should };

struct Test {
  std::string_view name;
  std::vector<std::string_view> clauses;
  std::uint32_t needs = 0;
  void (*run)(Context&);
  Level level = Level::Must;
  bool unsafe = false;  // known to crash some kernels: runs last, left out of a safe run
};

// All tests, in the order in which they run.
[[nodiscard]] const std::vector<Test>& all_tests();

// The tables.
[[nodiscard]] std::vector<Test> fsm_tests();
[[nodiscard]] std::vector<Test> reset_tests();
[[nodiscard]] std::vector<Test> data_tests();
[[nodiscard]] std::vector<Test> data_descriptor_tests();
[[nodiscard]] std::vector<Test> precopy_tests();
[[nodiscard]] std::vector<Test> stopped_tests();
[[nodiscard]] std::vector<Test> p2p_tests();
[[nodiscard]] std::vector<Test> dma_log_tests();
[[nodiscard]] std::vector<Test> wire_tests();
[[nodiscard]] std::vector<Test> wire_limit_tests();
[[nodiscard]] std::vector<Test> wire_gone_tests();
[[nodiscard]] std::vector<Test> v1_tests();
[[nodiscard]] std::vector<Test> region_v2_tests();
[[nodiscard]] std::vector<Test> stream_tests();
[[nodiscard]] std::vector<Test> concurrency_tests();
[[nodiscard]] std::vector<Test> exhaustive_tests();
[[nodiscard]] std::vector<Test> sequence_tests();
[[nodiscard]] std::vector<Test> leak_tests();

}  // namespace gangway::conformance
