// The report as one self-contained page: summary, the state diagram coloured by what was gone over and what failed, the
// clauses with filters, and the scripts of what failed.
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
:root{color-scheme:light dark;--pass:#1a7f37;--fail:#cf222e;--skip:#6e7781;--waived:#9a6700;--line:#8886}
body{font:15px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:72rem;padding:0 1rem}
h1{font-size:1.4rem;margin-bottom:.2rem}h2{font-size:1.1rem;margin-top:2rem}
.tiles{display:flex;flex-wrap:wrap;gap:.6rem;margin:1rem 0}
.tiles button{font:inherit;border:1px solid var(--line);border-radius:.5rem;background:none;color:inherit;padding:.5rem .9rem;cursor:pointer;text-align:left}
.tiles button[aria-pressed=true]{outline:2px solid currentColor}
.tiles b{display:block;font-size:1.5rem}
.pass{color:var(--pass)}.fail{color:var(--fail)}.not_supported,.not_tested{color:var(--skip)}.waived{color:var(--waived)}
table{border-collapse:collapse;width:100%}td,th{text-align:left;vertical-align:top;padding:.35rem .6rem;border-top:1px solid var(--line)}
td.id{white-space:nowrap;font-family:ui-monospace,monospace}
pre{overflow:auto;background:#8881;padding:.6rem;border-radius:.4rem;font-size:13px}
details summary{cursor:pointer}input{font:inherit;padding:.3rem .6rem;width:18rem;max-width:100%}
svg{max-width:100%;height:auto}svg text{font:13px ui-monospace,monospace;fill:currentColor;text-anchor:middle}
svg rect{fill:#8881;stroke:var(--skip);stroke-width:1.5}svg line{stroke:var(--skip);stroke-width:1.5}
svg .gone{stroke:var(--pass);stroke-width:2.5}svg .bad{stroke:var(--fail);stroke-width:2.5}
svg .lacking{opacity:.35;stroke-dasharray:4 4}.muted{color:var(--skip)}
)";

constexpr std::string_view kScript = R"(
let verdict='';
const text=document.getElementById('filter');
function filter(){
  const wanted=text.value.toLowerCase();
  for(const row of document.querySelectorAll('tr.clause')){
    const fits=(!verdict||row.dataset.verdict===verdict)&&row.textContent.toLowerCase().includes(wanted);
    row.hidden=!fits;
  }
}
for(const button of document.querySelectorAll('.tiles button'))button.addEventListener('click',()=>{
  verdict=verdict===button.dataset.verdict?'':button.dataset.verdict;
  for(const other of document.querySelectorAll('.tiles button'))other.setAttribute('aria-pressed',String(other.dataset.verdict===verdict));
  filter();
});
text.addEventListener('input',filter);
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
};

Arc arc(const Report& report, DeviceState from, DeviceState to) {
  const auto count = [&](const auto& counts) {
    return counts.at(static_cast<std::size_t>(from)).at(static_cast<std::size_t>(to));
  };
  return {count(report.coverage.done), count(report.coverage.failed)};
}

// A load that is not whole has to fail on its way out of RESUMING, so failures there say nothing.
std::string_view arc_class(const Arc& arc, DeviceState from) {
  if (arc.failed != 0 && from != Resuming) return "bad";
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
      "{} refused or failed</title></line>\n",
      arc_class(counts, from), x1, y1, x2, y2, contract::name(from), contract::name(to), counts.done, counts.failed);
}

std::string draw_state(const Report& report, const Place& place) {
  std::uint32_t entered = 0;
  for (std::uint32_t from = 0; from < kDeviceStates; ++from)
    entered += arc(report, static_cast<DeviceState>(from), place.state).done;
  const bool has = contract::advertised(place.state, report.flags.value_or(MigrationFlags{}));
  return fmt::format(
      "<g class=\"{}\"><rect class=\"{}\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" rx=\"8\"><title>{}: entered {} "
      "times</title></rect><text x=\"{}\" y=\"{}\">{}</text></g>\n",
      has ? "" : "lacking", entered != 0 ? "gone" : "untried", place.x - kHalfWidth, place.y - kHalfHeight,
      2 * kHalfWidth, 2 * kHalfHeight, contract::name(place.state), entered, place.x, place.y + 5,
      contract::name(place.state));
}

std::string diagram(const Report& report) {
  if (!report.flags) return "<p class=\"muted\">The device does not migrate.</p>\n";
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
         "</svg>\n<p class=\"muted\">Green: gone over. Red: failed at least once. Grey: not tried. Dashed: the device "
         "does "
         "not have it.</p>\n";
}

std::string tile(const Report& report, Verdict verdict, std::string_view words) {
  return fmt::format("<button class=\"{0}\" data-verdict=\"{0}\" aria-pressed=\"false\"><b>{1}</b>{2}</button>\n",
                     to_text(verdict), report.count(verdict), words);
}

std::string test_row(const TestResult& test) {
  const std::string head =
      fmt::format("<span class=\"{}\">{}</span> {} <span class=\"muted\">{:.3f} s</span>", to_text(test.verdict),
                  to_text(test.verdict), escape_markup(test.name), test.seconds);
  if (test.message.empty()) return fmt::format("<div>{}</div>", head);
  std::string body = fmt::format("<p>{}</p>", escape_markup(test.message));
  if (!test.script.empty()) body += fmt::format("<pre>{}</pre>", escape_markup(test.script));
  return fmt::format("<details{}><summary>{}</summary>{}</details>", test.verdict == Verdict::Fail ? " open" : "", head,
                     body);
}

std::string clause_row(const ClauseResult& clause) {
  std::string tests;
  for (const TestResult& test : clause.tests) tests += test_row(test);
  return fmt::format(
      "<tr class=\"clause\" data-verdict=\"{}\"><td class=\"id\">{}</td><td class=\"{}\">{}</td><td>{}<br><span "
      "class=\"muted\">{}</span></td><td>{}</td></tr>\n",
      to_text(clause.verdict), clause.clause->id, to_text(clause.verdict), to_text(clause.verdict),
      escape_markup(clause.clause->text), escape_markup(clause.clause->source), tests);
}

}  // namespace

std::string to_html(const Report& report) {
  std::string page = fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
      "content=\"width=device-width\"><title>gangway check {0}</title><style>{1}</style></head>\n<body><h1>{0}</h1>\n"
      "<p class=\"muted\">{2} in {3:.1f} s</p>\n",
      escape_markup(report.target), kStyle,
      report.flags ? fmt::format("migration flags {}, {} clauses", report.flags->bits(), report.clauses.size())
                   : escape_markup(report.note),
      report.seconds);
  page +=
      "<div class=\"tiles\">\n" + tile(report, Verdict::Pass, "passed") + tile(report, Verdict::Fail, "failed") +
      tile(report, Verdict::NotSupported, "not supported") + tile(report, Verdict::NotTested, "not tested") +
      tile(report, Verdict::Waived, "waived") + "</div>\n<h2>States</h2>\n" + diagram(report) +
      "<h2>Clauses</h2>\n<p><input id=\"filter\" type=\"search\" placeholder=\"Filter\" aria-label=\"Filter\"></p>\n"
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
