// Plays the client's side of a recording against a device, and tells where its answers are others than they were.
//
// docs/replay.md has the rule for what may differ. In short: whether an act succeeds, its errno, what the device says
// of itself, its states and its configuration must be as they were; clocks, handles and opaque data may be others.
// Besides each act of migration is judged by the contract.
//
// Thread-safety: one thread.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "conformance/runner.h"
#include "record/act.h"

namespace gangway::profile {

struct ReplayOptions {
  conformance::Target target;
  conformance::Settings settings;
  // Leave out what is the device's own: identity, regions, configuration, registers, interrupts, memory. So what a VMM
  // did with one kind of device is played on another kind.
  bool migration_only = false;
  std::optional<std::uint32_t> connection;  // of the recording; otherwise one after the other
};

struct Deviation {
  std::size_t act = 0;  // of the recording, from 0, as `gangway trace show` counts
  record::Time time{};
  std::string text;  // "set_state RESUMING"
  std::string recorded;
  std::string came;
  std::string_view clause;  // that it breaks, if it does
};

struct ReplayReport {
  std::string target;
  std::size_t played = 0;
  std::size_t left_out = 0;  // by the rule, or the options
  std::size_t connections = 0;
  std::vector<Deviation> deviations;
  std::vector<std::string> notes;
  bool ended_early = false;  // what followed stood on a deviation

  [[nodiscard]] int exit_status() const { return deviations.empty() ? 0 : 1; }
};

// Errors: the device cannot be opened or does not migrate although the recording does; there is nothing to play.
[[nodiscard]] Result<ReplayReport> replay(std::span<const record::Act> acts, const ReplayOptions& options);

[[nodiscard]] std::string to_text(const ReplayReport& report);
[[nodiscard]] std::string to_json(const ReplayReport& report);

}  // namespace gangway::profile
