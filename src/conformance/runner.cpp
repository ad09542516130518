#include "conformance/runner.h"

#include <algorithm>
#include <chrono>

#include <fmt/core.h>

#include "conformance/foundations.h"
#include "conformance/script.h"
#include "conformance/steps.h"

namespace gangway::conformance {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

bool any_matches(const std::vector<std::string>& globs, const Test& test, std::string_view clause) {
  return std::ranges::any_of(
      globs, [&](const std::string& glob) { return matches_glob(glob, clause) || matches_glob(glob, test.name); });
}

// By which revisions it migrates, where that is not v2 alone.
std::string revisions_note(const Abilities& abilities) {
  std::string others;
  for (const Revision revision : {Revision::V1, Revision::RegionV2}) {
    if (!abilities.has(revision)) continue;
    others += fmt::format("{}{}", others.empty() ? "" : " and ", contract::name(revision));
  }
  if (abilities.flags) return others.empty() ? "" : fmt::format("the device migrates by v2, and by {}", others);
  if (others.empty()) return "the device does not migrate: " + abilities.why_no_migration;
  return fmt::format("the device migrates by {} and not by v2: {}", others, abilities.why_no_migration);
}

// Every test begins with a RUNNING device; whether it is one by itself is a question for the tests of FSM-INITIAL.
void begin(Subject& subject) {
  step(subject.open(), "open the device");
  const Result<DeviceState> state = subject.get();
  if (!state) {
    if (subject.lost()) throw Untestable{subject.why_lost()};
    return;  // it does not migrate
  }
  if (*state != DeviceState::Running) reset(subject);
}

// Leaves nothing behind that the next user might find.
void end(Subject& subject) {
  (void)subject.rest();
  subject.close();
}

}  // namespace

Target named_target(const std::string& name, std::chrono::milliseconds limit) {
  // A device answers in microseconds mostly; a suite that shares the machine with it should not spin.
  const OpenOptions options{.timeout = limit, .spin = std::chrono::microseconds(20)};
  return {name, [name, options]() -> Result<std::shared_ptr<DeviceHandle>> {
            auto handle = open_device(name, options);
            if (!handle) return std::unexpected(handle.error());
            return std::shared_ptr<DeviceHandle>(*std::move(handle));
          }};
}

bool Selection::wants(const Test& test, std::string_view clause) const {
  return (select.empty() || any_matches(select, test, clause)) && !any_matches(skip, test, clause);
}

bool Selection::wants(const Test& test) const {
  return std::ranges::any_of(test.clauses, [&](std::string_view clause) { return wants(test, clause); });
}

// What became of one test.
struct Runner::Run {
  Journal journal;
  std::vector<Finding> findings;
  std::optional<Untestable> untestable;
  std::string unsupported;
  bool done = false;  // to its end
  std::string note;
  std::string script;
  double seconds = 0;
};

Runner::Runner(Plan plan) : plan_(std::move(plan)) {}

Result<void> Runner::find_out() {
  Journal journal;
  Subject subject(plan_.target.opener, journal, hangs_, {.limit = plan_.settings.limit});
  if (Result<void> opened = subject.open(); !opened) return opened;
  Result<Abilities> found = subject.ask<Abilities>("abilities", find_abilities);
  if (!found) return std::unexpected(found.error());
  abilities_ = *std::move(found);
  if (plan_.peer) abilities_.have |= kPeer;
  if (const auto workload = make_workload(abilities_)) abilities_.have |= kWorkload | workload->can();
  return {};
}

