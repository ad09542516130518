#include "conformance/stream.h"

#include <algorithm>
#include <array>
#include <random>
#include <sstream>

#include <fmt/core.h>

namespace gangway::conformance {
namespace {

struct Name {
  Variant::Kind kind;
  std::string_view word;
  int numbers;
};
constexpr std::array<Name, 7> kNames{{{Variant::Kind::Good, "good", 0},
                                      {Variant::Kind::Cut, "cut", 1},
                                      {Variant::Kind::Extend, "extend", 1},
                                      {Variant::Kind::Flip, "flip", 1},
                                      {Variant::Kind::Swap, "swap", 2},
                                      {Variant::Kind::Omit, "omit", 2},
                                      {Variant::Kind::Noise, "noise", 0}}};

constexpr std::byte kFiller{0x5a};

}  // namespace

std::string to_text(const Variant& variant) {
  const Name& name = *std::ranges::find(kNames, variant.kind, &Name::kind);
  std::string text(name.word);
  if (name.numbers > 0) text += fmt::format(" {}", variant.at);
  if (name.numbers > 1) text += fmt::format(" {}", variant.size);
  return text;
}

std::optional<Variant> parse_variant(std::string_view text) {
  std::istringstream words{std::string(text)};
  std::string word;
  words >> word;
  const auto* const name = std::ranges::find(kNames, word, &Name::word);
  if (name == kNames.end()) return std::nullopt;
  Variant variant{.kind = name->kind};
  if (name->numbers > 0) words >> variant.at;
  if (name->numbers > 1) words >> variant.size;
  if (!words || (words >> word)) return std::nullopt;
  return variant;
}

Bytes spoil(const Variant& variant, const Bytes& good) {
  Bytes bytes = good;
  const std::size_t at = std::min<std::size_t>(variant.at, good.size());
  const std::size_t size = std::min<std::size_t>(variant.size, good.size() - at);
  const auto place = bytes.begin() + static_cast<std::ptrdiff_t>(at);
  switch (variant.kind) {
    case Variant::Kind::Good:
      break;
    case Variant::Kind::Cut:
      bytes.resize(at);
      break;
    case Variant::Kind::Extend:
      bytes.insert(bytes.end(), variant.at, kFiller);
      break;
    case Variant::Kind::Flip:
      if (variant.at / 8 < bytes.size()) bytes[variant.at / 8] ^= std::byte{1} << static_cast<int>(variant.at % 8);
      break;
    case Variant::Kind::Swap:
      if (at + 2 * size <= bytes.size()) {
        std::swap_ranges(place, place + static_cast<std::ptrdiff_t>(size), place + static_cast<std::ptrdiff_t>(size));
      }
      break;
    case Variant::Kind::Omit:
      bytes.erase(place, place + static_cast<std::ptrdiff_t>(size));
      break;
    case Variant::Kind::Noise: {
      std::mt19937_64 random(good.size());
      for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
      break;
    }
  }
  return bytes;
}

}  // namespace gangway::conformance
