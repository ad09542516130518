// What of a device's interrupts travels: which messages are pending, and the level of INTx. Who is signalled is the
// client's setup and does not.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include <gangway/error.h>
#include <gangway/interrupts.h>

namespace gangway {

[[nodiscard]] std::vector<std::byte> encode_interrupts(const Interrupts& interrupts);

// EINVAL, and nothing changed, when the bytes are not those of interrupts of the same counts.
Result<void> restore_interrupts(Interrupts& interrupts, std::span<const std::byte> bytes);

}  // namespace gangway
