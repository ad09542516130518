// JSON as text, of values that may hold any bytes: a path, an identifier from the command line, what a peer said. Where
// they are no UTF-8 the replacement character stands; nlohmann's own dump() would throw.
#pragma once

#include <string>

#include <nlohmann/json.hpp>

namespace gangway {

// On one line, or over several with so many spaces a level.
template <class Json>
[[nodiscard]] std::string json_text(const Json& json, int indent = -1) {
  return json.dump(indent, ' ', false, Json::error_handler_t::replace);
}

}  // namespace gangway
