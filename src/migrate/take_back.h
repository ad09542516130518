// Devices that were on their way to another host, back to RUNNING here.
#pragma once

#include <span>

#include <gangway/error.h>

#include "migrate/machine.h"

namespace gangway::migrate {

// From whatever states they are in. A device that cannot go back is reset, which loses its state. The first error,
// after trying all.
Result<void> take_back(std::span<const MachineDevice> devices);

}  // namespace gangway::migrate
