// Every command of the specification with a payload that is right, as the tables of tests need them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "integration/hostile/wire.h"

namespace gangway::hostile {

struct CommandCase {
  std::string name;
  std::uint16_t command = 0;
  Bytes body;              // a fresh device carries it out
  std::size_t needed = 0;  // with fewer bytes of body than this it makes no sense
};

// In an order in which one connection can carry all of them out, and any number of times. VERSION is not among them,
// for it comes once.
[[nodiscard]] std::vector<CommandCase> all_commands();

// DEVICE_FEATURE with every feature and operation that carries data; `needed` as above.
[[nodiscard]] std::vector<CommandCase> all_features();

}  // namespace gangway::hostile
