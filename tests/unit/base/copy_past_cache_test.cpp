#include "base/copy_past_cache.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

namespace gangway {
namespace {

TEST(CopyPastCache, copies_every_byte_and_touches_no_other) {
  constexpr std::byte kUntouched{0xee};
  std::vector<std::byte> source(512);
  for (std::size_t i = 0; i < source.size(); ++i) source[i] = static_cast<std::byte>(i % 201 + 1);
  for (std::size_t to_begin = 0; to_begin < 64; to_begin += 3) {
    for (std::size_t from_begin : {0U, 1U, 16U}) {
      for (std::size_t size = 0; size <= 300; ++size) {
        std::vector<std::byte> target(512, kUntouched);
        const auto from = std::span(source).subspan(from_begin, size);
        const auto to = std::span(target).subspan(to_begin, size);
        copy_past_cache(to, from);
        ASSERT_TRUE(std::ranges::equal(to, from)) << size << " bytes to " << to_begin;
        const auto untouched = std::ranges::count(target, kUntouched) - std::ranges::count(from, kUntouched);
        ASSERT_EQ(static_cast<std::size_t>(untouched), target.size() - size) << size << " bytes to " << to_begin;
      }
    }
  }
}

}  // namespace
}  // namespace gangway
