// What a run says of a device beyond the verdict of single tests.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "unit/conformance/served_card.h"

namespace gangway::conformance {
namespace {

using namespace std::chrono_literals;

Settings quick() {
  Settings settings;
  settings.limit = 60s;
  settings.depth = 1;
  settings.walk = 30;
  settings.cycles = 5;
  settings.plays = 0;
  return settings;
}

Target by_name(const ServedCard& card) { return named_target(card.target(), 60s); }

std::vector<std::string> with(const Report& report, Verdict verdict) {
  std::vector<std::string> clauses;
  for (const ClauseResult& clause : report.clauses) {
    if (clause.verdict == verdict) clauses.emplace_back(clause.clause->id);
  }
  return clauses;
}

using Clauses = std::vector<std::string>;

TEST(Run, a_waived_foundation_explains_what_follows_from_it_as_a_failed_one_does) {
  const ServedCard card("resuming_needs_reset");
  for (const bool waived : {false, true}) {
    const auto waivers = Waivers::parse(waived ? "* RST-NOT-REQUIRED never - known\n" : "", "2026-01-01");
    ASSERT_TRUE(waivers) << waivers.error().message;
    const Report report = run_suite({.target = by_name(card),
                                     .peer = {},
                                     .settings = quick(),
                                     .selection = {},
                                     .waivers = *waivers,
                                     .progress = {}});
    EXPECT_EQ(with(report, Verdict::Fail), waived ? Clauses{} : Clauses{"RST-NOT-REQUIRED"}) << to_text(report);
    EXPECT_EQ(with(report, Verdict::Waived), waived ? Clauses{"RST-NOT-REQUIRED"} : Clauses{});
  }
}

}  // namespace
}  // namespace gangway::conformance
