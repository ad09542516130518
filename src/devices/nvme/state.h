// A controller's saved state: writes it, and takes it up after looking at every value.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include <gangway/error.h>

#include "devices/nvme/controller_state.h"

namespace gangway::nvme {

// The controller is stopped: nothing is in flight.
[[nodiscard]] std::string serialize(const ControllerState& state);

// What a controller that takes this one's state must have in common with it: a message Identity.
[[nodiscard]] std::string serialize_identity(const ControllerState& state);
// EINVAL, naming what differs. Of `state` only constants are looked at.
Result<void> check_identity(std::span<const std::byte> bytes, const ControllerState& state);

// Onto a cleared state. EINVAL, naming the value, for what no controller like this one could have saved; the state is
// then half filled and has to be cleared.
Result<void> deserialize(std::span<const std::byte> bytes, ControllerState& state);

}  // namespace gangway::nvme
