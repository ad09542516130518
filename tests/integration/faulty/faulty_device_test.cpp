// Each faulty device is wrong in the act that its name stands for, and the good one is right in all of them; so none
// is a dud, and what a suite finds is the defect.
#include <gtest/gtest.h>

#include <ostream>
#include <set>

#include "integration/faulty/acts.h"

namespace gangway::faulty {
namespace {

using namespace std::chrono_literals;

// Some defects hang; a good device answers within this on any machine that the tests are run on.
constexpr std::chrono::milliseconds kTimeout = 3s;

MigrationFlags flags_for(const Defect& defect) {
  return defect.shown_with({true, true}) ? MigrationFlags{true, true} : MigrationFlags{};
}

// What is wrong; empty: nothing.
std::string perform(const Defect& defect, const Defect* served) {
  try {
    Bench bench(
        served,
        {.flags = flags_for(defect), .revisions = defect.through, .timeout = served == nullptr ? 60s : kTimeout});
    acts().at(defect.name)(bench);
  } catch (const Wrong& wrong) {
    return wrong.what;
  }
  return {};
}

class FaultyDevice : public testing::TestWithParam<std::string_view> {
 protected:
  const Defect& defect_ = *find_defect(GetParam());
};

TEST_P(FaultyDevice, is_wrong_in_its_act) { EXPECT_NE(perform(defect_, &defect_), "") << defect_.text; }

TEST_P(FaultyDevice, differs_in_its_act_from_the_good_one) { EXPECT_EQ(perform(defect_, nullptr), "") << defect_.name; }

TEST_P(FaultyDevice, breaks_clauses_of_the_contract) {
  std::string_view clauses = defect_.clauses;
  while (!clauses.empty()) {
    const std::string_view clause = clauses.substr(0, clauses.find(' '));
    EXPECT_NE(contract::find_clause(clause), nullptr) << clause;
    clauses.remove_prefix(std::min(clauses.size(), clause.size() + 1));
  }
  EXPECT_FALSE(defect_.text.empty());
  EXPECT_FALSE(defect_.seen.empty());
}

// It is one small change: what it does not touch works, in each flag set.
TEST_P(FaultyDevice, connects_and_identifies_itself) {
  for (const MigrationFlags flags : kAllMigrationFlags) {
    Revisions revisions = defect_.through;
    revisions.v2 = true;
    Bench bench(&defect_, {.flags = flags, .revisions = revisions, .timeout = kTimeout});
    EXPECT_EQ(bench.get32(kIdent), kIdentValue);
    EXPECT_TRUE(bench.is_in(DeviceState::Running));
    EXPECT_EQ(need(bench.device().migration_flags(), "flags"), flags);
  }
}

std::vector<std::string_view> names() {
  std::vector<std::string_view> all;
  for (const Defect& defect : defects()) all.push_back(defect.name);
  return all;
}
INSTANTIATE_TEST_SUITE_P(All, FaultyDevice, testing::ValuesIn(names()),
                         [](const auto& param) { return std::string(param.param); });

TEST(FaultyDevices, each_has_a_name_and_an_act_of_its_own) {
  const std::vector<std::string_view> all = names();
  const std::set<std::string_view> unique(all.begin(), all.end());
  EXPECT_EQ(unique.size(), all.size());
  EXPECT_EQ(acts().size(), all.size());
  for (const std::string_view name : all) EXPECT_TRUE(acts().contains(name)) << name;
}

}  // namespace
}  // namespace gangway::faulty
