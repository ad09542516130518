#include <regex>
#include <set>
#include <string>
#include <vector>

#include <gangway/contract.h>
#include <gtest/gtest.h>

namespace gangway::contract {
namespace {

// Runs of letters, digits and '_', such as RUNNING_P2P.
std::vector<std::string> words_of(std::string_view text) {
  static const std::regex word("[A-Za-z0-9_]+");
  const std::string whole(text);
  std::vector<std::string> words;
  for (std::sregex_iterator at(whole.begin(), whole.end(), word); at != std::sregex_iterator(); ++at) {
    words.push_back(at->str());
  }
  return words;
}

TEST(Clauses, have_an_identifier_a_text_and_a_source) {
  std::set<std::string_view> seen;
  for (const Clause& clause : clauses()) {
    EXPECT_TRUE(seen.insert(clause.id).second) << clause.id << " stands twice";
    EXPECT_FALSE(clause.text.empty()) << clause.id;
    EXPECT_FALSE(clause.source.empty()) << clause.id;
  }
  EXPECT_EQ(seen.size(), clauses().size());
}

// A text that lost a sign still reads well and says something else: "in _P2P", "outside PRE_COPY".
TEST(Clauses, name_states_in_full_and_those_of_pre_copy_together) {
  for (const Clause& clause : clauses()) {
    SCOPED_TRACE(clause.id);
    EXPECT_EQ(clause.text.find_first_of("*`"), std::string_view::npos) << "a mark of some page's notation";
    std::set<std::string> names;
    for (const std::string& word : words_of(clause.text)) {
      EXPECT_FALSE(word.starts_with('_') || word.ends_with('_')) << word << " is a part of a name";
      names.insert(word);
    }
    const bool of_the_feature = clause.text.contains("without PRE_COPY");
    EXPECT_TRUE(!names.contains("PRE_COPY") || of_the_feature || names.contains("PRE_COPY_P2P"));
  }
}

TEST(Clauses, are_found_by_identifier) {
  const Clause* founding = find_clause("RST-NOT-REQUIRED");
  ASSERT_NE(founding, nullptr);
  EXPECT_TRUE(founding->text.starts_with("RESUMING needs no prior reset"));
  EXPECT_EQ(find_clause("RST"), nullptr);
}

}  // namespace
}  // namespace gangway::contract
