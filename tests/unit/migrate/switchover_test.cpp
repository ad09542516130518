// The decision when to stop a machine, from figures alone.
#include "migrate/switchover.h"

#include <gtest/gtest.h>

namespace gangway::migrate {
namespace {

using namespace std::chrono_literals;

// 1 GB/s, 300 ms: 300 MB fit.
Figures usual() {
  return {.bytes_remaining = 1'000'000'000,
          .bandwidth = 1e9,
          .dirty_rate = 0.9e9,
          .rounds = 1,
          .max_rounds = 30,
          .max_downtime = 300ms};
}

TEST(Switchover, what_does_not_fit_is_copied_again) { EXPECT_EQ(decide(usual()), Decision::AnotherRound); }

TEST(Switchover, what_fits_ends_the_rounds) {
  Figures figures = usual();
  figures.bytes_remaining = 300'000'000;
  EXPECT_EQ(decide(figures), Decision::Switch);
  figures.bytes_remaining = 300'000'001;
  EXPECT_EQ(decide(figures), Decision::AnotherRound);
}

TEST(Switchover, the_fixed_part_of_the_downtime_counts) {
  Figures figures = usual();
  figures.bytes_remaining = 300'000'000;
  figures.fixed_downtime = 1ms;
  EXPECT_EQ(decide(figures), Decision::AnotherRound);
}

TEST(Switchover, patience_ends) {
  Figures figures = usual();
  figures.rounds = 30;
  EXPECT_EQ(decide(figures), Decision::SwitchRegardless);
  figures.bytes_remaining = 0;
  EXPECT_EQ(decide(figures), Decision::Switch);
}

TEST(Switchover, rounds_that_cannot_help_are_not_sent) {
  Figures figures = usual();
  figures.rounds_help = false;
  EXPECT_EQ(decide(figures), Decision::SwitchRegardless);
}

TEST(Switchover, without_a_bandwidth_nothing_fits_but_nothing) {
  Figures figures = usual();
  figures.bandwidth = 0;
  figures.bytes_remaining = 1;
  EXPECT_EQ(expected_downtime(figures), std::chrono::nanoseconds::max());
  EXPECT_EQ(decide(figures), Decision::AnotherRound);
  figures.bytes_remaining = 0;
  EXPECT_EQ(decide(figures), Decision::Switch);
}

TEST(Switchover, a_slow_enough_writer_gets_a_few_rounds_more) {
  Figures figures = usual();
  figures.bytes_remaining = 200'000'000;
  figures.dirty_rate = 0.5e9;
  for (figures.fitting_rounds = 0; figures.fitting_rounds < kMaxImprovingRounds; ++figures.fitting_rounds) {
    EXPECT_EQ(decide(figures), Decision::AnotherRound) << "after " << figures.fitting_rounds;
  }
  EXPECT_EQ(decide(figures), Decision::Switch);
}

TEST(Switchover, a_rest_smaller_than_the_fixed_part_is_not_worth_a_round) {
  Figures figures = usual();
  figures.bytes_remaining = 1'000'000;
  figures.dirty_rate = 0;
  figures.fixed_downtime = 2ms;
  EXPECT_EQ(decide(figures), Decision::Switch);
}

TEST(Switchover, absurd_figures_do_not_overflow) {
  Figures figures = usual();
  figures.bytes_remaining = ~0ULL;
  figures.bandwidth = 1e-300;
  EXPECT_EQ(expected_downtime(figures), std::chrono::nanoseconds::max());
  EXPECT_EQ(decide(figures), Decision::AnotherRound);
}

}  // namespace
}  // namespace gangway::migrate
