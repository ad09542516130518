// The report as one self-contained page: summary, the state diagram coloured by what was gone over and what failed, the
// clauses with filters, and the scripts of what failed.
#include <algorithm>
#include <array>

#include <fmt/core.h>

#include "conformance/report.h"

namespace gangway::conformance {
namespace {

using enum DeviceState;

struct Place {
  DeviceState state;
  int x;
  int y;
};
// As the documentation draws it: running on top, stopped below, saving to the right, loading to the left.
constexpr std::array<Place, 7> kPlaces{{{Running, 330, 50},
                                        {RunningP2p, 330, 160},
                                        {Stop, 330, 270},
                                        {PreCopy, 620, 50},
                                        {PreCopyP2p, 620, 160},
                                        {StopCopy, 620, 270},
                                        {Resuming, 90, 270}}};
constexpr int kHalfWidth = 75;
constexpr int kHalfHeight = 20;

constexpr std::string_view kStyle = R"(
:root{color-scheme:light dark;--pass:#1a7f37;--fail:#cf222e;--skip:#6e7781;--waived:#9a6700;--line:#8884;--soft:#8881}
@media(prefers-color-scheme:dark){:root{--pass:#3fb950;--fail:#ff7b72;--skip:#9198a1;--waived:#d29922}}
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:74rem;padding:0 1.2rem}
h1{font-size:1.5rem;margin:0}h2{font-size:1.15rem;margin:2.2rem 0 .6rem}
.muted{color:var(--skip)}
.verdict{display:inline-block;margin:.8rem 0 .2rem;padding:.25rem .8rem;border-radius:1rem;color:#fff;font-weight:600}
.verdict.pass{background:#1a7f37;color:#fff}.verdict.fail{background:#cf222e;color:#fff}
.tiles{display:flex;flex-wrap:wrap;gap:.7rem;margin:1rem 0 .8rem}
.tiles button{font:inherit;min-width:7.5rem;border:1px solid var(--line);border-top:4px solid var(--skip);border-radius:.5rem;background:none;color:inherit;padding:.5rem .9rem;cursor:pointer;text-align:left}
.tiles button.pass{border-top-color:var(--pass)}.tiles button.fail{border-top-color:var(--fail)}.tiles button.waived{border-top-color:var(--waived)}
.tiles button[aria-pressed=true]{background:var(--soft);outline:2px solid currentColor}
.tiles b{display:block;font-size:1.6rem;line-height:1.2}.tiles button.fail b{color:var(--fail)}.tiles button.pass b{color:var(--pass)}
.bar{display:flex;height:.5rem;border-radius:.25rem;overflow:hidden;background:var(--soft)}
.bar span{background:var(--skip)}.bar .pass{background:var(--pass)}.bar .fail{background:var(--fail)}.bar .waived{background:var(--waived)}
.pass{color:var(--pass)}.fail{color:var(--fail)}.not_supported,.not_tested{color:var(--skip)}.waived{color:var(--waived)}
.pill{display:inline-block;white-space:nowrap;border:1px solid currentColor;border-radius:1rem;padding:0 .55rem;font-size:.85rem}
.failure{border:1px solid var(--line);border-left:4px solid var(--fail);border-radius:.4rem;padding:.7rem 1rem;margin:.8rem 0}
.failure h3{margin:0;font-size:1rem}.failure p{margin:.2rem 0 .5rem}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.15rem 1rem;margin:.4rem 0}dt{color:var(--skip)}dd{margin:0}
table{border-collapse:collapse;width:100%}td,th{text-align:left;vertical-align:top;padding:.45rem .6rem;border-top:1px solid var(--line)}
th{border-top:0;color:var(--skip);font-weight:600}tbody tr:hover{background:var(--soft)}
td.id{white-space:nowrap;font-family:ui-monospace,monospace}td.tests{width:27rem;font-size:.92rem}td.tests>div{padding-left:1.1rem}
.test{display:inline-grid;grid-template-columns:.9rem 1fr max-content;gap:.4rem;align-items:baseline;width:calc(100% - 1.2rem)}
.dot{display:inline-block;width:.65rem;height:.65rem;border-radius:50%;border:1.5px solid currentColor}
.dot.pass,.dot.fail,.dot.waived{background:currentColor}
pre{overflow:auto;background:var(--soft);padding:.6rem .8rem;border-radius:.4rem;font-size:13px;margin:.4rem 0}
details summary{cursor:pointer}details p{margin:.2rem 0 .2rem 1.1rem}
input{font:inherit;padding:.35rem .7rem;width:22rem;max-width:100%;border:1px solid var(--line);border-radius:.4rem;background:none;color:inherit}
#shown{margin-left:.8rem}
svg{display:block;max-width:100%;height:auto}svg text{font:13px ui-monospace,monospace;fill:currentColor;text-anchor:middle}
svg rect{fill:var(--soft);stroke:var(--skip);stroke-width:1.5}svg line{stroke:var(--skip);stroke-width:1.5}
svg .gone{stroke:var(--pass);stroke-width:2.2}svg .bad{stroke:var(--fail);stroke-width:3}
svg .lacking{opacity:.35;stroke-dasharray:4 4}
.legend i{display:inline-block;width:1.4rem;border-top:3px solid var(--skip);vertical-align:middle;margin:0 .3rem 0 .9rem}
.legend i.gone{border-color:var(--pass)}.legend i.bad{border-color:var(--fail)}.legend i.lacking{border-top-style:dashed}
)";

constexpr std::string_view kScript = R"(
let verdict='';
const text=document.getElementById('filter');
function filter(){
  const wanted=text.value.toLowerCase();
  let shown=0;
  for(const row of document.querySelectorAll('tr.clause')){
    const fits=(!verdict||row.dataset.verdict===verdict)&&row.textContent.toLowerCase().includes(wanted);
    row.hidden=!fits;
    shown+=fits?1:0;
  }
  document.getElementById('shown').textContent=shown+' shown';
}
for(const button of document.querySelectorAll('.tiles button'))button.addEventListener('click',()=>{
  verdict=verdict===button.dataset.verdict?'':button.dataset.verdict;
  for(const other of document.querySelectorAll('.tiles button'))other.setAttribute('aria-pressed',String(other.dataset.verdict===verdict));
  filter();
});
text.addEventListener('input',filter);
filter();
)";

const Place& place(DeviceState state) {
  for (const Place& place : kPlaces) {
    if (place.state == state) return place;
  }
  return kPlaces[0];
}

// What became of an arc: of the SETs that went over it as their only one.
struct Arc {
  std::uint32_t done = 0;
  std::uint32_t failed = 0;
  std::uint32_t broken = 0;
};

Arc arc(const Report& report, DeviceState from, DeviceState to) {
  const auto count = [&](const auto& counts) {
    return counts.at(static_cast<std::size_t>(from)).at(static_cast<std::size_t>(to));
  };
  return {count(report.coverage.done), count(report.coverage.failed), count(report.coverage.broken)};
}

// A load that is not whole has to fail on its way out of RESUMING, so what is refused there says nothing by itself.
std::string_view arc_class(const Arc& arc, DeviceState from) {
  if (arc.broken != 0 || (arc.failed != 0 && from != Resuming)) return "bad";
  return arc.done != 0 ? "gone" : "untried";
}

std::string draw_arc(const Report& report, DeviceState from, DeviceState to) {
  const Place& a = place(from);
  const Place& b = place(to);
  const bool level = a.y == b.y;
  // Each direction has a line of its own, beside that of the other.
  const int aside = (a.x + a.y < b.x + b.y) ? 8 : -8;
  const int right = a.x < b.x ? 1 : -1;
  const int down = a.y < b.y ? 1 : -1;
  const bool across = !level && a.x != b.x;
  const int x1 = level || across ? a.x + right * kHalfWidth : a.x + aside * 2;
  const int x2 = level || across ? b.x - right * kHalfWidth : b.x + aside * 2;
  const int y1 = level ? a.y + aside : a.y + (across ? 0 : down * kHalfHeight);
  const int y2 = level ? b.y + aside : b.y - (across ? 0 : down * kHalfHeight);
  const Arc counts = arc(report, from, to);
  return fmt::format(
      "<line class=\"{}\" x1=\"{}\" y1=\"{}\" x2=\"{}\" y2=\"{}\" marker-end=\"url(#tip)\"><title>{} to {}: {} times, "
      "{} refused, {} failures of a clause</title></line>\n",
      arc_class(counts, from), x1, y1, x2, y2, contract::name(from), contract::name(to), counts.done, counts.failed,
      counts.broken);
}

std::string draw_state(const Report& report, const Place& place) {
  std::uint32_t entered = 0;
  for (std::uint32_t from = 0; from < kDeviceStates; ++from)
    entered += arc(report, static_cast<DeviceState>(from), place.state).done;
  const std::uint32_t broken = report.coverage.broken_in.at(static_cast<std::size_t>(place.state));
  const bool has = contract::advertised(place.state, report.flags.value_or(MigrationFlags{}));
  return fmt::format(
      "<g class=\"{}\"><rect class=\"{}\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" rx=\"8\"><title>{}: entered {} "
      "times, {} failures of a clause in it</title></rect><text x=\"{}\" y=\"{}\">{}</text></g>\n",
      has ? "" : "lacking",
      broken != 0    ? "bad"
      : entered != 0 ? "gone"
                     : "untried",
      place.x - kHalfWidth, place.y - kHalfHeight, 2 * kHalfWidth, 2 * kHalfHeight, contract::name(place.state),
      entered, broken, place.x, place.y + 5, contract::name(place.state));
}

std::string diagram(const Report& report) {
  if (!report.flags) return "<p class=\"muted\">The device does not migrate by v2.</p>\n";
  std::string svg =
      "<svg id=\"diagram\" viewBox=\"0 0 720 310\" width=\"720\" role=\"img\" aria-label=\"Device states and arcs\">\n"
      "<defs><marker id=\"tip\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" markerWidth=\"7\" markerHeight=\"7\" "
      "orient=\"auto\" markerUnits=\"userSpaceOnUse\"><path d=\"M0 0L8 4L0 8z\" "
      "fill=\"context-stroke\"/></marker></defs>\n";
  for (const Place& from : kPlaces) {
    for (const Place& to : kPlaces) {
      const auto path = contract::path(from.state, to.state, *report.flags);
      if (path && path->size() == 1) svg += draw_arc(report, from.state, to.state);
    }
  }
  for (const Place& place : kPlaces) svg += draw_state(report, place);
  return svg +
         "</svg>\n<p class=\"muted legend\"><i class=\"gone\"></i>gone over<i class=\"bad\"></i>failed at least "
         "once<i></i>"
         "not tried<i class=\"lacking\"></i>the device does not have it</p>\n";
}

std::string tile(const Report& report, Verdict verdict, std::string_view words) {
  return fmt::format("<button class=\"{0}\" data-verdict=\"{0}\" aria-pressed=\"false\"><b>{1}</b>{2}</button>\n",
                     to_text(verdict), report.count(verdict), words);
}

// The verdict as readers say it.
std::string words(Verdict verdict) {
  std::string text(to_text(verdict));
  std::ranges::replace(text, '_', ' ');
  return text;
}

std::string bar(const Report& report) {
  std::string parts;
  for (const Verdict verdict :
       {Verdict::Pass, Verdict::Fail, Verdict::Waived, Verdict::NotTested, Verdict::NotSupported}) {
    if (report.count(verdict) == 0) continue;
    parts += fmt::format("<span class=\"{}\" style=\"flex:{}\"></span>", to_text(verdict), report.count(verdict));
  }
  return fmt::format("<div class=\"bar\">{}</div>\n", parts);
}

std::string headline(const Report& report) {
  const std::size_t failed = report.count(Verdict::Fail);
  if (failed != 0) {
    return fmt::format("<p class=\"verdict fail\">{} of {} clauses {}</p>\n", failed, report.clauses.size(),
                       failed == 1 ? "fails" : "fail");
  }
  return report.exit_status() == 0 ? "<p class=\"verdict pass\">no clause fails</p>\n"
                                   : "<p class=\"verdict fail\">the device failed on the way</p>\n";
}

std::string failure(const ClauseResult& clause, const TestResult& test) {
  const std::string script = test.script.empty() ? "" : fmt::format("<pre>{}</pre>", escape_markup(test.script));
  return fmt::format(
      "<div class=\"failure\"><h3><code>{}</code> {}</h3><p>{} <span class=\"muted\">({})</span></p>"
      "<dl><dt>expected</dt><dd>{}</dd><dt>came</dt><dd>{}</dd></dl>{}</div>\n",
      clause.clause->id, escape_markup(test.name), escape_markup(clause.clause->text),
      escape_markup(clause.clause->source), escape_markup(test.expected), escape_markup(test.came), script);
}

std::string failures(const Report& report) {
  std::string all;
  for (const ClauseResult& clause : report.clauses) {
    for (const TestResult& test : clause.tests) {
      if (test.verdict == Verdict::Fail) all += failure(clause, test);
    }
  }
  return all.empty() ? "" : "<h2>Failures</h2>\n" + all;
}

// The script of a failure stands with the failures.
std::string test_row(const TestResult& test) {
  const std::string head = fmt::format(
      "<span class=\"test\"><span class=\"dot {0}\" title=\"{1}\"></span><span>{2}</span>"
      "<span class=\"muted\">{3:.3f} s</span></span>",
      to_text(test.verdict), words(test.verdict), escape_markup(test.name), test.seconds);
  if (test.message.empty()) return fmt::format("<div>{}</div>", head);
  std::string body = fmt::format("<p>{}: {}</p>", words(test.verdict), escape_markup(test.message));
  if (!test.script.empty() && test.verdict != Verdict::Fail) {
    body += fmt::format("<pre>{}</pre>", escape_markup(test.script));
  }
  return fmt::format("<details><summary>{}</summary>{}</details>", head, body);
}

std::string clause_row(const ClauseResult& clause) {
  std::string tests;
  for (const TestResult& test : clause.tests) tests += test_row(test);
  return fmt::format(
      "<tr class=\"clause\" data-verdict=\"{0}\"><td class=\"id\">{1}</td><td><span class=\"pill {0}\">{2}</span></td>"
      "<td>{3}<br><span class=\"muted\">{4}</span></td><td class=\"tests\">{5}</td></tr>\n",
      to_text(clause.verdict), clause.clause->id, words(clause.verdict), escape_markup(clause.clause->text),
      escape_markup(clause.clause->source), tests);
}

}  // namespace

std::string to_html(const Report& report) {
  std::string about = fmt::format("{} clauses in {:.1f} s", report.clauses.size(), report.seconds);
  if (report.flags) about = fmt::format("migration flags {}, {}", report.flags->bits(), about);
  if (!report.note.empty()) about += "; " + escape_markup(report.note);
  std::string page = fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
      "content=\"width=device-width\"><title>gangway check {0}</title><style>{1}</style></head>\n<body><h1>{0}</h1>\n"
      "<p class=\"muted\">{2}</p>\n",
      escape_markup(report.target), kStyle, about);
  page += headline(report) + "<div class=\"tiles\">\n" + tile(report, Verdict::Pass, "passed") +
          tile(report, Verdict::Fail, "failed") + tile(report, Verdict::NotSupported, "not supported") +
          tile(report, Verdict::NotTested, "not tested") + tile(report, Verdict::Waived, "waived") + "</div>\n" +
          bar(report) + failures(report) + "<h2>States</h2>\n" + diagram(report) +
          "<h2>Clauses</h2>\n<p><input id=\"filter\" type=\"search\" placeholder=\"Filter by any word\" "
          "aria-label=\"Filter\"><span id=\"shown\" class=\"muted\"></span></p>\n"
          "<table><thead><tr><th>Clause</th><th>Verdict</th><th>Rule</th><th>Tests</th></tr></thead><tbody>\n";
  for (const ClauseResult& clause : report.clauses) page += clause_row(clause);
  page += "</tbody></table>\n";
  if (!report.unused_waivers.empty()) {
    page += "<h2>Unused waivers</h2>\n<ul>";
    for (const std::string& waiver : report.unused_waivers) page += fmt::format("<li>{}</li>", escape_markup(waiver));
    page += "</ul>\n";
  }
  return page + fmt::format("<script>{}</script></body></html>\n", kScript);
}

}  // namespace gangway::conformance
