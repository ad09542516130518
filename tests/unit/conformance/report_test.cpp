#include "conformance/report.h"

#include <gtest/gtest.h>

#include <set>

#include <nlohmann/json.hpp>

#include "conformance/test.h"

namespace gangway::conformance {
namespace {

TestResult result(std::string_view name, Verdict verdict, std::string message = {}, std::string script = {}) {
  return {.name = name, .verdict = verdict, .seconds = 0.5, .message = std::move(message), .script = std::move(script)};
}

Report example() {
  Report report{.target = "vfio-user:/run/<a>&\"b\".sock", .flags = MigrationFlags{.p2p = true, .pre_copy = false}};
  report.clauses = {
      {contract::find_clause("FSM-ARC"), Verdict::Pass, {result("passes", Verdict::Pass)}},
      {contract::find_clause("DAT-SIZE"),
       Verdict::Fail,
       {result("fails", Verdict::Fail, "expected: a < b; came: #2", "open\nset STOP\n"),
        result("skipped", Verdict::NotTested, "no peer")}},
      {contract::find_clause("DAT-EARLY"), Verdict::NotSupported, {result("lacks", Verdict::NotSupported, "PRE_COPY")}},
      {contract::find_clause("LOG-EXACT"), Verdict::Waived, {result("waived", Verdict::Waived, "known")}},
  };
  return report;
}

TEST(Report, every_test_cites_clauses_of_the_contract) {
  std::set<std::string_view> names;
  for (const conformance::Test& test : all_tests()) {
    EXPECT_FALSE(test.clauses.empty()) << test.name;
    EXPECT_TRUE(names.insert(test.name).second) << test.name << " is there twice";
    for (const std::string_view clause : test.clauses)
      EXPECT_NE(contract::find_clause(clause), nullptr) << test.name << ": " << clause;
  }
}

TEST(Report, unsafe_tests_run_last) {
  bool unsafe = false;
  for (const conformance::Test& test : all_tests()) {
    EXPECT_TRUE(test.unsafe || !unsafe) << test.name;
    unsafe = test.unsafe;
  }
}

TEST(Report, json_has_the_shape_that_was_promised) {
  const auto json = nlohmann::ordered_json::parse(to_json(example()), nullptr, false);
  ASSERT_TRUE(json.is_object());
  EXPECT_EQ(json["target"], example().target);
  EXPECT_EQ(json["flags"], 3);
  EXPECT_EQ(json["summary"].dump(), R"({"passed":1,"failed":1,"not_supported":1,"not_tested":0,"waived":1})");
  const auto& clause = json["clauses"][1];
  EXPECT_EQ(clause["id"], "DAT-SIZE");
  EXPECT_EQ(clause["verdict"], "fail");
  EXPECT_EQ(
      clause["tests"][0].dump(),
      R"({"name":"fails","verdict":"fail","seconds":0.5,"message":"expected: a < b; came: #2","script":"open\nset STOP\n"})");
}

TEST(Report, tap_plans_as_many_lines_as_follow) {
  const std::string tap = to_tap(example());
  EXPECT_NE(tap.find("\n1..5\n"), std::string::npos) << tap;
  EXPECT_NE(tap.find("\nok 1 - FSM-ARC passes\n"), std::string::npos) << tap;
  EXPECT_NE(tap.find("\nnot ok 2 - DAT-SIZE fails\n"), std::string::npos) << tap;
  EXPECT_NE(tap.find("\nok 3 - DAT-SIZE skipped # SKIP not tested: no peer\n"), std::string::npos) << tap;
  EXPECT_NE(tap.find("\nnot ok 5 - LOG-EXACT waived # TODO waived: known\n"), std::string::npos) << tap;
}

TEST(Report, a_failure_comes_with_its_clause_and_source_in_every_format) {
  const contract::Clause& clause = *contract::find_clause("DAT-SIZE");
  Report report = example();
  report.clauses[1].tests[0].expected = "a < b";
  for (const Format format : {Format::Text, Format::Tap, Format::Junit, Format::Html}) {
    const std::string text = write(report, format);
    const bool markup = format == Format::Junit || format == Format::Html;
    for (const std::string_view part : {clause.text, clause.source}) {
      const std::string shown = markup ? escape_markup(part) : std::string(part);
      EXPECT_NE(text.find(shown), std::string::npos) << shown << " is not in\n" << text;
    }
  }
}

TEST(Report, markup_is_escaped) {
  EXPECT_EQ(escape_markup("<a href=\"b\">&\x01"), "&lt;a href=&quot;b&quot;&gt;&amp;?");
  for (const std::string& text : {to_junit(example()), to_html(example())}) {
    EXPECT_EQ(text.find("<a>"), std::string::npos);
    EXPECT_NE(text.find("a &lt; b"), std::string::npos);
  }
}

TEST(Report, html_stands_alone) {
  const std::string html = to_html(example());
  EXPECT_NE(html.find("<svg id=\"diagram\""), std::string::npos);
  for (const std::string_view outside : {"src=", "href=", "@import", "url(http"})
    EXPECT_EQ(html.find(outside), std::string::npos) << outside;
}

TEST(Report, a_failure_decides_the_exit_status) {
  Report report = example();
  EXPECT_EQ(report.exit_status(), 1);
  report.clauses.erase(report.clauses.begin() + 1);
  EXPECT_EQ(report.exit_status(), 0);
  report.clauses[0].tests[0].device_failed = true;
  EXPECT_EQ(report.exit_status(), 1) << "a device that fails on the way has not passed";
}

}  // namespace
}  // namespace gangway::conformance
