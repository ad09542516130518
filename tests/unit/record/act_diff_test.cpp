// Two sessions are compared by what they did, not by when or by what names things.
#include "record/act_diff.h"

#include <gtest/gtest.h>

#include <random>

#include "record/act_filter.h"

namespace gangway::record {
namespace {

Act act(Doing doing, std::uint32_t connection = 1) {
  return {.doing = std::move(doing), .connection = connection, .answered = true};
}

Act state(std::uint32_t number) { return act(SetState{number}); }

TEST(ActDiff, clocks_handles_and_opaque_data_are_no_difference) {
  Act a = act(ReadData{.asked = 4096, .got = {.size = 4000, .hash = 1}}, 3);
  Act b = act(ReadData{.asked = 4096, .got = {.size = 4096, .hash = 2}}, 8);
  a.time = Time(5);
  b.took = Time(9);
  const Act open_a = act(Open{"process 1"}, 3);
  const Act open_b = act(Open{"process 2"}, 8);
  const Comparison found = compare(std::vector{open_a, a}, std::vector{open_b, b});
  EXPECT_TRUE(found.differences.empty());
  EXPECT_EQ(found.same, 2U);
}

TEST(ActDiff, an_act_that_has_other_fields_one_that_is_missing_and_one_too_many_are_told) {
  Act failed = act(Reset{});
  failed.error = EIO;
  const Comparison found = compare(std::vector{state(1), state(3), act(Reset{}), state(2)},
                                   std::vector{state(1), state(4), failed, act(GetInfo{}), state(2)});
  EXPECT_EQ(found.same, 2U);
  EXPECT_FALSE(found.differences.empty());
  std::string all;
  for (const Difference& one : found.differences) all += one.left_text + "|" + one.right_text + "\n";
  EXPECT_NE(all.find("set_state state=STOP_COPY"), all.npos) << all;
  EXPECT_NE(all.find("reset error=EIO"), all.npos) << all;
  EXPECT_NE(all.find("get_info"), all.npos) << all;
}

TEST(ActDiff, the_acts_of_the_device_may_fall_between_other_acts_of_the_client) {
  Act dma = act(DeviceReads{.iova = {0x1000}, .size = 64});
  dma.by_device = true;
  EXPECT_TRUE(compare(std::vector{state(1), dma, state(2)}, std::vector{state(1), state(2), dma}).differences.empty());
}

TEST(ActDiff, the_shortest_difference_is_found) {
  std::mt19937 random(7);
  for (int round = 0; round < 200; ++round) {
    std::vector<Act> left;
    for (std::size_t i = 0; i < 30; ++i) left.push_back(state(random() % 8));
    std::vector<Act> right = left;
    const std::size_t removed = random() % 4;
    for (std::size_t i = 0; i < removed; ++i)
      right.erase(right.begin() + static_cast<std::ptrdiff_t>(random() % right.size()));
    const Comparison found = compare(left, right);
    EXPECT_EQ(found.differences.size(), removed);
    EXPECT_EQ(found.same, left.size() - removed);
  }
}

TEST(ActDiff, sessions_that_have_nothing_in_common_are_given_up_in_bounded_time) {
  std::vector<Act> left;
  std::vector<Act> right;
  for (std::uint64_t i = 0; i < 20'000; ++i) {
    left.push_back(act(ReadRegion{.offset = i}));
    right.push_back(act(WriteRegion{.offset = i}));
  }
  const Comparison found = compare(left, right);
  EXPECT_TRUE(found.gave_up);
  EXPECT_FALSE(found.differences.empty());
}

TEST(ActSelection, acts_are_chosen_by_the_state_that_the_device_was_in) {
  ActSelection selection({.state = 3});
  std::vector<bool> chosen;
  Act refused = state(6);
  refused.error = EINVAL;
  const std::vector<Act> acts{act(Open{}), state(3), act(ReadData{}), act(Reset{}),     act(GetInfo{}),
                              state(3),    refused,  act(GetInfo{}),  act(GetState{3}), act(GetInfo{})};
  for (const Act& one : acts) chosen.push_back(selection.wants(one));
  EXPECT_EQ(chosen, (std::vector{false, false, true, true, false, false, true, false, false, true}));
}

}  // namespace
}  // namespace gangway::record
