// What `gangway contract --json` prints, for those who read it by program.
#include <gtest/gtest.h>

#include <set>
#include <string>
#include <vector>

#include <gangway/contract.h>
#include <nlohmann/json.hpp>

#include "guest/child_process.h"

namespace gangway {
namespace {

using nlohmann::json;

class ContractJson : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    const auto printed = guest::run_tool(GANGWAY_PROGRAM, {"contract", "--json"});
    ASSERT_TRUE(printed) << printed.error().message;
    ASSERT_EQ(printed->status, 0) << printed->output;
    printed_ = json::parse(printed->output, nullptr, false);
    ASSERT_TRUE(printed_.is_object()) << "not one JSON object: " << printed->output;
  }
  static inline json printed_;
};

std::set<std::string> keys(const json& object) {
  std::set<std::string> all;
  for (const auto& [key, value] : object.items()) all.insert(key);
  return all;
}

TEST_F(ContractJson, has_paths_and_clauses) {
  EXPECT_EQ(keys(printed_), (std::set<std::string>{"paths", "clauses"}));
  EXPECT_EQ(keys(printed_["paths"]), (std::set<std::string>{"1", "3", "5", "7"}));
}

TEST_F(ContractJson, has_a_row_and_a_column_for_each_state_that_the_flags_have) {
  const std::set<std::string> always{"STOP", "RUNNING", "STOP_COPY", "RESUMING"};
  for (const unsigned flags : {1U, 3U, 5U, 7U}) {
    std::set<std::string> states = always;
    if ((flags & 2U) != 0) states.insert("RUNNING_P2P");
    if ((flags & 4U) != 0) states.insert("PRE_COPY");
    if (flags == 7) states.insert("PRE_COPY_P2P");
    const json& paths = printed_["paths"][std::to_string(flags)];
    EXPECT_EQ(keys(paths), states) << "flags " << flags;
    for (const std::string& from : states) EXPECT_EQ(keys(paths[from]), states) << "flags " << flags << ", " << from;
  }
}

// FSM-ARC, FSM-BLOCKED: a list of the states entered, which ends with the one asked for; or "EINVAL".
TEST_F(ContractJson, tells_of_each_pair_the_states_entered_or_einval) {
  std::size_t refused = 0;
  for (const auto& [flags, paths] : printed_["paths"].items()) {
    for (const auto& [from, row] : paths.items()) {
      for (const auto& [to, path] : row.items()) {
        SCOPED_TRACE(testing::Message() << "flags " << flags << ", " << from << " to " << to);
        if (from == "STOP_COPY" && to.starts_with("PRE_COPY")) {
          EXPECT_EQ(path, "EINVAL");
          ++refused;
          continue;
        }
        ASSERT_TRUE(path.is_array()) << path;
        EXPECT_EQ(path.empty(), from == to) << path;
        if (path.empty()) continue;
        EXPECT_EQ(path.back(), to);
        for (const json& state : path) EXPECT_TRUE(row.contains(state.get<std::string>())) << state;
      }
    }
  }
  EXPECT_EQ(refused, 3U) << "flags 5 have one such pair, flags 7 two";
}

TEST_F(ContractJson, has_the_longest_ways_step_by_step) {
  const json& paths = printed_["paths"];
  EXPECT_EQ(paths["7"]["PRE_COPY"]["RESUMING"], json({"RUNNING", "RUNNING_P2P", "STOP", "RESUMING"}));
  EXPECT_EQ(paths["7"]["PRE_COPY"]["STOP_COPY"], json({"PRE_COPY_P2P", "STOP_COPY"}));
  EXPECT_EQ(paths["5"]["PRE_COPY"]["STOP_COPY"], json::array({"STOP_COPY"}));
  EXPECT_EQ(paths["3"]["RUNNING"]["STOP_COPY"], json({"RUNNING_P2P", "STOP", "STOP_COPY"}));
  EXPECT_EQ(paths["1"]["RUNNING"]["STOP_COPY"], json::array({"STOP", "STOP_COPY"}));
}

TEST_F(ContractJson, has_every_clause_with_its_text_and_source) {
  const json& printed = printed_["clauses"];
  ASSERT_EQ(printed.size(), contract::clauses().size());
  for (std::size_t i = 0; i < printed.size(); ++i) {
    const contract::Clause& clause = contract::clauses()[i];
    EXPECT_EQ(printed[i], json({{"id", clause.id}, {"text", clause.text}, {"source", clause.source}}));
  }
}

}  // namespace
}  // namespace gangway
