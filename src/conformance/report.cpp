#include "conformance/report.h"

#include <algorithm>
#include <array>
#include <utility>

#include <fmt/core.h>

#include "conformance/act.h"

namespace gangway::conformance {
namespace {

constexpr std::array<std::string_view, kVerdicts> kVerdictNames{"pass", "fail", "not_supported", "not_tested",
                                                                "waived"};
constexpr std::array<std::string_view, kVerdicts> kWords{"pass", "FAIL", "not supported", "not tested", "waived"};

constexpr std::array<std::pair<std::string_view, Format>, 5> kFormats{{{"text", Format::Text},
                                                                       {"tap", Format::Tap},
                                                                       {"junit", Format::Junit},
                                                                       {"json", Format::Json},
                                                                       {"html", Format::Html}}};

std::string indented(std::string_view text, std::string_view indent) {
  std::string out;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    out += fmt::format("{}{}\n", indent, text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return out;
}

std::string failure_text(const ClauseResult& clause, const TestResult& test) {
  std::string text =
      fmt::format("    {} {}\n      {}\n", test.warning ? "warning:" : "failed:", test.name, clause.clause->text);
  text += fmt::format("      source: {}\n", clause.clause->source);
  text += fmt::format("      expected: {}\n      came: {}\n      script:\n", test.expected, test.came);
  return text + indented(test.script, "        ");
}

}  // namespace

std::string_view to_text(Verdict verdict) { return kVerdictNames.at(static_cast<std::size_t>(verdict)); }

void Coverage::count_failure(std::string_view script) {
  DeviceState before = DeviceState::Running;
  DeviceState now = DeviceState::Running;
  bool by_set = false;
  bool refused = false;
  while (!script.empty()) {
    const std::string_view line = script.substr(0, script.find('\n'));
    script.remove_prefix(std::min(line.size() + 1, script.size()));
    const std::size_t comment = std::min(line.find('#'), line.size());
    const std::size_t end = line.substr(0, comment).find_last_not_of(' ');
    const Result<Act> act = parse_act(line.substr(0, end == std::string_view::npos ? 0 : end + 1));
    if (!act || act->kind == Act::Kind::Get) continue;  // a GET looks at what came before
    if (by_set && refused) now = before;                // only the last SET is where it was meant to go
    refused = line.substr(comment).starts_with("# E");
    by_set = act->kind == Act::Kind::Set && act->number < kDeviceStates;
    if (by_set) before = std::exchange(now, static_cast<DeviceState>(act->number));
    const bool restarts = act->kind == Act::Kind::Open || act->kind == Act::Kind::Reset;
    if (restarts && !refused) now = DeviceState::Running;
  }
  if (by_set) {
    ++broken.at(static_cast<std::size_t>(before)).at(static_cast<std::size_t>(now));
  } else {
    ++broken_in.at(static_cast<std::size_t>(now));
  }
}

std::size_t Report::count(Verdict verdict) const {
  return static_cast<std::size_t>(std::ranges::count(clauses, verdict, &ClauseResult::verdict));
}

int Report::exit_status() const {
  const auto failed_on_the_way = [](const ClauseResult& clause) {
    return std::ranges::any_of(clause.tests, &TestResult::device_failed);
  };
  // A device that fails before any question could be asked has not passed, even though no clause was put to it.
  return count(Verdict::Fail) != 0 || std::ranges::any_of(clauses, failed_on_the_way) ? 1 : 0;
}

std::optional<Format> parse_format(std::string_view name) {
  const auto* const found = std::ranges::find(kFormats, name, &std::pair<std::string_view, Format>::first);
  if (found == kFormats.end()) return std::nullopt;
  return found->second;
}

std::string to_text(const Report& report) {
  std::string text = fmt::format("{}{}\n", report.target,
                                 report.flags ? fmt::format(", flags {}", report.flags->bits()) : std::string());
  if (!report.note.empty()) text += fmt::format("{}\n", report.note);
  for (const ClauseResult& clause : report.clauses) {
    text += fmt::format("  {:<14} {:<18} {} tests\n", kWords.at(static_cast<std::size_t>(clause.verdict)),
                        clause.clause->id, clause.tests.size());
    for (const TestResult& test : clause.tests) {
      if (test.verdict == Verdict::Fail || test.warning) {
        text += failure_text(clause, test);
      } else if (test.verdict != Verdict::Pass || !test.message.empty()) {
        text +=
            fmt::format("    {}: {}: {}\n", kWords.at(static_cast<std::size_t>(test.verdict)), test.name, test.message);
      }
    }
  }
  for (const std::string& waiver : report.unused_waivers) text += fmt::format("unused waiver: {}\n", waiver);
  text += fmt::format("{} clauses: {} passed, {} failed, {} not supported, {} not tested, {} waived in {:.1f} s\n",
                      report.clauses.size(), report.count(Verdict::Pass), report.count(Verdict::Fail),
                      report.count(Verdict::NotSupported), report.count(Verdict::NotTested),
                      report.count(Verdict::Waived), report.seconds);
  return text;
}

std::string write(const Report& report, Format format) {
  constexpr std::array kWriters{static_cast<std::string (*)(const Report&)>(to_text), to_tap, to_junit, to_json,
                                to_html};
  return kWriters.at(static_cast<std::size_t>(format))(report);
}

std::string escape_markup(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      default: {
        const auto code = static_cast<unsigned char>(c);
        const bool allowed = code >= 0x20 || c == '\n' || c == '\t';
        out += allowed ? c : '?';
      }
    }
  }
  return out;
}

}  // namespace gangway::conformance
