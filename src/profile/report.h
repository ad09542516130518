// What playing a profile came to: a verdict an act.
//
// Thread-safety: values.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <gangway/contract.h>

#include "conformance/report.h"
#include "profile/profile.h"

namespace gangway::profile {

struct ActResult {
  std::size_t line = 0;  // of the profile
  std::string text;
  std::string from;
  std::string_view clause;  // that it was judged by
  conformance::Verdict verdict = conformance::Verdict::Pass;
  std::size_t times = 1;  // in a row
  std::string outcome;    // "EINVAL", "4096 bytes"; empty: success
  std::string expected;   // of a failure
  std::string came;
};

struct PhaseResult {
  std::string name;
  Side side = Side::Source;
  std::string target;
  conformance::Verdict verdict = conformance::Verdict::Pass;
  std::string why;  // it was not played
  bool device_failed = false;
  std::vector<ActResult> acts;
  std::string script;  // what was done on the device
  double seconds = 0;
};

struct PlayReport {
  std::string profile;
  std::string target;
  std::string peer;  // empty: none
  std::optional<MigrationFlags> flags;
  std::vector<PhaseResult> phases;
  conformance::Coverage coverage;

  [[nodiscard]] std::size_t count(conformance::Verdict verdict) const;
  // At least one phase was begun. Otherwise the device has not passed, and not failed.
  [[nodiscard]] bool played() const;
  // 0: no act broke the contract, 1: one did, or a phase could not be played because the device failed before.
  [[nodiscard]] int exit_status() const;
};

[[nodiscard]] std::string write(const PlayReport& report, conformance::Format format);

}  // namespace gangway::profile
