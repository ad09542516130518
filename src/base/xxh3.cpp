#include "base/xxh3.h"

#include <xxhash.h>

namespace gangway {

const Xxh3 kXxh3Portable{
    .create = [] { return static_cast<void*>(XXH3_createState()); },
    .destroy = [](void* state) { XXH3_freeState(static_cast<XXH3_state_t*>(state)); },
    .reset = [](void* state,
                std::uint64_t seed) { XXH3_64bits_reset_withSeed(static_cast<XXH3_state_t*>(state), seed); },
    .update = [](void* state, const void* bytes,
                 std::size_t size) { XXH3_64bits_update(static_cast<XXH3_state_t*>(state), bytes, size); },
    .digest = [](const void* state) -> std::uint64_t {
      return XXH3_64bits_digest(static_cast<const XXH3_state_t*>(state));
    },
};

const Xxh3& fastest_xxh3() {
#ifdef __x86_64__
  static const bool avx2 = __builtin_cpu_supports("avx2") != 0;
  if (avx2) return kXxh3Avx2;
#endif
  return kXxh3Portable;
}

}  // namespace gangway
