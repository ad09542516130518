#include "devices/nvme/poll_budget.h"

#include <gtest/gtest.h>

namespace gangway::nvme::test {
namespace {

using namespace std::chrono_literals;

void idle_times(PollBudget& budget, std::size_t outstanding, unsigned count) {
  for (unsigned n = 0; n < count; ++n) budget.begin_idle(outstanding);
}

TEST(NvmePollBudget, is_whole_for_a_host_with_one_command_at_a_time_and_a_quarter_for_others) {
  PollBudget budget(200us, 2);
  EXPECT_EQ(budget.now(), 50us) << "nothing is known of it";
  idle_times(budget, 1, PollBudget::kSingleFor - 1);
  EXPECT_EQ(budget.now(), 50us) << "it may be chance";
  budget.begin_idle(0);
  EXPECT_EQ(budget.now(), 200us);
  budget.begin_idle(2);
  EXPECT_EQ(budget.now(), 50us);
  budget.begin_idle(1);
  EXPECT_EQ(budget.now(), 50us) << "among many, one is alone at times";
}

TEST(NvmePollBudget, of_each_kind_of_host_follows_what_was_seen_of_it) {
  PollBudget budget(200us, 2);
  idle_times(budget, 1, PollBudget::kSingleFor);
  budget.slept(1s);
  EXPECT_EQ(budget.now(), 100us);
  budget.begin_idle(32);
  EXPECT_EQ(budget.now(), 50us) << "the other one's";
  budget.slept(100us);
  EXPECT_EQ(budget.now(), 25us);
  idle_times(budget, 1, PollBudget::kSingleFor);
  EXPECT_EQ(budget.now(), 100us);
  for (int n = 0; n < 10; ++n) budget.slept(1s);
  EXPECT_EQ(budget.now(), 0us);
  budget.slept(150us);
  EXPECT_EQ(budget.now(), 200us) << "it would have covered that";
}

TEST(NvmePollBudget, is_none_where_the_host_needs_the_only_processor) {
  PollBudget budget(200us, 1);
  EXPECT_EQ(budget.now(), 0us);
  idle_times(budget, 1, PollBudget::kSingleFor);
  EXPECT_EQ(budget.now(), 0us);
}

}  // namespace
}  // namespace gangway::nvme::test
