// gangway check --self-test: the suite itself, tested. On good devices it finds nothing; each faulty one it catches by
// the clause that the device breaks, and blames no other.
#pragma once

#include <string>
#include <vector>

#include <gangway/error.h>

#include "conformance/test.h"

namespace gangway::cli {

struct SelfTestOptions {
  conformance::Settings settings;
  std::vector<std::string> select;  // globs of faulty devices; empty: all
  unsigned jobs = 2;                // devices that are tested at once
  bool json = false;
};

// What became of one device.
struct SelfTestCase {
  std::string device;  // "serial", "nvme", or the name of a defect
  bool faulty = false;
  unsigned flags = 7;
  std::vector<std::string> interfaces{"v2"};  // that it exposes
  std::string clauses;                        // that it breaks, the main one first
  std::vector<std::string> failed;            // clauses that failed
  std::vector<std::string> unasked;  // tests that could not be done because the device failed, and no clause did
  std::string error;                 // why it could not be tested at all
  double seconds = 0;

  [[nodiscard]] bool caught() const;
  // Failed clauses that the device does not break.
  [[nodiscard]] std::vector<std::string> misattributed() const;
  [[nodiscard]] bool right() const;
};

// Prints the matrix, or JSON. Returns the exit status.
int self_test(const SelfTestOptions& options);

}  // namespace gangway::cli
