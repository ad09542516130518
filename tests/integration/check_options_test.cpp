// What `gangway check` is told, and what becomes of it: peers, waivers, strictness, selection, scripts, outputs, the
// exit status and the progress line.
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <sstream>
#include <stdexcept>

#include <nlohmann/json.hpp>

#include "integration/served_process.h"

namespace gangway::integration {
namespace {

using nlohmann::json;
using Words = std::vector<std::string>;

ServedProcess serve(const Words& device) {
  auto served = ServedProcess::start([&device](const std::filesystem::path& folder) {
    Words words{"serve"};
    words.insert(words.end(), device.begin(), device.end());
    words.insert(words.end(), {"--socket", folder / "socket"});
    return ServedProcess::Command{GANGWAY_PROGRAM, std::move(words)};
  });
  if (!served) throw std::runtime_error(served.error().message);
  return *std::move(served);
}
ServedProcess serve_faulty(const std::string& defect) { return serve({"faulty", "--defect", defect}); }

// Patient with a slow machine; what of the work is long is cut down.
guest::ToolResult check(const ServedProcess& served, const Words& more) {
  Words words{"check", served.target(), "--depth", "2", "--cycles", "5", "--walk", "40", "--time-limit", "60"};
  words.insert(words.end(), more.begin(), more.end());
  auto result = guest::run_tool(GANGWAY_PROGRAM, words);
  if (!result) throw std::runtime_error(result.error().message);
  return *std::move(result);
}

std::filesystem::path write(const ServedProcess& served, const std::string& name, const std::string& text) {
  const std::filesystem::path file = served.folder() / name;
  std::ofstream(file) << text;
  return file;
}

json json_of(const ServedProcess& served, const Words& more, int status) {
  const std::string file = served.folder() / "report.json";
  Words words = more;
  words.insert(words.end(), {"--output", file});
  const guest::ToolResult result = check(served, words);
  EXPECT_EQ(result.status, status) << result.output;
  return json::parse(text_of(file));
}

std::string verdict(const json& report, const std::string& clause) {
  for (const json& one : report.at("clauses")) {
    if (one.at("id") == clause) return one.at("verdict");
  }
  return "absent";
}

struct Said {
  std::string verdict;
  std::string message;
  std::string script;
};
Said test_of(const json& report, const std::string& name) {
  for (const json& clause : report.at("clauses")) {
    for (const json& test : clause.at("tests")) {
      if (test.at("name") == name) return {test.at("verdict"), test.at("message"), test.at("script")};
    }
  }
  return {"absent", {}, {}};
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

// --- past a failure ---

TEST(CheckPastAFailure, what_can_still_be_tested_is_and_says_so) {
  const ServedProcess served = serve_faulty("temporary_end_is_zero");
  const json report = json_of(served, {"--select", "every_*", "--select", "random_walks"}, 1);
  EXPECT_EQ(verdict(report, "DAT-EOS-PRECOPY"), "fail");
  for (const char* const clause : {"FSM-ARC", "FSM-COMPLETE", "FSM-REPEAT", "RST-ALLOWED", "DAT-SESSION"}) {
    EXPECT_EQ(verdict(report, clause), "pass") << clause;
  }
  const Said pairs = test_of(report, "every_pair_in_every_position");
  EXPECT_TRUE(contains(pairs.message, "end early")) << pairs.message;
}

TEST(CheckPastAFailure, a_stream_without_an_end_is_soon_given_up) {
  const ServedProcess served = serve_faulty("stream_starts_over");
  const json report = json_of(served, {"--select", "end_in_stop_copy_is_for_ever"}, 1);
  const Said test = test_of(report, "end_in_stop_copy_is_for_ever");
  EXPECT_EQ(test.verdict, "fail") << test.message;
}

// --- a peer ---

TEST(CheckPeer, what_needs_one_is_not_tested_without_and_passes_with_it) {
  const ServedProcess here = serve({"serial"});
  const ServedProcess there = serve({"serial"});
  for (const char* const name : {"there_and_back", "phases_take_any_order"}) {
    const Said alone = test_of(json_of(here, {"--select", name}, 0), name);
    EXPECT_EQ(alone.verdict, "not_tested");
    EXPECT_TRUE(contains(alone.message, "--peer")) << alone.message;
    const Said both = test_of(json_of(here, {"--select", name, "--peer", there.target()}, 0), name);
    EXPECT_EQ(both.verdict, "pass") << both.message;
  }
}

TEST(CheckPeer, one_that_is_not_there_leaves_its_tests_open_and_does_not_pass) {
  const ServedProcess here = serve({"serial"});
  const Said test = test_of(json_of(here, {"--select", "there_and_back", "--peer", "vfio-user:/nowhere/at.all"}, 1),
                            "there_and_back");
  EXPECT_EQ(test.verdict, "not_tested");
  EXPECT_TRUE(contains(test.message, "/nowhere/at.all")) << test.message;
}

TEST(CheckPeer, one_of_another_kind_takes_no_state) {
  const ServedProcess here = serve({"serial"});
  const ServedProcess there = serve_faulty("none");
  const json report = json_of(here, {"--select", "there_and_back", "--peer", there.target()}, 1);
  EXPECT_NE(test_of(report, "there_and_back").verdict, "pass");
}

TEST(CheckWithoutDma, what_is_about_dma_is_not_passed) {
  const ServedProcess served = serve({"serial"});
  const json report = json_of(served, {"--select", "P2P-INITIATE", "--select", "LOG-EXACT"}, 0);
  for (const char* const clause : {"P2P-INITIATE", "LOG-EXACT"}) EXPECT_EQ(verdict(report, clause), "not_tested");
  const Said accesses = test_of(report, "p2p_serves_accesses");
  EXPECT_TRUE(contains(accesses.message, "no workload that makes this device write memory")) << accesses.message;
}

// --- waivers ---

TEST(CheckWaivers, waive_by_globs_until_they_expire) {
  const ServedProcess served = serve_faulty("data_size_in_pages");
  const Words select{"--select", "DAT-SIZE"};
  EXPECT_EQ(verdict(json_of(served, select, 1), "DAT-SIZE"), "fail");
  struct Case {
    std::string waiver;
    int status;
    std::string verdict;
    std::string said;  // beside the report
  };
  for (const Case& c : {Case{"vfio-user:* DAT-* never - known\n", 0, "waived", ""},
                        Case{"* DAT-S?ZE 2999-12-31 https://bugs.example/1#c2 known # by us\n", 0, "waived", ""},
                        Case{"* DAT-* 2020-01-01 - known\n", 1, "fail", "expired"},
                        Case{"vfio:* DAT-* never - known\n", 1, "fail", "unused waiver"},
                        Case{"* DAT-* never - known\n* FSM-* never - too much\n", 0, "waived", "too much"}}) {
    SCOPED_TRACE(c.waiver);
    Words words = select;
    words.insert(words.end(), {"--waivers", write(served, "waivers", c.waiver)});
    EXPECT_EQ(verdict(json_of(served, words, c.status), "DAT-SIZE"), c.verdict);
    for (const char* const format : {"text", "tap", "json", "junit", "html"}) {
      Words in_format = words;
      in_format.insert(in_format.end(), {"--format", format});
      const std::string output = check(served, in_format).output;
      EXPECT_TRUE(contains(output, c.said)) << format << ": " << output;
    }
  }
}

TEST(CheckWaivers, that_are_not_understood_stop_the_run) {
  const ServedProcess served = serve_faulty("none");
  const guest::ToolResult wrong =
      check(served, {"--select", "DAT-SIZE", "--waivers", write(served, "waivers", "# fine\n* DAT-SIZE soon - why\n")});
  EXPECT_EQ(wrong.status, 2);
  EXPECT_TRUE(contains(wrong.output, "line 2")) << wrong.output;
  EXPECT_EQ(check(served, {"--select", "DAT-SIZE", "--waivers", served.folder() / "absent"}).status, 2);
}

// --- strictness, safety, selection ---

TEST(CheckStrict, a_recommendation_that_is_not_kept_warns_or_fails) {
  const ServedProcess served = serve_faulty("initial_bytes_zero");
  const guest::ToolResult lenient = check(served, {"--select", "initial_data_is_announced"});
  EXPECT_EQ(lenient.status, 0) << lenient.output;
  EXPECT_TRUE(contains(lenient.output, "warning: initial_data_is_announced")) << lenient.output;
  const guest::ToolResult strict = check(served, {"--select", "initial_data_is_announced", "--strict"});
  EXPECT_EQ(strict.status, 1) << strict.output;
  EXPECT_TRUE(contains(strict.output, "failed: initial_data_is_announced")) << strict.output;
}

TEST(CheckSafe, leaves_out_what_the_list_calls_unsafe_and_runs_it_last_otherwise) {
  const auto list = guest::run_tool(GANGWAY_PROGRAM, {"check", "--list"});
  ASSERT_TRUE(list);
  std::istringstream lines(list->output);
  Words unsafe;
  bool last = true;
  for (std::string line; std::getline(lines, line);) {
    const bool is = contains(line, "(unsafe)");
    if (is) unsafe.push_back(line.substr(0, line.find(' ')));
    last = last && (unsafe.empty() || is);
  }
  ASSERT_FALSE(unsafe.empty());
  EXPECT_TRUE(last) << list->output;
  const ServedProcess served = serve_faulty("none");
  Words words{"--safe"};
  for (const std::string& name : unsafe) words.insert(words.end(), {"--select", name});
  const json report = json_of(served, words, 0);
  for (const std::string& name : unsafe) {
    EXPECT_EQ(test_of(report, name).verdict, "not_tested") << name;
    EXPECT_TRUE(contains(test_of(report, name).message, "--safe")) << name;
  }
}

TEST(CheckSelect, takes_and_leaves_clauses_and_tests_by_globs) {
  const ServedProcess served = serve({"serial"});
  const json some = json_of(served, {"--select", "DAT-S*", "--skip", "DAT-SIZE"}, 0);
  for (const json& clause : some.at("clauses")) {
    const std::string id = clause.at("id");
    EXPECT_TRUE(id.starts_with("DAT-S") && id != "DAT-SIZE") << id;
  }
  EXPECT_EQ(verdict(some, "DAT-STREAM"), "pass");
  const json one = json_of(served, {"--select", "fresh_device_*"}, 0);
  EXPECT_EQ(one.at("clauses").size(), 1U);
  const guest::ToolResult none = check(served, {"--select", "DAT-*", "--skip", "*"});
  EXPECT_EQ(none.status, 2);
  EXPECT_TRUE(contains(none.output, "--list")) << none.output;
}

// --- scripts ---

// What a walk or the sequences find is shrunk, and its script fails again by the same clause; on the good device not.
TEST(CheckScript, a_failure_that_was_shrunk_is_repeated) {
  const ServedProcess good = serve_faulty("none");
  int repeated = 0;
  for (const char* const defect : {"resuming_needs_reset", "truncated_stream_accepted", "refused_pair_accepted",
                                   "stop_copy_end_is_enomsg", "second_migration_fails", "precopy_must_be_drained"}) {
    SCOPED_TRACE(defect);
    const ServedProcess served = serve_faulty(defect);
    const guest::ToolResult result = check(
        served, {"--format", "json", "--select", "every_short_sequence", "--select", "every_pair_in_every_position",
                 "--select", "random_walks", "--select", "every_refused_pair_in_every_position"});
    const json report = json::parse(result.output);
    EXPECT_EQ(result.status, 1) << result.output;
    for (const json& clause : report.at("clauses")) {
      for (const json& test : clause.at("tests")) {
        if (test.at("verdict") != "fail") continue;
        const std::string script = test.at("script");
        EXPECT_LT(std::ranges::count(script, '\n'), 20) << "it is short:\n" << script;
        const std::string file = write(served, "script", script);
        const guest::ToolResult again = check(served, {"--script", file});
        EXPECT_EQ(again.status, 1) << script << again.output;
        EXPECT_TRUE(contains(again.output, clause.at("id").get<std::string>() + ":")) << script << again.output;
        const guest::ToolResult fine = check(good, {"--script", file});
        EXPECT_EQ(fine.status, 0) << script << fine.output;
        ++repeated;
      }
    }
  }
  EXPECT_GE(repeated, 6);
}

// Also where parts of a script cannot be: by a workload, two things at once, or through a migration region.
TEST(CheckScript, every_script_of_a_failure_is_understood) {
  for (const char* const defect : {"dma_in_stop", "config_dead_in_stop", "report_misses_last_page",
                                   "v1_size_reads_once", "region_v2_half_state", "mappings_left_by_vanished_client"}) {
    SCOPED_TRACE(defect);
    const ServedProcess served = serve_faulty(defect);
    const json report = json::parse(check(served, {"--format", "json", "--skip", "cycles_*"}).output);
    int failures = 0;
    for (const json& clause : report.at("clauses")) {
      for (const json& test : clause.at("tests")) {
        if (test.at("verdict") != "fail") continue;
        ++failures;
        const guest::ToolResult again = check(served, {"--script", write(served, "script", test.at("script"))});
        EXPECT_NE(again.status, 2) << test.at("script") << again.output;
      }
    }
    EXPECT_GT(failures, 0);
  }
}

TEST(CheckScript, one_that_cannot_be_read_says_where) {
  const ServedProcess served = serve_faulty("none");
  const guest::ToolResult wrong = check(served, {"--script", write(served, "script", "open\nset SOMEWHERE\n")});
  EXPECT_EQ(wrong.status, 2);
  EXPECT_TRUE(contains(wrong.output, "line 2")) << wrong.output;
  EXPECT_EQ(check(served, {"--script", served.folder() / "absent"}).status, 2);
}

// --- outputs and the terminal ---

TEST(CheckOutput, several_formats_come_of_one_run) {
  const ServedProcess served = serve({"serial"});
  const std::filesystem::path folder = served.folder();
  const guest::ToolResult result = check(
      served, {"--select", "DAT-SIZE", "--format", "tap", "--output", folder / "a.xml", "--output", folder / "a.html",
               "--output", folder / "a.json", "--output", folder / "a.txt", "--output", folder / "a.tap"});
  EXPECT_EQ(result.status, 0) << result.output;
  EXPECT_TRUE(result.output.starts_with("TAP version 13\n")) << result.output;
  EXPECT_EQ(text_of(folder / "a.tap"), result.output);
  EXPECT_TRUE(contains(text_of(folder / "a.xml"), "<testsuites "));
  EXPECT_TRUE(contains(text_of(folder / "a.html"), "<!DOCTYPE html>"));
  EXPECT_EQ(verdict(json::parse(text_of(folder / "a.json")), "DAT-SIZE"), "pass");
  EXPECT_TRUE(contains(text_of(folder / "a.txt"), "1 clauses: 1 passed"));
}

TEST(CheckOutput, that_cannot_be_written_is_found_before_the_run) {
  const ServedProcess served = serve({"serial"});
  const guest::ToolResult result = check(served, {"--output", "/nowhere/at/all.html"});
  EXPECT_EQ(result.status, 2);
  EXPECT_TRUE(contains(result.output, "/nowhere/at/all.html")) << result.output;
  EXPECT_FALSE(contains(result.output, "FSM-")) << result.output;
  EXPECT_EQ(check(served, {"--format", "yaml"}).status, 2);
}

// A run that cannot begin takes no report of an earlier one with it.
TEST(CheckOutput, of_an_earlier_run_stays_until_there_is_another) {
  const ServedProcess served = serve({"serial"});
  const std::filesystem::path file = write(served, "report.json", "the last one");
  const auto lost = guest::run_tool(GANGWAY_PROGRAM, {"check", "vfio-user:/nowhere/at.all", "--output", file});
  ASSERT_TRUE(lost);
  EXPECT_EQ(lost->status, 2) << lost->output;
  EXPECT_EQ(text_of(file), "the last one");
  EXPECT_EQ(check(served, {"--select", "DAT-SIZE", "--output", file}).status, 0);
  EXPECT_TRUE(json::accept(text_of(file)));
}

TEST(CheckSelfTest, that_tests_nothing_has_not_passed) {
  for (const Words& more : {Words{"--select", "no_such_device"}, Words{"--jobs", "0"}}) {
    Words words{"check", "--self-test", "--json"};
    words.insert(words.end(), more.begin(), more.end());
    const auto result = guest::run_tool(GANGWAY_PROGRAM, words);
    ASSERT_TRUE(result);
    EXPECT_EQ(result->status, 2) << more.front() << ": " << result->output;
  }
}

// Neither is what a way of running would pass over, or what would make a test of nothing.
TEST(CheckOptions, that_would_not_be_heeded_are_refused) {
  for (const Words& words :
       {Words{"vfio-user:/nowhere/at.all", "--walk", "0"}, Words{"vfio-user:/nowhere/at.all", "--depth", "0"},
        Words{"vfio-user:/nowhere/at.all", "--cycles", "0"},
        Words{"vfio-user:/nowhere/at.all", "--script", "a.txt", "--format", "tap"},
        Words{"vfio-user:/nowhere/at.all", "--script", "a.txt", "--waivers", "w"},
        Words{"vfio-user:/nowhere/at.all", "--script", "a.txt", "--peer", "vfio-user:/nowhere/else"},
        Words{"vfio-user:/nowhere/at.all", "--profile", "qemu-v2", "--waivers", "w"},
        Words{"--self-test", "--select", "none", "--format", "tap"},
        Words{"--self-test", "--select", "none", "--waivers", "w"},
        Words{"--self-test", "--select", "none", "--peer", "vfio-user:/nowhere/else"},
        Words{"vfio-user:/nowhere/at.all", "--self-test"}}) {
    Words all{"check"};
    all.insert(all.end(), words.begin(), words.end());
    const auto result = guest::run_tool(GANGWAY_PROGRAM, all);
    ASSERT_TRUE(result);
    EXPECT_EQ(result->status, 2) << result->output;
    const std::string& option = words.size() > 3 ? words[words.size() - 2] : words[1];
    EXPECT_TRUE(contains(result->output, option) || contains(result->output, "target")) << result->output;
    EXPECT_FALSE(contains(result->output, "No such file")) << result->output;
  }
}

TEST(CheckLimit, is_a_time_that_can_be_waited) {
  for (const char* const limit : {"-1", "0", "nan", "inf", "1e300", "soon"}) {
    const auto result = guest::run_tool(GANGWAY_PROGRAM, {"check", "vfio-user:/nowhere/at.all", "--time-limit", limit});
    ASSERT_TRUE(result);
    EXPECT_EQ(result->status, 2) << limit;
    EXPECT_TRUE(contains(result->output, "--time-limit")) << limit << ": " << result->output;
  }
}

TEST(CheckProgress, is_shown_on_a_terminal_alone) {
  const ServedProcess served = serve({"serial"});
  const std::string command =
      std::string(GANGWAY_PROGRAM) + " check " + served.target() + " --select FSM-ARC --depth 1 --format json";
  // script(1) gives the command a terminal.
  const auto terminal = guest::run_tool("script", {"-qec", command + " >/dev/null", "/dev/null"});
  ASSERT_TRUE(terminal) << terminal.error().message;
  EXPECT_EQ(terminal->status, 0) << terminal->output;
  EXPECT_TRUE(contains(terminal->output, "] FSM-ARC every_arc_is_taken")) << terminal->output;
  EXPECT_TRUE(terminal->output.ends_with("\r\033[K")) << "the line is cleared";
  const guest::ToolResult pipe = check(served, {"--select", "FSM-ARC", "--format", "json"});
  EXPECT_FALSE(contains(pipe.output, "\r")) << pipe.output;
  EXPECT_TRUE(json::accept(pipe.output));
}

}  // namespace
}  // namespace gangway::integration
