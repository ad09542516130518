#include "base/copy_past_cache.h"

#include <algorithm>
#include <cstdint>
#include <cstring>

#ifdef __x86_64__
#include <emmintrin.h>
#endif

namespace gangway {
namespace {

#ifdef __x86_64__

constexpr std::size_t kLine = 64;

void copy_line_past_cache(std::byte* to, const std::byte* from) {
  for (std::size_t at = 0; at < kLine; at += sizeof(__m128i)) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + at));
    _mm_stream_si128(reinterpret_cast<__m128i*>(to + at), bytes);
  }
}

std::size_t bytes_before_a_line(const std::byte* at) { return (kLine - reinterpret_cast<std::uintptr_t>(at)) % kLine; }

#endif

}  // namespace

void copy_past_cache(std::span<std::byte> to, std::span<const std::byte> from) {
#ifdef __x86_64__
  const std::size_t before = std::min(bytes_before_a_line(to.data()), from.size());
  std::memcpy(to.data(), from.data(), before);
  std::size_t at = before;
  for (; from.size() - at >= kLine; at += kLine) copy_line_past_cache(to.data() + at, from.data() + at);
  _mm_sfence();
  std::memcpy(to.data() + at, from.data() + at, from.size() - at);
#else
  std::memcpy(to.data(), from.data(), from.size());
#endif
}

}  // namespace gangway
