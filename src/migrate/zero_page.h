// Finds the pages that need not be sent: those that are zero, and those that were never written.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "migrate/machine.h"

namespace gangway::migrate {

[[nodiscard]] bool is_zero(std::span<const std::byte, kPageSize> page);

struct PageRange {
  std::uint64_t first = 0;
  std::uint64_t count = 0;
};

// Pages of the block that its file has no memory for, so that they read as zero, without reading them. None for a
// block without a file. Pages that are swapped out are data: the file knows them (SEEK_DATA), unlike mincore().
[[nodiscard]] std::vector<PageRange> find_holes(const MemoryBlock& block);

}  // namespace gangway::migrate
