// Plays acts on a device and judges each by the model; shrinks what fails to the shortest that still does.
//
// Thread-safety: one thread.
#pragma once

#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "conformance/act.h"
#include "conformance/finding.h"
#include "conformance/model.h"
#include "conformance/test.h"

namespace gangway::conformance {

class Player {
 public:
  // The context's device is closed and opened again for each play. `good`: the stream that writes are taken from.
  // `risks`: what a play may do, whether it is one of those given or one made shorter.
  Player(Context& context, Bytes good, Risks risks);

  // Plays all of them, each from a device just opened, and adds what fails to the context's findings, its script made
  // shorter. A sequence ends where it breaks a clause. One act that fails in one state is one failure, wherever it
  // stands: it is told once, and what begins as a sequence that failed is not played again. Throws Untestable when the
  // device is lost, or does not recover from a failure, so that what comes after it would say nothing.
  void play_all(const std::vector<std::vector<Act>>& all, std::string_view what);

 private:
  // An act in a state.
  using Place = std::tuple<Act::Kind, std::uint64_t, DeviceState>;

  // The first outcome that breaks a clause; its script is the acts up to there.
  std::optional<Finding> play(const std::vector<Act>& acts);
  std::optional<Finding> play_now(Subject& subject, const std::vector<Act>& acts);
  Finding shorten(const std::vector<Act>& acts, Finding finding);
  void recover(const Finding& from);
  [[nodiscard]] std::string script_of(const std::vector<Act>& acts);

  Context& context_;
  const Bytes good_;
  const Risks risks_;
  std::size_t played_ = 0;  // acts of the last play
  Place place_;             // of its last act
};

// One player for a test: saves a stream first.
[[nodiscard]] Player make_player(Context& context, Risks risks = {});

}  // namespace gangway::conformance