Result<Report> Runner::run() {
  const auto begin = Clock::now();
  if (Result<void> found = find_out(); !found) return std::unexpected(found.error());
  report_ = {.target = plan_.target.name, .flags = abilities_.flags};
  report_.note = revisions_note(abilities_);

  std::vector<const Test*> tests;
  for (const Test& test : all_tests()) {
    if (plan_.selection.wants(test)) tests.push_back(&test);
  }
  if (tests.empty()) {
    return fail(EINVAL, with_name("no test is selected by its name or a clause", plan_.settings.names.tests));
  }
  for (std::size_t i = 0; i < tests.size(); ++i) run_test(*tests[i], i + 1, tests.size());

  std::ranges::sort(report_.clauses, {}, &ClauseResult::clause);
  for (ClauseResult& clause : report_.clauses) conclude(clause);
  explain();
  report_.unused_waivers = plan_.waivers.unused();
  report_.seconds = seconds_since(begin);
  return report_;
}

void Runner::run_test(const Test& test, std::size_t number, std::size_t tests) {
  const auto doing = [&, this](std::string_view what) {
    if (plan_.progress) plan_.progress({number, tests, &test, what});
  };
  doing({});
  Run run;
  const std::string_view lacks = missing(abilities_, test.needs);
  if (plan_.settings.safe && test.unsafe) {
    run.untestable = Untestable{with_name("left out of a safe run", plan_.settings.names.safe), false};
  } else if (!lacks.empty() && is_given_by_user(abilities_, test.needs)) {
    const bool peer = (test.needs & ~abilities_.have) == kPeer;
    run.untestable = Untestable{with_name(lacks, peer ? plan_.settings.names.peer : std::string_view()), false};
  } else if (!lacks.empty()) {
    run.unsupported = lacks;
  } else if (!gone_.empty()) {
    run.untestable = Untestable{"the device does not answer any more: " + gone_};
  } else {
    const auto begin = Clock::now();
    carry_out(test, run, doing);
    run.seconds = seconds_since(begin);
  }
  judge(test, run);
}

void Runner::carry_out(const Test& test, Run& run, const std::function<void(std::string_view)>& doing) {
  Subject device(plan_.target.opener, run.journal, hangs_,
                 {.limit = plan_.settings.limit, .prefix = {}, .coverage = &report_.coverage});
  std::optional<Subject> peer;
  if (plan_.peer && (test.needs & kPeer) != 0) {
    peer.emplace(plan_.peer->opener, run.journal, peer_hangs_,
                 Subject::Options{.limit = plan_.settings.limit, .prefix = "peer "});
  }
  Context context{.device = device,
                  .peer = peer ? &*peer : nullptr,
                  .abilities = abilities_,
                  .settings = plan_.settings,
                  .journal = run.journal,
                  .target = plan_.target.name,
                  .found = {},
                  .note = {},
                  .doing = doing};
  try {
    begin(device);
    if (peer) begin(*peer);
    test.run(context);
    run.done = true;
  } catch (Finding& finding) {
    run.findings.push_back(std::move(finding));
  } catch (Untestable& untestable) {
    run.untestable = std::move(untestable);
  } catch (Unsupported& unsupported) {
    run.unsupported = std::move(unsupported.missing);
  }
  run.script = run.journal.text();
  run.note = std::move(context.note);
  for (Finding& finding : context.found) run.findings.push_back(std::move(finding));
  if (!run.findings.empty()) doing("making the script shorter");
  for (Finding& finding : run.findings) {
    if (!finding.script.empty()) continue;
    end(device);
    auto shortest = shorten_script(plan_.target.opener, plan_.settings, abilities_, hangs_, run.script, finding.clause,
                                   {.refused_pairs = test.unsafe, .held_states = test.unsafe});
    if (shortest) finding = *std::move(shortest);
  }
  for (const Finding& finding : run.findings) {
    report_.coverage.count_failure(finding.script.empty() ? run.script : finding.script);
  }
  const bool opened = device.last_state().has_value() || !device.lost();
  end(device);
  if (peer) end(*peer);
  // A device that was lost and cannot be opened again is gone for all that follows.
  if (!opened) {
    if (const Result<void> again = device.open(); !again) gone_ = again.error().message;
    end(device);
  }
}

