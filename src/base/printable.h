// A stranger's text as it may stand in a message, a log or on a terminal: printable ASCII as it is, '?' for every other
// byte, so that it moves no cursor, ends no line and sets no title.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace gangway {

// The first `longest` bytes of it.
[[nodiscard]] std::string printable(std::string_view text, std::size_t longest = std::string_view::npos);

}  // namespace gangway
