#include "conformance/shrink.h"

#include <algorithm>

namespace gangway::conformance {
namespace {

std::vector<Act> without(const std::vector<Act>& acts, std::size_t from, std::size_t count) {
  std::vector<Act> rest(acts.begin(), acts.begin() + static_cast<std::ptrdiff_t>(from));
  rest.insert(rest.end(), acts.begin() + static_cast<std::ptrdiff_t>(from + count), acts.end());
  return rest;
}

}  // namespace

std::vector<Act> shrink(std::vector<Act> acts, const Fails& fails, std::uint32_t plays) {
  for (std::size_t size = std::max<std::size_t>(acts.size() / 2, 1); plays != 0;) {
    bool shorter = false;
    // From the end: what is last is what fails, and what comes long before it matters least.
    for (std::size_t end = acts.size(); end > 0 && plays != 0; end -= std::min(end, size)) {
      const std::size_t from = end - std::min(end, size);
      if (from == 0 && end == acts.size()) continue;  // nothing would be left
      std::vector<Act> candidate = without(acts, from, end - from);
      --plays;
      if (!fails(candidate)) continue;
      acts = std::move(candidate);
      shorter = true;
    }
    if (size > 1) {
      size /= 2;
    } else if (!shorter) {
      break;
    }
  }
  return acts;
}

}  // namespace gangway::conformance