void Runner::judge(const Test& test, const Run& run) {
  std::vector<std::string_view> clauses = test.clauses;
  for (const Finding& finding : run.findings) {
    if (std::ranges::find(clauses, finding.clause) == clauses.end()) clauses.push_back(finding.clause);
  }
  for (const std::string_view id : clauses) {
    if (!plan_.selection.wants(test, id)) continue;
    TestResult result{.name = test.name, .verdict = Verdict::Pass, .seconds = run.seconds};
    const auto finding = std::ranges::find(run.findings, id, &Finding::clause);
    if (finding != run.findings.end()) {
      result.warning = test.level == Level::Should && !plan_.settings.strict;
      result.verdict = result.warning ? Verdict::Pass : Verdict::Fail;
      result.expected = finding->expected;
      result.came = finding->came;
      result.message =
          fmt::format("{}expected: {}; came: {}", result.warning ? "warning: " : "", finding->expected, finding->came);
      result.script = finding->script.empty() ? run.script : finding->script;
    } else if (!run.unsupported.empty()) {
      result.verdict = Verdict::NotSupported;
      result.message = run.unsupported;
    } else if (run.untestable) {
      result.verdict = Verdict::NotTested;
      result.message = run.untestable->reason;
      result.device_failed = run.untestable->device_failed;
      if (result.device_failed) result.script = run.script;
    } else if (run.done) {
      result.message = run.note;
    } else if (!run.findings.empty()) {
      result.verdict = Verdict::NotTested;
      result.message = fmt::format("the test ended with a failure of {}", run.findings.front().clause);
    }
    if (result.verdict == Verdict::Fail) {
      if (const std::string* const reason = plan_.waivers.find(plan_.target.name, id)) {
        result.verdict = Verdict::Waived;
        result.message += "; waived: " + *reason;
      }
    }
    clause_of(id).tests.push_back(std::move(result));
  }
}

ClauseResult& Runner::clause_of(std::string_view id) {
  const contract::Clause* const clause = contract::find_clause(id);
  const auto found = std::ranges::find(report_.clauses, clause, &ClauseResult::clause);
  if (found != report_.clauses.end()) return *found;
  return report_.clauses.emplace_back(ClauseResult{.clause = clause});
}

// See foundations.h.
void Runner::explain() {
  for (const Foundation& foundation : foundations()) {
    const auto* const failed = contract::find_clause(foundation.clause);
    const auto found = std::ranges::find(report_.clauses, failed, &ClauseResult::clause);
    // A failure that is waived is no less of one for what stands on it.
    const bool fails =
        found != report_.clauses.end() && (found->verdict == Verdict::Fail || found->verdict == Verdict::Waived);
    if (!fails) continue;
    for (ClauseResult& clause : report_.clauses) {
      const bool carried = std::ranges::any_of(
          foundation.carries, [&](std::string_view glob) { return matches_glob(glob, clause.clause->id); });
      if (clause.verdict != Verdict::Fail || clause.clause == failed || !carried) continue;
      for (TestResult& test : clause.tests) {
        if (test.verdict != Verdict::Fail) continue;
        test.verdict = Verdict::NotTested;
        test.message = fmt::format("it may follow from the failure of {}: {}", foundation.clause, test.message);
      }
      clause.verdict = Verdict::NotTested;
    }
  }
}

// A failure decides, then a waived one, then a pass; what was not tested by one test may have been by another.
void Runner::conclude(ClauseResult& clause) {
  constexpr std::array kOrder{Verdict::Fail, Verdict::Waived, Verdict::Pass, Verdict::NotTested, Verdict::NotSupported};
  for (const Verdict verdict : kOrder) {
    if (std::ranges::find(clause.tests, verdict, &TestResult::verdict) == clause.tests.end()) continue;
    clause.verdict = verdict;
    return;
  }
}

}  // namespace gangway::conformance
