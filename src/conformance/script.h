// Repeats a script on a device and judges each outcome by the model, which follows a device that is driven by v2.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "conformance/act.h"
#include "conformance/runner.h"

namespace gangway::conformance {

struct Played {
  std::string transcript;          // the acts and what came of them
  std::optional<Finding> finding;  // the first outcome that breaks a clause, which ends it
  bool judged = true;              // false: it drives a migration region, which the model does not follow
};

// What a script that fails a clause comes down to: the shortest found that fails it again, and what came of it.
// nullopt: played again, it does not fail, or it is of things that scripts do not repeat.
std::optional<Finding> shorten_script(const Opener& opener, const Settings& settings, const Abilities& abilities,
                                      Hangs& hangs, const std::string& script, std::string_view clause);

// Errors: the device cannot be opened, or does not migrate.
Result<Played> play_script(const Target& target, const Settings& settings, const std::vector<Act>& acts);

}  // namespace gangway::conformance
