// XXH3-64, streaming, in the widest form that this machine runs.
#pragma once

#include <cstddef>
#include <cstdint>

namespace gangway {

// The few calls of xxhash that a stream needs, compiled for one instruction set.
struct Xxh3 {
  void* (*create)();  // nullptr when out of memory
  void (*destroy)(void* state);
  void (*reset)(void* state, std::uint64_t seed);
  void (*update)(void* state, const void* bytes, std::size_t size);
  std::uint64_t (*digest)(const void* state);
};

extern const Xxh3 kXxh3Portable;
#ifdef __x86_64__
extern const Xxh3 kXxh3Avx2;  // three times as fast; only where the processor has AVX2
#endif

// The widest that this processor has.
const Xxh3& fastest_xxh3();

}  // namespace gangway
