#include "conformance/script.h"

#include <algorithm>

#include "conformance/model.h"

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

}  // namespace

Result<Played> play_script(const Target& target, const Settings& settings, const std::vector<Act>& acts) {
  Journal journal;
  Hangs hangs;
  Subject subject(target.opener, journal, hangs, {.limit = settings.limit});
  if (Result<void> opened = subject.open(); !opened) return std::unexpected(opened.error());
  const Result<Abilities> abilities = subject.ask<Abilities>("abilities", find_abilities);
  if (!abilities) return std::unexpected(abilities.error());
  const bool by_region = std::ranges::any_of(acts, [&](const Act& act) { return drives_region(*abilities, act); });
  if (!abilities->flags && !by_region) return fail(ENOTTY, abilities->why_no_migration);
  Model model(abilities->migration(), 0);
  journal.clear();
  Played played;
  for (const Act& act : acts) {
    const Outcome outcome = perform(subject, act);
    if (by_region) continue;
    played.finding = model.judge(act, outcome);
    if (played.finding) break;
  }
  played.judged = !by_region;
  played.transcript = journal.text();
  if (!subject.lost() && subject.last_state() != DeviceState::Running) (void)subject.reset();
  return played;
}

}  // namespace gangway::conformance
