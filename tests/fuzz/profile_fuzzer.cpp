// Reads arbitrary bytes as a profile. What is one is written and read again as the same.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "profile/profile.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace gangway::profile;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const gangway::Result<Profile> profile = parse_profile(text);
  if (!profile) return 0;
  const std::string written = to_text(*profile);
  const gangway::Result<Profile> again = parse_profile(written);
  if (!again || to_text(*again) != written) std::abort();
  return 0;
}
