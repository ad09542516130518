// Plays acts on a device and judges each by the model; shrinks what fails to the shortest that still does.
//
// Thread-safety: one thread.
#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "conformance/act.h"
#include "conformance/finding.h"
#include "conformance/model.h"
#include "conformance/test.h"

namespace gangway::conformance {

class Player {
 public:
  // The context's device is closed and opened again for each play. `good`: the stream that writes are taken from.
  Player(Context& context, Bytes good);

  // From a device just opened. The first outcome that breaks a clause; its script is the acts up to there.
  std::optional<Finding> play(const std::vector<Act>& acts);
  // Likewise, and then shorter and shorter.
  std::optional<Finding> play_and_shrink(const std::vector<Act>& acts);

 private:
  std::optional<Finding> play_now(Subject& subject, const std::vector<Act>& acts);
  [[nodiscard]] std::string script_of(const std::vector<Act>& acts);

  Context& context_;
  const Bytes good_;
};

// One player for a test: saves a stream first.
[[nodiscard]] Player make_player(Context& context);

}  // namespace gangway::conformance
