#include "cli/check_profile.h"

#include <fmt/core.h>

#include "cli/command.h"
#include "profile/library.h"
#include "profile/player.h"

namespace gangway::cli {

int list_profiles() {
  for (const profile::BuiltIn& built_in : profile::built_in_profiles()) {
    const Result<profile::Profile> known = profile::parse_profile(built_in.text);
    fmt::print("{:<24} {:<4} {}\n", built_in.name, known ? profile::interface_name(known->interface) : "?",
               known ? known->userspace : known.error().message);
  }
  return kSuccess;
}

Result<profile::PlayReport> play_profile(const std::string& name, const std::string& target, const std::string& peer,
                                         const conformance::Settings& settings) {
  const Result<profile::Profile> known = profile::find_profile(name);
  if (!known) return std::unexpected(known.error());
  profile::PlayOptions options{.target = conformance::named_target(target, settings.limit), .settings = settings};
  if (!peer.empty()) options.peer = conformance::named_target(peer, settings.limit);
  return profile::play(*known, options);
}

}  // namespace gangway::cli
