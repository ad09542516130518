// Which acts of a recording are looked at.
//
// Thread-safety: one thread at a time.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>

#include "record/act.h"

namespace gangway::record {

struct ActFilter {
  enum class By : std::uint8_t { Anybody, Client, Device };
  By by = By::Anybody;
  std::set<std::string, std::less<>> names;  // empty: all
  std::set<std::uint32_t> connections;       // empty: all
  std::optional<std::uint32_t> state;        // the device's when the act began
  Time since{};
  std::optional<Time> until;
};

// The state that a device is in by what was said, act by act: RUNNING when it is opened or reset (FSM-INITIAL), what a
// SET led to, what a GET answered; unknown after a SET that failed (FSM-FAIL).
class StateTracker {
 public:
  // Before the act; it is then taken in.
  std::optional<std::uint32_t> take(const Act& act);

 private:
  std::map<std::uint32_t, std::optional<std::uint32_t>> states_;  // by connection
};

class ActSelection {
 public:
  explicit ActSelection(ActFilter filter) : filter_(std::move(filter)) {}
  // To be asked about every act in order.
  [[nodiscard]] bool wants(const Act& act);

 private:
  const ActFilter filter_;
  StateTracker states_;
};

}  // namespace gangway::record
