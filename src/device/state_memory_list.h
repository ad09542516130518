// The first section of a stream: which memories follow, and how large each is, so that a destination whose memory
// differs is found out before any of it is sent.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include <gangway/error.h>
#include <gangway/state_stream.h>

namespace gangway {

[[nodiscard]] std::vector<std::byte> encode_memory_list(std::span<const StateMemory> memories);

// EINVAL, naming the first difference, when the list is not that of exactly these memories.
Result<void> check_memory_list(std::span<const std::byte> list, std::span<const StateMemory> memories);

}  // namespace gangway
