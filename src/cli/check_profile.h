// gangway check --profile and --list-profiles.
#pragma once

#include <string>

#include "conformance/test.h"
#include "profile/report.h"

namespace gangway::cli {

int list_profiles();

// The profile by name or file, on the target and, unless it is empty, the peer.
Result<profile::PlayReport> play_profile(const std::string& name, const std::string& target, const std::string& peer,
                                         const conformance::Settings& settings);

}  // namespace gangway::cli
