// Repeats a script on a device and judges each outcome by the model, which follows a device that is driven by v2.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "conformance/act.h"
#include "conformance/model.h"
#include "conformance/runner.h"

namespace gangway::conformance {

struct Played {
  std::string transcript;          // the acts and what came of them
  std::optional<Finding> finding;  // the first outcome that breaks a clause, which ends it
  std::vector<Act> left_out;       // as not safe
  bool judged = true;              // false: it drives a migration region, which the model does not follow
};

// What a script that fails a clause comes down to: the shortest found that fails it again, and what came of it.
// nullopt: played again, it does not fail, or it is of things that scripts do not repeat. `risks`: what it may do; what
// the script itself does not do is left out of the shorter ones, too.
std::optional<Finding> shorten_script(const Opener& opener, const Settings& settings, const Abilities& abilities,
                                      Hangs& hangs, const std::string& script, std::string_view clause, Risks risks);

// Errors: the device cannot be opened, or does not migrate; ENOTSUP: it cannot be kept safe, as what the script may do
// to a migration region is not known.
Result<Played> play_script(const Target& target, const Settings& settings, const std::vector<Act>& acts);

}  // namespace gangway::conformance
