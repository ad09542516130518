#include "profile/library.h"

#include <algorithm>
#include <fstream>

#include <fmt/core.h>

namespace gangway::profile {
namespace {

Result<std::string> read_file(const std::string& file) {
  std::ifstream in(file, std::ios::binary);
  if (!in) return fail_errno(fmt::format("read {}", file));
  std::string text(kLargestFile + 1, '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (in.bad()) return fail_errno(fmt::format("read {}", file));
  text.resize(static_cast<std::size_t>(in.gcount()));
  return text;
}

}  // namespace

Result<Profile> find_profile(const std::string& name_or_file) {
  const auto known = built_in_profiles();
  const auto found = std::ranges::find(known, name_or_file, &BuiltIn::name);
  if (found != known.end()) return parse_profile(found->text);
  std::error_code ignored;
  if (!name_or_file.contains('/') && !std::filesystem::exists(name_or_file, ignored)) {
    return fail(ENOENT, fmt::format("{}: no profile of that name, and no such file", name_or_file));
  }
  const Result<std::string> text = read_file(name_or_file);
  if (!text) return std::unexpected(text.error());
  Result<Profile> profile = parse_profile(*text);
  if (!profile) return fail_within(name_or_file, profile.error());
  return profile;
}

}  // namespace gangway::profile
