// The card's saved state to bytes and back.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include <gangway/error.h>

#include "devices/serial/backend.h"
#include "devices/serial/uart.h"

namespace gangway::serial {

// Each port has its line.
using Lines = std::span<const std::unique_ptr<Backend>>;

[[nodiscard]] Result<std::string> encode_state(std::span<const Uart> ports, Lines lines);

// EINVAL, naming the port, for what is no state of such a card.
Result<void> decode_state(std::span<const std::byte> bytes, std::span<Uart> ports, Lines lines);

}  // namespace gangway::serial
