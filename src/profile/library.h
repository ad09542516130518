// Where profiles are found: those that are built in, and files.
//
// Thread-safety: everything here is constant.
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <string_view>

#include <gangway/error.h>

#include "profile/profile.h"

namespace gangway::profile {

struct BuiltIn {
  std::string_view name;
  std::string_view text;  // the file
};
// The files of profiles/, as they were when the program was built.
[[nodiscard]] std::span<const BuiltIn> built_in_profiles();

// A profile by its name, or, if the name has a '/' or there is no such profile, a file. Errors: neither is there, or
// what is there is no profile.
[[nodiscard]] Result<Profile> find_profile(const std::string& name_or_file);

}  // namespace gangway::profile
