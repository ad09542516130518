#include "device/state_frame.h"

namespace gangway::frame {

std::string printable(std::string_view text) {
  std::string shown(text.substr(0, kMaxName));
  for (char& c : shown) {
    if (c < ' ' || c > '~') c = '?';
  }
  return shown;
}

}  // namespace gangway::frame
