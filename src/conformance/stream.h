// Migration data as the suite handles it: bytes, and the ways to spoil them that a script can name.
//
// Thread-safety: values.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace gangway::conformance {

using Bytes = std::vector<std::byte>;

// One change to a good stream.
struct Variant {
  enum class Kind : std::uint8_t {
    Good,    // as it was saved
    Cut,     // only the first `at` bytes
    Extend,  // `at` further bytes behind it
    Flip,    // bit number `at` inverted
    Swap,    // the stretches of `size` bytes at `at` and behind it exchanged
    Omit,    // without the `size` bytes at `at`
    Noise,   // as long, but of pseudo-random bytes
  };
  Kind kind = Kind::Good;
  std::uint64_t at = 0;
  std::uint64_t size = 0;
};

// "good", "cut 17", "swap 0 512"
[[nodiscard]] std::string to_text(const Variant& variant);
[[nodiscard]] std::optional<Variant> parse_variant(std::string_view text);

[[nodiscard]] Bytes spoil(const Variant& variant, const Bytes& good);

}  // namespace gangway::conformance
