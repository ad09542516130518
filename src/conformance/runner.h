// Runs the tests on a target and gathers what they found by clause.
//
// Each test begins with the device opened anew and RUNNING and is cleaned up behind, so that tests do not lean on each
// other. A device that is lost is opened again for the next test; if that fails, what is left is not tested.
//
// Thread-safety: one thread.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "conformance/report.h"
#include "conformance/test.h"
#include "conformance/waivers.h"

namespace gangway::conformance {

struct Target {
  std::string name;  // as it was given: "vfio-user:/run/nvme.sock"
  Opener opener;
};

// A target by its name.
[[nodiscard]] Target named_target(const std::string& name, std::chrono::milliseconds limit);

struct Selection {
  std::vector<std::string> select;  // globs of clauses or test names; empty: all
  std::vector<std::string> skip;

  [[nodiscard]] bool wants(const Test& test) const;
  [[nodiscard]] bool wants(const Test& test, std::string_view clause) const;
};

struct Progress {
  std::size_t number = 0;  // of the test, from 1
  std::size_t tests = 0;
  const Test* test = nullptr;
  std::string_view doing;  // within the test
};

class Runner {
 public:
  struct Plan {
    Target target;
    std::optional<Target> peer;
    Settings settings;
    Selection selection;
    Waivers waivers;
    std::function<void(const Progress&)> progress;
  };
  explicit Runner(Plan plan);

  // Errors: the device cannot be opened, or does not even say what it is.
  Result<Report> run();

 private:
  struct Run;  // one test
  Result<void> find_out();
  void run_test(const Test& test, std::size_t number, std::size_t tests);
  void carry_out(const Test& test, Run& run, const std::function<void(std::string_view)>& doing);
  void judge(const Test& test, const Run& run);
  void explain();
  void conclude(ClauseResult& clause);
  ClauseResult& clause_of(std::string_view id);

  Plan plan_;
  Abilities abilities_;
  Hangs hangs_;
  Hangs peer_hangs_;
  std::string gone_;  // why the device does not answer any more
  Report report_;
};

}  // namespace gangway::conformance
