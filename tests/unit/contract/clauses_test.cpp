#include <set>

#include <gangway/contract.h>
#include <gtest/gtest.h>

namespace gangway::contract {
namespace {

TEST(Clauses, have_an_identifier_a_text_and_a_source) {
  std::set<std::string_view> seen;
  for (const Clause& clause : clauses()) {
    EXPECT_TRUE(seen.insert(clause.id).second) << clause.id << " stands twice";
    EXPECT_FALSE(clause.text.empty()) << clause.id;
    EXPECT_FALSE(clause.source.empty()) << clause.id;
  }
  EXPECT_EQ(seen.size(), clauses().size());
}

TEST(Clauses, are_found_by_identifier) {
  const Clause* founding = find_clause("RST-NOT-REQUIRED");
  ASSERT_NE(founding, nullptr);
  EXPECT_TRUE(founding->text.starts_with("RESUMING needs no prior reset"));
  EXPECT_EQ(find_clause("RST"), nullptr);
}

}  // namespace
}  // namespace gangway::contract
