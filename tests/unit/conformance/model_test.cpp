// The reference model: it allows what the contract allows, and names the clause of what it does not.
#include "conformance/model.h"

#include <gtest/gtest.h>

namespace gangway::conformance {
namespace {

using enum DeviceState;
using Kind = Act::Kind;

constexpr MigrationFlags kAll{.p2p = true, .pre_copy = true};
constexpr std::size_t kStream = 100;

Outcome success(DeviceState state) { return {.error = {}, .state = state}; }
Outcome failure(int code, DeviceState state) { return {.error = gangway::Error{code, "no", {}}, .state = state}; }
Outcome read(std::size_t size, StreamEnd end, DeviceState state) {
  return {.error = {}, .size = size, .end = end, .state = state};
}

class ModelTest : public ::testing::Test {
 protected:
  void allows(const Act& act, const Outcome& outcome) {
    const auto finding = model_.judge(act, outcome);
    EXPECT_FALSE(finding.has_value()) << to_text(act) << ": " << finding->clause << ": " << finding->came;
  }
  void forbids(const Act& act, const Outcome& outcome, std::string_view clause) {
    const auto finding = model_.judge(act, outcome);
    ASSERT_TRUE(finding.has_value()) << to_text(act);
    EXPECT_EQ(finding->clause, clause) << finding->expected << "; " << finding->came;
  }
  void go(DeviceState state) { allows(Act::set(state), success(state)); }
  void load(std::size_t bytes) { allows({.kind = Kind::Write, .number = bytes}, success(Resuming)); }

  Model model_{kAll, kStream};
};

TEST_F(ModelTest, every_pair_of_the_contract_is_allowed_and_no_other) {
  for (const MigrationFlags flags : kAllMigrationFlags) {
    for (std::uint32_t to = 0; to < kDeviceStates; ++to) {
      Model model(flags, kStream);
      const auto target = static_cast<DeviceState>(to);
      EXPECT_EQ(model.is_legal(Act::set(target)), contract::path(Running, target, flags).has_value()) << to;
    }
  }
}

TEST_F(ModelTest, a_whole_load_leaves_resuming_and_must) {
  go(Resuming);
  load(60);
  load(60);
  EXPECT_TRUE(model_.whole());
  forbids(Act::set(Running), failure(EINVAL, Resuming), "DAT-STREAM");
}

TEST_F(ModelTest, a_load_that_is_not_whole_must_fail_and_may_go_on) {
  go(Resuming);
  load(60);
  allows(Act::set(Stop), failure(EINVAL, Resuming));
  load(40);
  Model other = model_;
  // Whether the rest heals it is not said: both are right.
  EXPECT_FALSE(model_.judge(Act::set(Stop), failure(EINVAL, Resuming)).has_value());
  EXPECT_FALSE(other.judge(Act::set(Stop), success(Stop)).has_value());
}

TEST_F(ModelTest, an_empty_load_that_is_let_in_breaks_validation) {
  go(Resuming);
  forbids(Act::set(Stop), success(Stop), "DAT-VALIDATE");
}

TEST_F(ModelTest, a_refused_load_may_end_in_error_and_only_a_reset_leaves_it) {
  go(Resuming);
  allows(Act::set(Stop), failure(EIO, Error));
  allows(Act::set(Running), failure(EIO, Error));
  allows({.kind = Kind::Reset}, success(Running));
  go(Stop);
}

TEST_F(ModelTest, a_refused_load_must_not_end_beyond_resuming) {
  go(Resuming);
  forbids(Act::set(Running), failure(EIO, Stop), "FSM-FAIL");
}

TEST_F(ModelTest, the_refused_pairs_must_be_refused_with_einval_in_place) {
  go(StopCopy);
  EXPECT_FALSE(model_.is_legal(Act::set(PreCopy)));
  EXPECT_TRUE(model_.is_refused_pair(Act::set(PreCopy)));
  allows(Act::set(PreCopy), failure(EINVAL, StopCopy));
  forbids(Act::set(PreCopy), failure(EIO, StopCopy), "FSM-BLOCKED");
}

TEST_F(ModelTest, ends_of_data_are_told_apart) {
  go(PreCopy);
  allows({.kind = Kind::ReadAll}, read(40, StreamEnd::Temporary, PreCopy));
  forbids({.kind = Kind::Read}, read(0, StreamEnd::Final, PreCopy), "DAT-EOS-PRECOPY");
  go(StopCopy);
  allows({.kind = Kind::ReadAll}, read(60, StreamEnd::Final, StopCopy));
  forbids({.kind = Kind::Read}, read(3, StreamEnd::More, StopCopy), "DAT-EOS-STOP");
}

TEST_F(ModelTest, data_the_wrong_way_round_must_fail) {
  forbids({.kind = Kind::Read}, read(1, StreamEnd::More, Running), "DAT-DIRECTION");
  allows({.kind = Kind::Write, .number = 1}, failure(EINVAL, Running));
}

TEST_F(ModelTest, a_second_save_that_fails_is_about_repetition) {
  go(PreCopy);
  go(Running);
  forbids(Act::set(StopCopy), failure(EBUSY, Running), "FSM-REPEAT");
}

TEST_F(ModelTest, resuming_that_is_refused_is_about_resets) {
  forbids(Act::set(Resuming), failure(EINVAL, Running), "RST-NOT-REQUIRED");
}

TEST_F(ModelTest, a_log_does_not_depend_on_states) {
  allows({.kind = Kind::LogReport}, failure(EINVAL, Running));
  allows({.kind = Kind::LogStart}, success(Running));
  forbids({.kind = Kind::LogStart}, success(Running), "LOG-START");
  go(Stop);
  forbids({.kind = Kind::LogReport}, failure(EINVAL, Stop), "LOG-EXACT");
}

TEST_F(ModelTest, a_reset_may_or_may_not_end_the_log) {
  allows({.kind = Kind::LogStart}, success(Running));
  allows({.kind = Kind::Reset}, success(Running));
  Model other = model_;
  EXPECT_FALSE(model_.judge({.kind = Kind::LogReport}, success(Running)).has_value());
  EXPECT_FALSE(other.judge({.kind = Kind::LogReport}, failure(EINVAL, Running)).has_value());
}

TEST_F(ModelTest, nothing_else_changes_the_state) {
  go(Stop);
  forbids({.kind = Kind::Size}, success(Running), "FSM-COMPLETE");
}

TEST_F(ModelTest, a_state_that_is_left_behind_breaks_the_first_clause) {
  go(StopCopy);
  forbids({.kind = Kind::Open}, success(StopCopy), "FSM-INITIAL");
}

}  // namespace
}  // namespace gangway::conformance
