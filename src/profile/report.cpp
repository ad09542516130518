#include "profile/report.h"

#include <algorithm>
#include <deque>

#include <fmt/core.h>

#include <nlohmann/json.hpp>

#include "base/json_text.h"

namespace gangway::profile {
namespace {

using conformance::Verdict;
using nlohmann::ordered_json;

std::string_view in_words(Verdict verdict) {
  switch (verdict) {
    case Verdict::Pass:
      return "pass";
    case Verdict::Fail:
      return "FAIL";
    case Verdict::NotSupported:
      return "not supported";
    default:
      return "not tested";
  }
}

std::string name_of(const ActResult& act) {
  std::string name = act.line == 0 ? act.text : fmt::format("line {}: {}", act.line, act.text);
  if (act.times > 1) name += fmt::format(" ({} times)", act.times);
  return name;
}

std::string failure_text(const PhaseResult& phase, const ActResult& act) {
  std::string text = fmt::format("    {}{}\n", name_of(act), act.from.empty() ? "" : fmt::format(", by {}", act.from));
  const contract::Clause* const clause = contract::find_clause(act.clause);
  if (clause != nullptr) text += fmt::format("      {}: {}\n", clause->id, clause->text);
  text += fmt::format("      expected: {}\n      came: {}\n      script:\n", act.expected, act.came);
  for (std::string_view script = phase.script; !script.empty();) {
    const std::size_t end = std::min(script.find('\n'), script.size());
    text += fmt::format("        {}\n", script.substr(0, end));
    script.remove_prefix(std::min(end + 1, script.size()));
  }
  return text;
}

std::string to_text(const PlayReport& report) {
  std::string text =
      fmt::format("{} on {}{}{}\n", report.profile, report.target, report.peer.empty() ? "" : " and " + report.peer,
                  report.flags ? fmt::format(", flags {}", report.flags->bits()) : std::string());
  for (const PhaseResult& phase : report.phases) {
    std::size_t acts = 0;
    for (const ActResult& act : phase.acts) acts += act.times;
    const std::string what = phase.why.empty() ? fmt::format("{} acts", acts) : phase.why;
    text += fmt::format("  {:<14} {:<16} on the {}: {}\n", in_words(phase.verdict), phase.name,
                        profile::to_text(phase.side), what);
    for (const ActResult& act : phase.acts) {
      if (act.verdict == Verdict::Fail) text += failure_text(phase, act);
    }
  }
  return text + fmt::format("{} phases: {} passed, {} failed, {} not supported, {} not tested\n", report.phases.size(),
                            report.count(Verdict::Pass), report.count(Verdict::Fail),
                            report.count(Verdict::NotSupported), report.count(Verdict::NotTested));
}

std::string to_json(const PlayReport& report) {
  ordered_json phases = ordered_json::array();
  for (const PhaseResult& phase : report.phases) {
    ordered_json acts = ordered_json::array();
    for (const ActResult& act : phase.acts) {
      acts.push_back({{"line", act.line},
                      {"act", act.text},
                      {"from", act.from},
                      {"clause", act.clause},
                      {"verdict", conformance::to_text(act.verdict)},
                      {"times", act.times},
                      {"outcome", act.outcome},
                      {"expected", act.expected},
                      {"came", act.came}});
    }
    phases.push_back({{"name", phase.name},
                      {"side", profile::to_text(phase.side)},
                      {"target", phase.target},
                      {"verdict", conformance::to_text(phase.verdict)},
                      {"why", phase.why},
                      {"seconds", phase.seconds},
                      {"acts", std::move(acts)},
                      {"script", phase.script}});
  }
  const ordered_json all{{"profile", report.profile},
                         {"target", report.target},
                         {"peer", report.peer.empty() ? ordered_json(nullptr) : ordered_json(report.peer)},
                         {"flags", report.flags ? ordered_json(report.flags->bits()) : ordered_json(nullptr)},
                         {"summary",
                          {{"passed", report.count(Verdict::Pass)},
                           {"failed", report.count(Verdict::Fail)},
                           {"not_supported", report.count(Verdict::NotSupported)},
                           {"not_tested", report.count(Verdict::NotTested)}}},
                         {"phases", std::move(phases)}};
  return json_text(all, 2) + "\n";
}

// By clause, as the suite's own reports are; the formats that are made for clauses are written from that.
class ByClause {
 public:
  explicit ByClause(const PlayReport& report) {
    report_.target = fmt::format("{} on {}", report.profile, report.target);
    report_.flags = report.flags;
    report_.coverage = report.coverage;
    for (const contract::Clause& clause : contract::clauses())
      report_.clauses.push_back({.clause = &clause, .tests = {}});
    for (const PhaseResult& phase : report.phases) {
      report_.seconds += phase.seconds;
      if (!phase.why.empty()) report_.note += fmt::format("{}: {}\n", phase.name, phase.why);
      for (const ActResult& act : phase.acts) add(phase, act);
    }
    std::erase_if(report_.clauses, [](const conformance::ClauseResult& clause) { return clause.tests.empty(); });
    for (conformance::ClauseResult& clause : report_.clauses) {
      const bool failed =
          std::ranges::find(clause.tests, Verdict::Fail, &conformance::TestResult::verdict) != clause.tests.end();
      clause.verdict = failed ? Verdict::Fail : Verdict::Pass;
    }
  }
  [[nodiscard]] const conformance::Report& report() const { return report_; }

 private:
  void add(const PhaseResult& phase, const ActResult& act) {
    const auto clause = std::ranges::find_if(
        report_.clauses, [&act](const conformance::ClauseResult& each) { return each.clause->id == act.clause; });
    if (clause == report_.clauses.end()) return;
    const std::string& name = names_.emplace_back(fmt::format("{} {}", phase.name, name_of(act)));
    const bool failed = act.verdict == Verdict::Fail;
    clause->tests.push_back(
        {.name = name,
         .verdict = act.verdict,
         .message = failed ? fmt::format("expected {}; came {}", act.expected, act.came) : act.outcome,
         .script = failed ? phase.script : std::string(),
         .expected = act.expected,
         .came = act.came});
  }

  std::deque<std::string> names_;
  conformance::Report report_;
};

}  // namespace

std::size_t PlayReport::count(Verdict verdict) const {
  return static_cast<std::size_t>(std::ranges::count(phases, verdict, &PhaseResult::verdict));
}

bool PlayReport::played() const {
  return std::ranges::any_of(phases, [](const PhaseResult& phase) {
    return phase.verdict == Verdict::Pass || phase.verdict == Verdict::Fail || phase.device_failed;
  });
}

int PlayReport::exit_status() const {
  return count(Verdict::Fail) != 0 || std::ranges::any_of(phases, &PhaseResult::device_failed) ? 1 : 0;
}

std::string write(const PlayReport& report, conformance::Format format) {
  if (format == conformance::Format::Text) return to_text(report);
  if (format == conformance::Format::Json) return to_json(report);
  return conformance::write(ByClause(report).report(), format);
}

}  // namespace gangway::profile
