#include "profile/replay.h"

#include <algorithm>
#include <map>
#include <ranges>
#include <utility>

#include <fmt/core.h>

#include "conformance/abilities.h"
#include "profile/replay_connection.h"

namespace gangway::profile {
namespace {

using conformance::Abilities;
using conformance::Subject;

bool changes_state(const record::Doing& doing) {
  return std::holds_alternative<record::SetState>(doing) || std::holds_alternative<record::Reset>(doing);
}

// In the order of the recording, and of each write of migration data whether it is the last of its session.
std::vector<std::vector<NumberedAct>> by_connection(std::span<const record::Act> acts,
                                                    std::optional<std::uint32_t> only) {
  std::map<std::uint32_t, std::size_t> places;
  std::vector<std::vector<NumberedAct>> connections;
  for (std::size_t i = 0; i < acts.size(); ++i) {
    if (only && acts[i].connection != *only) continue;
    const auto [place, begins] = places.try_emplace(acts[i].connection, connections.size());
    if (begins) connections.emplace_back();
    connections[place->second].push_back({.number = i, .act = &acts[i]});
  }
  for (std::vector<NumberedAct>& connection : connections) {
    bool last = true;
    for (NumberedAct& numbered : connection | std::views::reverse) {
      if (changes_state(numbered.act->doing)) last = true;
      if (!std::holds_alternative<record::WriteData>(numbered.act->doing)) continue;
      numbered.last_write = std::exchange(last, false);
    }
  }
  return connections;
}

bool loads(const std::vector<NumberedAct>& connection) {
  return std::ranges::any_of(connection, [](const NumberedAct& numbered) {
    return std::holds_alternative<record::WriteData>(numbered.act->doing);
  });
}

bool drives_v2(std::span<const record::Act> acts) {
  return std::ranges::any_of(acts, [](const record::Act& act) {
    return std::holds_alternative<record::SetState>(act.doing) || std::holds_alternative<record::ReadData>(act.doing);
  });
}

// A recording of a destination has not the data that it wrote, or that of another device: one of now is made.
Result<conformance::Bytes> save_now(Subject& subject) {
  if (Result<void> opened = subject.open(); !opened) return std::unexpected(opened.error());
  if (Result<void> set = subject.set(DeviceState::StopCopy); !set)
    return fail_within("save what is loaded", set.error());
  if (const auto read = subject.read_all(); !read) return fail_within("save what is loaded", read.error());
  conformance::Bytes data = subject.received();
  if (Result<void> set = subject.set(DeviceState::Running); !set)
    return fail_within("save what is loaded", set.error());
  subject.close();
  return data;
}

class Replayer {
 public:
  Replayer(std::span<const record::Act> acts, const ReplayOptions& options)
      : acts_(acts),
        options_(options),
        subject_(options.target.opener, journal_, hangs_, {.limit = options.settings.limit}) {}

  Result<ReplayReport> run() {
    const auto connections = by_connection(acts_, options_.connection);
    if (connections.empty()) return fail(ENODATA, "there is nothing to play in this recording");
    if (Result<void> known = find_out(); !known) return std::unexpected(known.error());
    report_.target = options_.target.name;
    for (const std::vector<NumberedAct>& connection : connections) {
      ++report_.connections;
      if (Result<void> played = play(connection); !played) {
        // A device that a deviation left unusable was found out; that is the answer.
        if (report_.deviations.empty()) return std::unexpected(played.error());
        report_.notes.push_back(fmt::format("the next connection was not played: {}", played.error().message));
        break;
      }
    }
    return std::move(report_);
  }

 private:
  Result<void> find_out() {
    if (Result<void> opened = subject_.open(); !opened) return opened;
    const auto abilities = subject_.ask<Abilities>("abilities", conformance::find_abilities);
    if (!abilities) return std::unexpected(abilities.error());
    if (!abilities->flags && drives_v2(acts_)) return fail(ENOTTY, abilities->why_no_migration);
    flags_ = abilities->migration();
    subject_.close();
    return {};
  }

  Result<void> play(const std::vector<NumberedAct>& connection) {
    if (loads(connection) && data_.empty()) {
      auto data = save_now(subject_);
      if (!data) return std::unexpected(data.error());
      data_ = *std::move(data);
      report_.notes.emplace_back("what is loaded was saved from the device before, by STOP_COPY");
    }
    if (Result<void> opened = subject_.open(); !opened) return opened;
    {
      ReplayConnection playing(subject_, flags_, options_, data_, report_);
      report_.ended_early |= !playing.play(connection);
    }
    if (!subject_.lost() && subject_.last_state() != DeviceState::Running) (void)subject_.reset();
    subject_.close();
    return {};
  }

  std::span<const record::Act> acts_;
  const ReplayOptions& options_;
  conformance::Journal journal_;
  conformance::Hangs hangs_;
  Subject subject_;
  MigrationFlags flags_;
  conformance::Bytes data_;
  ReplayReport report_;
};

}  // namespace

Result<ReplayReport> replay(std::span<const record::Act> acts, const ReplayOptions& options) {
  return Replayer(acts, options).run();
}

}  // namespace gangway::profile
