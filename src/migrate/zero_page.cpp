#include "migrate/zero_page.h"

#include <unistd.h>

#include <algorithm>
#include <cstring>

namespace gangway::migrate {
namespace {

constexpr std::size_t kStep = 256;  // bytes looked at before the next decision

// Without a branch inside, so that the compiler makes vector code of it.
bool any_set(const std::byte* bytes) {
  std::uint64_t bits = 0;
  for (std::size_t at = 0; at < kStep; at += sizeof bits) {
    std::uint64_t word;
    std::memcpy(&word, bytes + at, sizeof word);
    bits |= word;
  }
  return bits != 0;
}

}  // namespace

bool is_zero(std::span<const std::byte, kPageSize> page) {
  for (std::size_t at = 0; at < page.size(); at += kStep) {
    if (any_set(page.data() + at)) return false;
  }
  return true;
}

std::vector<PageRange> find_holes(const MemoryBlock& block) {
  std::vector<PageRange> holes;
  if (block.file < 0) return holes;
  const auto begin = static_cast<off_t>(block.file_offset);
  const auto end = static_cast<off_t>(block.file_offset + block.bytes.size());
  off_t at = begin;
  while (at < end) {
    const off_t seek = ::lseek(block.file, at, SEEK_DATA);
    if (seek < 0 && errno != ENXIO) return {};  // a file that cannot tell
    const off_t data = seek < 0 ? end : std::min(seek, end);
    const auto first = (static_cast<std::uint64_t>(at - begin) + kPageSize - 1) / kPageSize;
    const auto last = static_cast<std::uint64_t>(data - begin) / kPageSize;
    if (last > first) holes.push_back({.first = first, .count = last - first});
    if (data == end) break;
    at = ::lseek(block.file, data, SEEK_HOLE);
    if (at < 0) return {};
  }
  return holes;
}

}  // namespace gangway::migrate
