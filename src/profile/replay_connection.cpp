#include "profile/replay_connection.h"

#include <string.h>

#include <algorithm>
#include <array>
#include <variant>

#include <fmt/core.h>

#include "profile/replay_text.h"

namespace gangway::profile {
namespace {

using conformance::Act;
using conformance::Outcome;
using conformance::Subject;

// What is not the device's own but migration: played on any device.
template <class... Of>
bool is_one_of(const record::Doing& doing) {
  return (std::holds_alternative<Of>(doing) || ...);
}
bool is_migration(const record::Doing& doing) {
  using namespace record;
  return is_one_of<SetState, GetState, record::Reset, GetDataSize, GetPrecopyInfo, ReadData, WriteData, CloseData,
                   StartLogging, StopLogging, ReportLogging, GetMigrationFlags, ProbeFeature>(doing);
}

std::string errno_text(int code) {
  if (code == 0) return "success";
  const char* const name = ::strerrorname_np(code);
  return name != nullptr ? name : fmt::format("error {}", code);
}

bool says_nothing_now(int error) { return error == ENOMSG; }

}  // namespace

ReplayConnection::ReplayConnection(Subject& subject, Setting setting, const RecordedRegion& recorded,
                                   const ReplayOptions& options, Saved& data, ReplayReport& report)
    : subject_(subject),
      options_(options),
      setting_(std::move(setting)),
      recorded_region_(recorded),
      data_(data),
      report_(report),
      model_(setting_.flags, data.bytes.size()) {
  subject_.give(data_.bytes);
}

bool ReplayConnection::play(std::span<const NumberedAct> acts) {
  if (acts.empty()) return true;
  return std::ranges::all_of(acts, [this](const NumberedAct& act) { return play_one(act); }) && check_end(acts.back());
}

bool ReplayConnection::play_one(const NumberedAct& numbered) {
  const record::Act& recorded = *numbered.act;
  now_ = &numbered;
  const RegionDeed* const deed = recorded_region_.at(recorded);
  const bool migrates = deed != nullptr || is_migration(recorded.doing);
  const bool wanted = !recorded.by_device && (!options_.migration_only || migrates);
  const std::optional<Came> came =
      !wanted           ? std::nullopt
      : deed != nullptr ? perform_deed(*deed)
                        : std::visit([this](const auto& doing) { return perform(doing); }, recorded.doing);
  if (!came) {
    ++report_.left_out;
    return true;
  }
  ++report_.played;
  return compare(numbered, *came);
}

// True: what follows may be played.
bool ReplayConnection::compare(const NumberedAct& numbered, const Came& came) {
  const record::Act& recorded = *numbered.act;
  const std::size_t before = report_.deviations.size();
  std::optional<conformance::Finding> finding;
  if (came.judged) finding = model_.judge(*came.judged, came.outcome);
  if (finding) finding->clause = clause_by_region(finding->clause);
  const int now = came.error ? came.error->code : 0;
  const bool data = std::holds_alternative<record::ReadData>(recorded.doing);
  const bool same = now == recorded.error || (data && (says_nothing_now(now) || now == 0) &&
                                              (says_nothing_now(recorded.error) || recorded.error == 0));
  if (recorded.answered && !same) {
    deviate(numbered, errno_text(recorded.error), came.error ? conformance::to_text(*came.error) : "success",
            finding ? finding->clause : std::string_view());
  } else if (came.other) {
    deviate(numbered, came.other->first, came.other->second, finding ? finding->clause : std::string_view());
  } else if (finding) {
    deviate(numbered, finding->expected, finding->came, finding->clause);
  }
  if (subject_.lost()) return false;
  const RegionDeed* const deed = recorded_region_.at(recorded);
  const bool changes_state = is_one_of<record::SetState, record::Reset>(recorded.doing) ||
                             (deed != nullptr && deed->kind == RegionDeed::Kind::WriteState);
  return !changes_state || report_.deviations.size() == before;
}

void ReplayConnection::deviate(const NumberedAct& numbered, std::string recorded, std::string came,
                               std::string_view clause) {
  const RegionDeed* const deed = recorded_region_.at(*numbered.act);
  report_.deviations.push_back({.act = numbered.number,
                                .time = numbered.act->time,
                                .text = deed != nullptr ? deed_text(*deed) : act_text(numbered.act->doing),
                                .recorded = std::move(recorded),
                                .came = std::move(came),
                                .clause = clause});
}

// The client need not ask where it left the device; we do.
bool ReplayConnection::check_end(const NumberedAct& last) {
  if (subject_.lost()) return false;
  Outcome outcome;
  outcome.state = state_now();
  outcome.lost = subject_.lost();
  const auto finding = model_.judge({.kind = Act::Kind::Get}, outcome);
  if (finding) deviate(last, finding->expected, finding->came, finding->clause);
  return !finding;
}

ReplayConnection::Came ReplayConnection::act(const Act& act) {
  Came came{.judged = act, .outcome = conformance::act_on(subject_, act)};
  if (came.outcome.error && !subject_.lost()) {
    came.outcome.state = state_now();
    came.outcome.lost = subject_.lost();
  }
  came.error = came.outcome.error;
  return came;
}

std::optional<DeviceState> ReplayConnection::state_now() {
  if (setting_.interface != Revision::V2) {
    const auto region = setting_.regions.find(setting_.interface);
    return region == setting_.regions.end() ? std::nullopt : region_state_now(region->second);
  }
  const Result<DeviceState> state = subject_.peek();
  return state ? std::optional(*state) : std::nullopt;
}

// --- migration ---

std::optional<ReplayConnection::Came> ReplayConnection::perform(const record::Reset&) {
  loading_ = false;
  return act({.kind = Act::Kind::Reset});
}

std::optional<ReplayConnection::Came> ReplayConnection::perform(const record::SetState& recorded) {
  loading_ = false;
  const DeviceState before = model_.state();
  Came came = act({.kind = Act::Kind::Set, .number = recorded.state});
  if (!contract::is_pre_copy(before)) told_precopy_ = false;
  return came;
}

std::optional<ReplayConnection::Came> ReplayConnection::perform(const record::GetState& recorded) {
  const Result<DeviceState> state = subject_.get();
  Came came{.judged = Act{.kind = Act::Kind::Get}};
  came.outcome.lost = subject_.lost();
  if (!state) {
    came.error = state.error();
    return came;
  }
  came.outcome.state = *state;
  if (static_cast<std::uint32_t>(*state) != recorded.state) {
    came.other = {state_text(recorded.state), std::string(contract::name(*state))};
  }
  return came;
}

std::optional<ReplayConnection::Came> ReplayConnection::perform(const record::GetDataSize&) {
  return act({.kind = Act::Kind::Size});
}

// PRE-INFO-INITIAL: what is told first is above 0; all other numbers are the moment's.
std::optional<ReplayConnection::Came> ReplayConnection::perform(const record::GetPrecopyInfo& recorded) {
  const Result<PrecopyInfo> info = subject_.precopy_info();
  Came came{.judged = Act{.kind = Act::Kind::Info}};
  came.outcome.lost = subject_.lost();
  if (!info) {
    came.error = came.outcome.error = info.error();
    return came;
  }
  if (!told_precopy_ && recorded.initial != 0 && info->initial_bytes == 0) {
    came.other = {"initial data", "none"};
  }
  told_precopy_ = true;
  return came;
}

std::optional<ReplayConnection::Came> ReplayConnection::perform(const record::GetMigrationFlags& recorded) {
  Came came;
  const auto flags =
      subject_.ask<MigrationFlags>("flags", [](DeviceHandle& device) { return device.migration_flags(); });
  if (!flags) {
    came.error = flags.error();
  } else if (flags->bits() != (recorded.flags & 7U)) {
    came.other = {fmt::format("flags {}", recorded.flags), fmt::format("flags {}", flags->bits())};
  }
  return came;
}

std::optional<ReplayConnection::Came> ReplayConnection::perform(const record::ProbeFeature& recorded) {
  constexpr std::uint16_t kOurs = 0xff00;
  if (recorded.feature >= kOurs) return std::nullopt;
  Came came;
  const Result<void> probed =
      subject_.perform(fmt::format("probe {}", recorded.feature), [recorded](DeviceHandle& device) {
        return device.feature_probe(static_cast<Feature>(recorded.feature), recorded.get, recorded.set);
      });
  if (!probed) came.error = probed.error();
  return came;
}

std::optional<ReplayConnection::Came> ReplayConnection::perform(const record::StartLogging& recorded) {
  Came came{.judged = Act{.kind = Act::Kind::LogStart}};
  const Result<void> started = subject_.perform("log start", [recorded](DeviceHandle& device) -> Result<void> {
    const Result<std::uint64_t> page = device.dma_logging_start(recorded.ranges, recorded.page_size);
    if (!page) return std::unexpected(page.error());
    return {};
  });
  if (!started) came.error = came.outcome.error = started.error();
  came.outcome.lost = subject_.lost();
  // What the client asks for may be refused by right; then the model learns nothing from it.
  if (now_->act->error != 0) came.judged.reset();
  return came;
}

std::optional<ReplayConnection::Came> ReplayConnection::perform(const record::StopLogging&) {
  return act({.kind = Act::Kind::LogStop});
}

std::optional<ReplayConnection::Came> ReplayConnection::perform(const record::ReportLogging& recorded) {
  constexpr std::uint64_t kMostWords = 64ULL << 20;  // 16 TiB of 4 KiB pages
  const std::uint64_t pages = recorded.page_size == 0 ? 0 : recorded.range.size / recorded.page_size + 1;
  if (pages / 64 >= kMostWords) return std::nullopt;
  Came came{.judged = Act{.kind = Act::Kind::LogReport}};
  const Result<void> reported = subject_.perform("log report", [recorded, pages](DeviceHandle& device) {
    std::vector<std::uint64_t> bitmap(pages / 64 + 1);
    return device.dma_logging_report(recorded.range, recorded.page_size, bitmap);
  });
  if (!reported) came.error = came.outcome.error = reported.error();
  came.outcome.lost = subject_.lost();
  if (now_->act->error != 0) came.judged.reset();
  return came;
}

// --- migration data, which is opaque ---

// A stream of another length: where the recording met the end we go on to it, and an end that comes earlier stays one.
std::optional<ReplayConnection::Came> ReplayConnection::perform(const record::ReadData& recorded) {
  if (now_->act->error == EAGAIN) return std::nullopt;  // it waited for data, as each of our reads does
  const std::uint64_t size = std::clamp<std::uint64_t>(recorded.asked, 1, kLargestAccess);
  const bool ended = recorded.met_end() || says_nothing_now(now_->act->error);
  Came came = act({.kind = Act::Kind::Read, .number = size});
  if (ended && now_->act->answered && !came.error && came.outcome.end == StreamEnd::More) {
    if (const auto finding = model_.judge(*came.judged, came.outcome)) {
      came.other = {finding->expected, finding->came};
      came.judged.reset();
      return came;
    }
    came = act({.kind = Act::Kind::ReadAll, .number = size});
  }
  if (!came.error && came.outcome.end == StreamEnd::Final && model_.state() == DeviceState::StopCopy) {
    data_ = {.bytes = subject_.received(), .chunks = {}};
  }
  return came;
}

void ReplayConnection::begin_load() {
  loading_ = true;
  subject_.give(data_.bytes);
  (void)model_.judge({.kind = Act::Kind::Keep}, {.error = {}, .size = data_.bytes.size()});
}

// In pieces as they were; the last one takes what is left.
std::optional<ReplayConnection::Came> ReplayConnection::perform(const record::WriteData& recorded) {
  if (!loading_) begin_load();
  const std::uint64_t size = std::clamp<std::uint64_t>(recorded.given.size, 1, kLargestAccess);
  const std::size_t left = subject_.sending().size() - std::min(subject_.sent(), subject_.sending().size());
  if (left == 0) return std::nullopt;
  if (now_->last_write) return act({.kind = Act::Kind::WriteAll, .number = size});
  return act({.kind = Act::Kind::Write, .number = std::min<std::uint64_t>(size, left)});
}

std::optional<ReplayConnection::Came> ReplayConnection::perform(const record::CloseData& recorded) {
  if (!recorded.current || !recorded.what.empty()) return std::nullopt;
  Came came = act({.kind = Act::Kind::CloseData});
  if (came.error && came.error->code == ENOTTY) return std::nullopt;  // by vfio-user there is nothing to close
  return came;
}

}  // namespace gangway::profile
