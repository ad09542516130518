#include "profile/player.h"

#include <algorithm>
#include <map>
#include <thread>
#include <utility>

#include <fmt/core.h>

#include "conformance/abilities.h"
#include "profile/phase_player.h"

namespace gangway::profile {
namespace {

using conformance::Abilities;
using conformance::Hangs;
using conformance::Journal;
using conformance::Subject;
using conformance::Verdict;

// A device that a profile is played on, and what it is known to have.
class Player {
 public:
  Player(const conformance::Target& target, std::optional<Revision> interface, const conformance::Settings& settings)
      : name_(target.name),
        interface_(interface),
        subject_(target.opener, journal_, hangs_, {.limit = settings.limit, .prefix = {}, .coverage = &coverage_}) {}

  // Opens the device, asks what it has, and closes it. Errors: it cannot be opened, or does not say what it is.
  Result<void> find_out() {
    if (Result<void> opened = subject_.open(); !opened) return opened;
    const auto abilities = subject_.ask<Abilities>("abilities", conformance::find_abilities);
    if (!abilities) return std::unexpected(abilities.error());
    flags_ = abilities->flags;
    features_ = {abilities->migration(), (abilities->have & conformance::kDmaLogging) != 0};
    if (interface_ == Revision::V2) {
      if (!flags_) why_not_ = abilities->why_no_migration;
    } else if (interface_) {
      if (Result<void> found = find_region(*interface_); !found) return found;
    }
    subject_.close();
    return {};
  }

  PhaseResult play(const Phase& phase, const Saved* saved) {
    if (!why_not_.empty()) return not_played(phase, Verdict::NotSupported, why_not_, false);
    if (gone_) return not_played(phase, Verdict::NotTested, *gone_, true);
    if (phase.side == Side::Destination && (saved == nullptr || saved->empty())) {
      return not_played(phase, Verdict::NotTested, "no source left migration data", false);
    }
    PhasePlayer player(subject_, journal_,
                       {.interface = interface_,
                        .features = features_,
                        .region = region_,
                        .saved = phase.side == Side::Destination ? saved : nullptr});
    PhaseResult result = player.play(phase);
    result.target = name_;
    saved_ = player.saved();
    clean_up();
    return result;
  }

  // Of the last phase.
  [[nodiscard]] const Saved& saved() const { return saved_; }
  [[nodiscard]] std::optional<MigrationFlags> flags() const { return flags_; }
  [[nodiscard]] const conformance::Coverage& coverage() const { return coverage_; }

 private:
  Result<void> find_region(Revision revision) {
    const auto found = subject_.ask<std::optional<MigrationRegion>>(
        "migration region", [revision](DeviceHandle& device) { return MigrationRegion::find(device, revision); });
    if (!found) return std::unexpected(found.error());
    region_ = *found;
    if (!region_) {
      why_not_ = fmt::format("the device does not expose {}", contract::name(revision));  // V1-HIDDEN, R2-FOUND
      return {};
    }
    if (revision == Revision::V1) return {};
    const auto flags = subject_.ask<MigrationFlags>("states", [region = *region_, revision](DeviceHandle& device) {
      return flags_by_region(device, region, revision);
    });
    if (!flags) return std::unexpected(flags.error());
    features_.flags = *flags;
    return {};
  }

  PhaseResult not_played(const Phase& phase, Verdict verdict, std::string why, bool device_failed) const {
    return {.name = phase.name,
            .side = phase.side,
            .target = name_,
            .verdict = verdict,
            .why = std::move(why),
            .device_failed = device_failed};
  }

  // A state held over close and reopen is known to crash some kernels; that is not what a profile is about.
  void clean_up() {
    if (!subject_.lost()) (void)subject_.reset();
    subject_.close();
    if (Result<void> again = subject_.open(); !again) gone_ = again.error().message;
    subject_.close();
  }

  const std::string name_;
  const std::optional<Revision> interface_;
  Journal journal_;
  Hangs hangs_;
  conformance::Coverage coverage_;
  Subject subject_;
  Features features_;
  std::optional<MigrationFlags> flags_;
  std::optional<MigrationRegion> region_;
  std::string why_not_;
  std::optional<std::string> gone_;
  Saved saved_;
};

// Both at once; what each read is its own.
std::pair<PhaseResult, PhaseResult> play_together(const Phase& phase, Player& first, Player& second,
                                                  const Saved* saved) {
  PhaseResult beside;
  std::thread thread([&] { beside = second.play(phase, saved); });
  PhaseResult result = first.play(phase, saved);
  thread.join();
  return {std::move(result), std::move(beside)};
}

}  // namespace

Result<PlayReport> play(const Profile& profile, const PlayOptions& options) {
  Player source(options.target, profile.interface, options.settings);
  if (Result<void> known = source.find_out(); !known) return std::unexpected(known.error());
  std::optional<Player> peer;
  if (options.peer) {
    peer.emplace(*options.peer, profile.interface, options.settings);
    if (Result<void> known = peer->find_out(); !known) return fail_within("the peer", known.error());
  }
  PlayReport report{.profile = profile.name,
                    .target = options.target.name,
                    .peer = options.peer ? options.peer->name : std::string(),
                    .flags = source.flags()};
  Saved saved;
  for (const Phase& phase : profile.phases) {
    Player& device = phase.side == Side::Destination && peer ? *peer : source;
    if (phase.together && peer) {
      auto [first, second] = play_together(phase, source, *peer, &saved);
      report.phases.push_back(std::move(first));
      report.phases.push_back(std::move(second));
    } else {
      report.phases.push_back(device.play(phase, &saved));
    }
    if (phase.side == Side::Source && !source.saved().empty()) saved = source.saved();
  }
  report.coverage = source.coverage();
  return report;
}

}  // namespace gangway::profile
