// Compiled with -mavx2, so it includes nothing whose inline functions another file may share: the linker would be free
// to keep the AVX2 form of them for all.
#include "base/xxh3.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace gangway {

const Xxh3 kXxh3Avx2{
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

}  // namespace gangway
