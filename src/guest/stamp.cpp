#include "guest/stamp.h"

#include <array>
#include <cstring>

#include <fmt/format.h>
#include <xxhash.h>

namespace gangway::guest {
namespace {

constexpr std::uint64_t kMagic = 0x504d4154534e5747;  // "GWNSTAMP"
constexpr std::size_t kWords = kUnitSize / sizeof(std::uint64_t);
constexpr std::size_t kHeaderWords = 4;
using Words = std::array<std::uint64_t, kWords>;

std::array<std::uint64_t, kHeaderWords> header_of(const Stamp& stamp) {
  return {kMagic, stamp.seed, stamp.address, std::uint64_t{stamp.owner} << 32 | stamp.generation};
}

// The finalizer of SplitMix64: every bit of the input reaches every bit of the output.
constexpr std::uint64_t mix(std::uint64_t value) {
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9;
  value = (value ^ (value >> 27)) * 0x94d049bb133111eb;
  return value ^ (value >> 31);
}

Words words_of(const Stamp& stamp) {
  Words words;
  const auto header = header_of(stamp);
  std::memcpy(words.data(), header.data(), sizeof header);
  std::uint64_t filling = mix(header[1] ^ mix(header[2] ^ mix(header[3])));
  for (std::size_t n = kHeaderWords; n < kWords - 1; ++n) {
    filling += 0x9e3779b97f4a7c15;
    words[n] = filling ^ (filling >> 29);
  }
  words[kWords - 1] = XXH3_64bits(words.data(), (kWords - 1) * sizeof(std::uint64_t));
  return words;
}

std::uint64_t word_at(ConstUnit unit, std::size_t index) {
  std::uint64_t word;
  std::memcpy(&word, unit.data() + index * sizeof word, sizeof word);
  return word;
}

bool checksum_right(ConstUnit unit) {
  return word_at(unit, kWords - 1) == XXH3_64bits(unit.data(), (kWords - 1) * sizeof(std::uint64_t));
}

}  // namespace

void write_stamp(Unit unit, const Stamp& stamp) {
  const Words words = words_of(stamp);
  std::memcpy(unit.data(), words.data(), kUnitSize);
}

bool has_stamp(ConstUnit unit, const Stamp& stamp) {
  const auto header = header_of(stamp);
  return std::memcmp(unit.data(), header.data(), sizeof header) == 0 && checksum_right(unit);
}

bool mixes_generations(ConstUnit unit, Stamp stamp, std::uint32_t oldest, std::uint32_t newest) {
  std::array<bool, kWords> explained{};
  for (std::uint64_t generation = oldest; generation <= newest; ++generation) {
    stamp.generation = static_cast<std::uint32_t>(generation);
    const Words words = words_of(stamp);
    for (std::size_t n = 0; n < kWords; ++n) explained[n] = explained[n] || word_at(unit, n) == words[n];
  }
  for (const bool word : explained) {
    if (!word) return false;
  }
  return true;
}

std::string describe_unit(ConstUnit unit) {
  if (word_at(unit, 0) != kMagic) {
    return fmt::format("no stamp (begins {:016x} {:016x})", word_at(unit, 0), word_at(unit, 1));
  }
  const auto owner = static_cast<std::uint32_t>(word_at(unit, 3) >> 32);
  return fmt::format("{} at {:#x}, generation {}, checksum {}",
                     owner == kMemoryOwner ? "memory" : fmt::format("disk {}", owner), word_at(unit, 2),
                     word_at(unit, 3) & 0xffff'ffff, checksum_right(unit) ? "right" : "wrong");
}

}  // namespace gangway::guest
