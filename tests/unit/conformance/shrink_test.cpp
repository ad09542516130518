#include "conformance/shrink.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace gangway::conformance {
namespace {

std::vector<Act> numbered(std::uint64_t count) {
  std::vector<Act> acts;
  for (std::uint64_t i = 0; i < count; ++i) acts.push_back({.kind = Act::Kind::Read, .number = i});
  return acts;
}

std::vector<std::uint64_t> numbers(const std::vector<Act>& acts) {
  std::vector<std::uint64_t> all;
  for (const Act& act : acts) all.push_back(act.number);
  return all;
}

bool has(const std::vector<Act>& acts, std::uint64_t number) {
  return std::ranges::find(acts, number, &Act::number) != acts.end();
}

TEST(Shrink, leaves_what_the_failure_needs_in_its_order) {
  const auto shortest =
      shrink(numbered(100), [](const auto& acts) { return has(acts, 3) && has(acts, 57) && has(acts, 99); }, 1000);
  EXPECT_EQ(numbers(shortest), (std::vector<std::uint64_t>{3, 57, 99}));
}

TEST(Shrink, finds_acts_that_matter_only_together) {
  // Either both or neither.
  const auto shortest =
      shrink(numbered(8), [](const auto& acts) { return has(acts, 7) && has(acts, 2) == has(acts, 3); }, 1000);
  EXPECT_EQ(numbers(shortest), (std::vector<std::uint64_t>{7}));
}

TEST(Shrink, never_tries_nothing_at_all) {
  bool tried_nothing = false;
  const auto shortest = shrink(
      numbered(5),
      [&](const auto& acts) {
        tried_nothing |= acts.empty();
        return true;
      },
      1000);
  EXPECT_FALSE(tried_nothing);
  EXPECT_EQ(shortest.size(), 1U);
}

TEST(Shrink, tries_no_more_often_than_it_may) {
  for (const std::uint32_t plays : {0U, 1U, 7U}) {
    std::uint32_t tries = 0;
    const auto shortest = shrink(
        numbered(64),
        [&](const auto& acts) {
          ++tries;
          return has(acts, 0);
        },
        plays);
    EXPECT_LE(tries, plays);
    EXPECT_TRUE(has(shortest, 0));
    if (plays == 0) {
      EXPECT_EQ(shortest.size(), 64U);
    }
  }
}

}  // namespace
}  // namespace gangway::conformance
