// What a client does to a device, and what must be so meanwhile: one act for each defect, named as it.
#pragma once

#include <map>
#include <string_view>

#include "integration/faulty/bench.h"

namespace gangway::faulty {

// Throws Wrong when the device is not as the contract has it.
using Act = void (*)(Bench&);
using Acts = std::map<std::string_view, Act>;

[[nodiscard]] const Acts& acts();

[[nodiscard]] Acts migration_acts();
[[nodiscard]] Acts running_acts();
[[nodiscard]] Acts region_acts();
[[nodiscard]] Acts wire_acts();

}  // namespace gangway::faulty
