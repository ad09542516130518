// `gangway check` as its users run it.
#include <gtest/gtest.h>

#include <stdexcept>

#include "guest/child_process.h"

namespace gangway::integration {
namespace {

using Words = std::vector<std::string>;

guest::ToolResult run(const Words& words) {
  auto result = guest::run_tool(GANGWAY_PROGRAM, words);
  if (!result) throw std::runtime_error(result.error().message);
  return *std::move(result);
}

// Small enough for a slow machine; nobody is in a hurry.
Words with_little_work(Words words) {
  for (const char* word : {"--depth", "1", "--cycles", "5", "--walk", "30", "--time-limit", "60"})
    words.emplace_back(word);
  return words;
}

// The self-test serves the devices itself, so it is what starts processes here too.
std::string self_test(const std::string& devices, int status) {
  const guest::ToolResult result =
      run(with_little_work({"check", "--self-test", "--strict", "--jobs", "1", "--select", devices}));
  EXPECT_EQ(result.status, status) << result.output;
  return result.output;
}

TEST(Check, good_devices_pass_in_every_flag_set) {
  const std::string output = self_test("good serial", 0);
  EXPECT_NE(output.find("0 failures on good devices"), std::string::npos) << output;
  self_test("good nvme", 0);
}

TEST(Check, a_faulty_device_is_caught_by_the_clause_it_breaks) {
  for (const char* device : {"resuming_needs_reset", "truncated_stream_accepted", "config_dead_in_stop",
                             "report_misses_last_page", "dma_in_stop", "mappings_left_by_vanished_client"}) {
    const std::string output = self_test(device, 0);
    EXPECT_NE(output.find("1 faulty devices, 1 caught, 0 blamed"), std::string::npos) << output;
  }
}

TEST(Check, what_cannot_run_says_so) {
  EXPECT_EQ(run({"check"}).status, 2);
  const guest::ToolResult nobody = run({"check", "vfio-user:/nowhere/at.all"});
  EXPECT_EQ(nobody.status, 2);
  EXPECT_NE(nobody.output.find("/nowhere/at.all"), std::string::npos) << nobody.output;
  EXPECT_EQ(run({"check", "vfio-user:/nowhere/at.all", "--output", "report.doc"}).status, 2);
}

TEST(Check, the_list_names_tests_and_clauses) {
  const guest::ToolResult list = run({"check", "--list", "--select", "RST-*"});
  EXPECT_EQ(list.status, 0);
  EXPECT_NE(list.output.find("resuming_needs_no_reset"), std::string::npos) << list.output;
  EXPECT_EQ(list.output.find("DAT-SIZE"), std::string::npos) << list.output;
}

}  // namespace
}  // namespace gangway::integration
