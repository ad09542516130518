#include "conformance/script.h"

#include <algorithm>

#include "conformance/model.h"
#include "conformance/shrink.h"

namespace gangway::conformance {
namespace {

// The reference model knows states by v2 alone.
bool drives_region(const Abilities& abilities, const Act& act) {
  if (act.kind != Act::Kind::RegionRead && act.kind != Act::Kind::RegionWrite) return false;
  return std::ranges::any_of(kAllRevisions, [&](Revision revision) {
    const auto region = abilities.migration_region(revision);
    return region && region->index == act.region;
  });
}

// The first outcome that breaks a clause.
std::optional<Finding> judge_acts(Subject& subject, MigrationFlags flags, const std::vector<Act>& acts) {
  Model model(flags, 0);
  for (const Act& act : acts) {
    if (auto finding = model.judge(act, perform(subject, act))) return finding;
  }
  return {};
}

void leave_running(Subject& subject) {
  if (!subject.lost() && subject.last_state() != DeviceState::Running) (void)subject.reset();
}

}  // namespace

std::optional<Finding> shorten_script(const Opener& opener, const Settings& settings, const Abilities& abilities,
                                      Hangs& hangs, const std::string& script, std::string_view clause) {
  const auto acts = parse_script(script);
  if (!acts || !abilities.flags || settings.plays == 0) return {};
  if (std::ranges::any_of(*acts, [&](const Act& act) { return drives_region(abilities, act); })) return {};
  std::optional<Finding> shortest;
  const auto fails = [&](const std::vector<Act>& candidate) {
    Journal journal;
    Subject subject(opener, journal, hangs, {.limit = settings.limit});
    if (!subject.open()) return false;
    journal.clear();
    auto finding = judge_acts(subject, *abilities.flags, candidate);
    if (finding) finding->script = journal.text();
    leave_running(subject);
    if (!finding || finding->clause != clause) return false;
    shortest = std::move(finding);
    return true;
  };
  if (fails(*acts)) (void)shrink(*acts, fails, settings.plays);
  return shortest;
}

Result<Played> play_script(const Target& target, const Settings& settings, const std::vector<Act>& acts) {
  Journal journal;
  Hangs hangs;
  Subject subject(target.opener, journal, hangs, {.limit = settings.limit});
  if (Result<void> opened = subject.open(); !opened) return std::unexpected(opened.error());
  const Result<Abilities> abilities = subject.ask<Abilities>("abilities", find_abilities);
  if (!abilities) return std::unexpected(abilities.error());
  const bool by_region = std::ranges::any_of(acts, [&](const Act& act) { return drives_region(*abilities, act); });
  if (!abilities->flags && !by_region) return fail(ENOTTY, abilities->why_no_migration);
  journal.clear();
  Played played;
  if (by_region) {
    for (const Act& act : acts) (void)perform(subject, act);
  } else {
    played.finding = judge_acts(subject, abilities->migration(), acts);
  }
  played.judged = !by_region;
  played.transcript = journal.text();
  leave_running(subject);
  return played;
}

}  // namespace gangway::conformance
