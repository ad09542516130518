// Copies to memory that nobody looks at soon.
//
// A processor that writes by way of its cache first reads every line that it is about to overwrite. Past the cache it
// does not, which spares a third of what a copy asks of the memory; who reads the bytes next waits for the memory.
//
// Thread-safety: as std::memcpy; when it returns, what it wrote is ordered before what its caller writes next.
#pragma once

#include <cstddef>
#include <span>

namespace gangway {

// As many bytes as `from` has, to the beginning of `to`, which has room for them. They do not overlap.
void copy_past_cache(std::span<std::byte> to, std::span<const std::byte> from);

}  // namespace gangway
