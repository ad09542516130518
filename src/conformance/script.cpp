#include "conformance/script.h"

#include "conformance/model.h"

namespace gangway::conformance {

Result<Played> play_script(const Target& target, const Settings& settings, const std::vector<Act>& acts) {
  Journal journal;
  Hangs hangs;
  Subject subject(target.opener, journal, hangs, {.limit = settings.limit});
  if (Result<void> opened = subject.open(); !opened) return std::unexpected(opened.error());
  const Result<Abilities> abilities = subject.ask<Abilities>("abilities", find_abilities);
  if (!abilities) return std::unexpected(abilities.error());
  if (!abilities->flags) return fail(ENOTTY, abilities->why_no_migration);
  Model model(*abilities->flags, 0);
  journal.clear();
  Played played;
  for (const Act& act : acts) {
    played.finding = model.judge(act, perform(subject, act));
    if (played.finding) break;
  }
  played.transcript = journal.text();
  if (!subject.lost() && subject.last_state() != DeviceState::Running) (void)subject.reset();
  return played;
}

}  // namespace gangway::conformance
