#include "device/map_budget.h"

#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include <gangway/dma.h>

#include "unit/device/matchers.h"

namespace gangway::detail {
namespace {

using test::FailsWith;
using test::IsOk;

constexpr std::size_t kAny = ~std::size_t{0};

std::vector<std::unique_ptr<MapShare>> shares(MapBudget& budget, std::size_t count) {
  std::vector<std::unique_ptr<MapShare>> made;
  for (std::size_t i = 0; i < count; ++i) made.push_back(std::make_unique<MapShare>(budget, kAny));
  return made;
}

TEST(MapBudget, one_device_has_nearly_all_and_no_more_than_it_wants) {
  MapBudget budget(64'000);
  MapShare all(budget, kAny);
  EXPECT_GE(all.size(), 60'000U);
  EXPECT_LT(all.size(), budget.total()) << "nothing is left for a device that is made later";
  all.give_back();
  MapShare few(budget, 16);
  EXPECT_EQ(few.size(), 16U);
}

TEST(MapBudget, devices_whose_clients_have_not_come_keep_their_part) {
  MapBudget budget(64'000);
  for (const std::size_t count : {2U, 3U, 16U, 500U}) {
    SCOPED_TRACE(testing::Message() << count << " devices");
    const auto all = shares(budget, count);
    const std::size_t first = all.front()->size();
    std::size_t sum = 0;
    for (const auto& share : all) {
      EXPECT_NEAR(static_cast<double>(share->size()), static_cast<double>(first), 1);
      sum += share->size();
    }
    EXPECT_GE(first, budget.total() / (count + 1));
    EXPECT_LE(sum, budget.total());
  }
}

TEST(MapBudget, a_share_stays_as_it_was_promised_whoever_comes_and_goes) {
  MapBudget budget(64'000);
  MapShare first(budget, kAny);
  const std::size_t promised = first.size();
  auto others = shares(budget, 10);
  for (const auto& other : others) EXPECT_GT(other->size(), 0U) << "a device that is made later finds something";
  EXPECT_EQ(first.size(), promised);
  others.clear();
  EXPECT_EQ(first.size(), promised);
}

// The client of one goes and comes again and again, and never takes what another one's may have.
TEST(MapBudget, who_comes_again_finds_no_more_than_its_part) {
  MapBudget budget(64'000);
  const auto both = shares(budget, 2);
  const std::size_t fair = both[0]->size();
  for (int i = 0; i < 3; ++i) {
    both[0]->give_back();
    EXPECT_EQ(both[0]->size(), fair);
  }
  EXPECT_NEAR(static_cast<double>(both[1]->size()), static_cast<double>(fair), 1);
  both[0]->give_back();
  EXPECT_GE(both[0]->size(), fair);
}

TEST(MapBudget, what_a_device_had_is_there_for_the_next) {
  MapBudget budget(64'000);
  std::size_t first = 0;
  for (int i = 0; i < 100; ++i) {
    MapShare one(budget, kAny);
    if (i == 0) first = one.size();
    EXPECT_EQ(one.size(), first);
  }
}

TEST(MapBudget, no_budget_at_all_is_no_mapping) {
  MapBudget budget(0);
  MapShare one(budget, kAny);
  EXPECT_EQ(one.size(), 0U);
}

// By messages, which takes no mapping of the process, since so many of those take long.
TEST(MapBudget, a_space_holds_its_share_until_its_client_is_gone) {
  DmaLog log;
  DmaSpace space(log, 3);
  DmaSpace other(log);
  const std::size_t promised = other.max_maps();
  EXPECT_EQ(space.max_maps(), 3U);
  for (std::uint64_t i = 0; i < 3; ++i) ASSERT_THAT(space.map({.range = {Iova{i << 12}, 0x1000}}), IsOk());
  EXPECT_THAT(space.map({.range = {Iova{3U << 12}, 0x1000}}), FailsWith(ENOSPC));
  space.unmap_all();
  DmaSpace third(log);
  EXPECT_LE(third.max_maps() + promised + space.max_maps(), MapBudget::of_process().total());
  EXPECT_EQ(other.max_maps(), promised);
  other.release_share();
  EXPECT_GT(other.max_maps(), 0U);
}

}  // namespace
}  // namespace gangway::detail
