// The formats for programs: TAP 13, JUnit's XML, JSON.
#include <algorithm>

#include <fmt/core.h>

#include <nlohmann/json.hpp>

#include "base/json_text.h"
#include "conformance/report.h"

namespace gangway::conformance {
namespace {

using nlohmann::ordered_json;

// Comments of TAP; what a line holds must not look like a directive.
std::string tap_comment(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    out += fmt::format("#   {}\n", text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return out;
}

std::string one_line(std::string text) {
  for (char& c : text) {
    if (c == '\n' || c == '#') c = ' ';
  }
  return text;
}

// What a failure is about: what the contract says, and where it has it from.
std::string clause_text(const contract::Clause& clause) {
  return fmt::format("{}: {}\nsource: {}\n", clause.id, clause.text, clause.source);
}

std::string tap_line(std::size_t number, const ClauseResult& clause, const TestResult& test) {
  const std::string name = fmt::format("{} {}", clause.clause->id, test.name);
  switch (test.verdict) {
    case Verdict::Pass:
      return fmt::format("ok {} - {}\n{}", number, name, test.warning ? tap_comment(test.message) : "");
    case Verdict::NotSupported:
      return fmt::format("ok {} - {} # SKIP not supported: {}\n", number, name, one_line(test.message));
    case Verdict::NotTested:
      // Where the device failed on the way the answer is open, and open is not passed.
      return test.device_failed
                 ? fmt::format("not ok {} - {}\n{}", number, name, tap_comment(test.message))
                 : fmt::format("ok {} - {} # SKIP not tested: {}\n", number, name, one_line(test.message));
    case Verdict::Waived:
      return fmt::format("not ok {} - {} # TODO waived: {}\n", number, name, one_line(test.message));
    case Verdict::Fail:
      break;
  }
  return fmt::format("not ok {} - {}\n{}{}{}", number, name, tap_comment(clause_text(*clause.clause)),
                     tap_comment(test.message), tap_comment(test.script));
}

std::string junit_case(const ClauseResult& clause, const TestResult& test) {
  std::string text = fmt::format(R"(    <testcase classname="{}" name="{}" time="{:.6f}")",
                                 escape_markup(clause.clause->id), escape_markup(test.name), test.seconds);
  const std::string message = escape_markup(test.message);
  if (test.verdict == Verdict::Fail) {
    return text + fmt::format(">\n      <failure message=\"{}\">{}{}</failure>\n    </testcase>\n", message,
                              escape_markup(clause_text(*clause.clause)), escape_markup(test.script));
  }
  if (test.verdict == Verdict::NotTested && test.device_failed) {
    return text + fmt::format(">\n      <error message=\"{}\">{}</error>\n    </testcase>\n", message,
                              escape_markup(test.script));
  }
  if (test.verdict != Verdict::Pass) {
    return text +
           fmt::format(">\n      <skipped message=\"{}: {}\"/>\n    </testcase>\n", to_text(test.verdict), message);
  }
  if (test.warning) return text + fmt::format(">\n      <system-out>{}</system-out>\n    </testcase>\n", message);
  return text + "/>\n";
}

struct Counts {
  std::size_t tests = 0;
  std::size_t failures = 0;
  std::size_t errors = 0;
  std::size_t skipped = 0;
  double seconds = 0;

  void add(const ClauseResult& clause) {
    for (const TestResult& test : clause.tests) {
      ++tests;
      seconds += test.seconds;
      const bool error = test.verdict == Verdict::NotTested && test.device_failed;
      failures += test.verdict == Verdict::Fail ? 1U : 0U;
      errors += error ? 1U : 0U;
      skipped += test.verdict != Verdict::Fail && test.verdict != Verdict::Pass && !error ? 1U : 0U;
    }
  }
  [[nodiscard]] std::string attributes() const {
    return fmt::format(R"(tests="{}" failures="{}" errors="{}" skipped="{}" time="{:.6f}")", tests, failures, errors,
                       skipped, seconds);
  }
};

}  // namespace

std::string to_tap(const Report& report) {
  std::string lines;
  std::size_t number = 0;
  for (const ClauseResult& clause : report.clauses) {
    for (const TestResult& test : clause.tests) lines += tap_line(++number, clause, test);
  }
  for (const std::string& waiver : report.unused_waivers) lines += tap_comment("unused waiver: " + waiver);
  const std::string note = report.note.empty() ? "" : tap_comment(report.note);
  return fmt::format("TAP version 13\n1..{}\n{}{}", number, note, lines);
}

std::string to_junit(const Report& report) {
  Counts all;
  std::string suites;
  for (const ClauseResult& clause : report.clauses) {
    Counts counts;
    counts.add(clause);
    all.add(clause);
    suites += fmt::format("  <testsuite name=\"{}\" {}>\n", escape_markup(clause.clause->id), counts.attributes());
    for (const TestResult& test : clause.tests) suites += junit_case(clause, test);
    suites += "  </testsuite>\n";
  }
  return fmt::format("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"{}\" {}>\n{}</testsuites>\n",
                     escape_markup(report.target), all.attributes(), suites);
}

std::string to_json(const Report& report) {
  ordered_json clauses = ordered_json::array();
  for (const ClauseResult& clause : report.clauses) {
    ordered_json tests = ordered_json::array();
    for (const TestResult& test : clause.tests) {
      tests.push_back({{"name", test.name},
                       {"verdict", to_text(test.verdict)},
                       {"seconds", test.seconds},
                       {"message", test.message},
                       {"script", test.script}});
    }
    clauses.push_back({{"id", clause.clause->id}, {"verdict", to_text(clause.verdict)}, {"tests", std::move(tests)}});
  }
  const ordered_json all{{"target", report.target},
                         {"flags", report.flags ? ordered_json(report.flags->bits()) : ordered_json(nullptr)},
                         {"summary",
                          {{"passed", report.count(Verdict::Pass)},
                           {"failed", report.count(Verdict::Fail)},
                           {"not_supported", report.count(Verdict::NotSupported)},
                           {"not_tested", report.count(Verdict::NotTested)},
                           {"waived", report.count(Verdict::Waived)}}},
                         {"clauses", std::move(clauses)}};
  return json_text(all, 2) + "\n";
}

}  // namespace gangway::conformance
