// The checksum of a state stream: each covers a section and, through its seed, everything before it.
//
// Because of the chain a section verifies only at its place in its own stream: one that was moved, repeated, left out
// or taken from another stream does not.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "base/xxh3.h"

namespace gangway {

class StateChecksum {
 public:
  StateChecksum();

  void update(std::span<const std::byte> bytes);

  // The checksum of what was given since the last seal; the next one is seeded with it.
  [[nodiscard]] std::uint64_t seal();

 private:
  const Xxh3& xxh3_;
  std::unique_ptr<void, void (*)(void*)> state_;
};

}  // namespace gangway
