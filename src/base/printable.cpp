#include "base/printable.h"

#include <algorithm>

namespace gangway {

std::string printable(std::string_view text, std::size_t longest) {
  std::string shown(text.substr(0, longest));
  // Whether char has a sign or not, a byte from 0x80 on lies outside.
  std::ranges::replace_if(shown, [](char c) { return c < ' ' || c > '~'; }, '?');
  return shown;
}

}  // namespace gangway
