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

struct Judged {
  std::optional<Finding> finding;  // the first outcome that breaks a clause
  Risks taken;
  std::vector<Act> left_out;  // as too risky
};

Judged judge_acts(Subject& subject, MigrationFlags flags, const std::vector<Act>& acts, Risks risks) {
  Judged judged;
  Model model(flags, 0);
  for (const Act& act : acts) {
    if (!risks.allow(act, model)) {
      judged.left_out.push_back(act);
      continue;
    }
    judged.taken.refused_pairs |= model.is_refused_pair(act);
    judged.taken.held_states |= model.holds_state(act);
    judged.finding = model.judge(act, perform(subject, act));
    if (judged.finding) break;
  }
  return judged;
}

}  // namespace

std::optional<Finding> shorten_script(const Opener& opener, const Settings& settings, const Abilities& abilities,
                                      Hangs& hangs, const std::string& script, std::string_view clause, Risks risks) {
  const auto acts = parse_script(script);
  if (!acts || !abilities.flags || settings.plays == 0) return {};
  if (std::ranges::any_of(*acts, [&](const Act& act) { return drives_region(abilities, act); })) return {};
  std::optional<Finding> shortest;
  const auto fails = [&](const std::vector<Act>& candidate) {
    Journal journal;
    Subject subject(opener, journal, hangs, {.limit = settings.limit});
    if (!subject.open()) return false;
    journal.clear();
    Judged judged = judge_acts(subject, *abilities.flags, candidate, risks);
    if (judged.finding) judged.finding->script = journal.text();
    (void)subject.rest();
    if (!judged.finding || judged.finding->clause != clause) return false;
    shortest = std::move(judged.finding);
    risks = judged.taken;
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
  if (by_region && settings.safe) {
    return fail(ENOTSUP, with_name("the script drives a migration region, and what that does is not known beforehand: "
                                   "it cannot be repeated safely, only as it is",
                                   settings.names.safe));
  }
  journal.clear();
  Played played;
  played.judged = !by_region;
  if (by_region) {
    for (const Act& act : acts) (void)perform(subject, act);
    subject.lose_track();
  } else {
    const Risks risks{.refused_pairs = !settings.safe, .held_states = !settings.safe};
    Judged judged = judge_acts(subject, abilities->migration(), acts, risks);
    played.finding = std::move(judged.finding);
    played.left_out = std::move(judged.left_out);
  }
  played.transcript = journal.text();
  (void)subject.rest();
  return played;
}

}  // namespace gangway::conformance
