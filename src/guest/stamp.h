// What the workload writes, and how it recognizes it: a 4 KiB unit that says what it is.
//
// A unit holds where it belongs, which generation of that place it is, a filling that depends on both, and a
// checksum (XXH3) over all of it. So a unit that is stale, at the wrong place, torn or damaged is told from the right
// one. Blocks on disk are rows of units; pages of RAM are single ones.
//
// Layout: 64-bit words: magic, seed, address, owner << 32 | generation, filling ..., checksum of what precedes.
//
// Thread-safety: pure functions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace gangway::guest {

inline constexpr std::size_t kUnitSize = 4096;
using Unit = std::span<std::byte, kUnitSize>;
using ConstUnit = std::span<const std::byte, kUnitSize>;

struct Stamp {
  std::uint64_t seed = 0;
  std::uint32_t owner = 0;       // a disk's number, or kMemoryOwner
  std::uint64_t address = 0;     // bytes on the disk, or guest-physical
  std::uint32_t generation = 0;  // of this place
};
inline constexpr std::uint32_t kMemoryOwner = 0xffff'ffff;

void write_stamp(Unit unit, const Stamp& stamp);

// Whole and exactly this stamp.
[[nodiscard]] bool has_stamp(ConstUnit unit, const Stamp& stamp);

// For a unit that was written while it was read: every 8-byte word comes from one of the generations `oldest` ..
// `newest` of `stamp`, whose own generation does not matter.
[[nodiscard]] bool mixes_generations(ConstUnit unit, Stamp stamp, std::uint32_t oldest, std::uint32_t newest);

// What the unit claims to be, for messages: "disk 0 at 0x4000, generation 7, checksum right".
[[nodiscard]] std::string describe_unit(ConstUnit unit);

}  // namespace gangway::guest
