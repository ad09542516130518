// The card's saved state to bytes and back.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include <gangway/error.h>

#include "devices/serial/uart.h"

namespace gangway::serial {

[[nodiscard]] Result<std::string> encode_state(std::span<const Uart> ports);

// EINVAL, naming the port, for what is no state of such a card.
Result<void> decode_state(std::span<const std::byte> bytes, std::span<Uart> ports);

}  // namespace gangway::serial
