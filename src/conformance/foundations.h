// Which clauses the tests of others stand on.
//
// A device that forgets how to save fails whatever saves on its way to another question. So where a clause fails that
// others stand on, their failures say nothing of their own and count as not tested, with the clause that explains them.
#pragma once

#include <span>
#include <string_view>
#include <vector>

namespace gangway::conformance {

struct Foundation {
  std::string_view clause;
  std::vector<std::string_view> carries;  // globs
};

// In the order in which they are looked at: one whose own failure was explained explains no other.
[[nodiscard]] const std::vector<Foundation>& foundations();

}  // namespace gangway::conformance
