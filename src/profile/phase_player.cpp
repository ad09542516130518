#include "profile/phase_player.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include <fmt/core.h>

#include <gangway/migration_region.h>

namespace gangway::profile {
namespace {

using conformance::Act;
using conformance::Finding;
using conformance::Outcome;
using conformance::Subject;
using conformance::Verdict;
using enum DeviceState;

// Rounds of a repetition whose end is not met: more than any stream in single bytes has here.
constexpr std::uint64_t kEndlessRounds = 1U << 22;

// What an act is judged by when nothing is wrong with it.
std::string_view clause_of(const Act& act, DeviceState before) {
  switch (act.kind) {
    case Act::Kind::Open:
    case Act::Kind::Close:
      return "FSM-INITIAL";
    case Act::Kind::Reset:
      return "RST-ALLOWED";
    case Act::Kind::Set:
      if (static_cast<DeviceState>(act.number) == Resuming) return "RST-NOT-REQUIRED";
      return before == Resuming ? "DAT-VALIDATE" : "FSM-ARC";
    case Act::Kind::Size:
      return "DAT-SIZE";
    case Act::Kind::Info:
      return "PRE-INFO-STATE";
    case Act::Kind::Read:
    case Act::Kind::ReadAll:
      return contract::is_pre_copy(before) ? "DAT-EOS-PRECOPY" : "DAT-EOS-STOP";
    case Act::Kind::Stream:
    case Act::Kind::Write:
    case Act::Kind::WriteAll:
      return "DAT-STREAM";
    case Act::Kind::CloseData:
      return "DAT-FD";
    case Act::Kind::LogStart:
    case Act::Kind::LogStop:
      return "LOG-START";
    case Act::Kind::LogReport:
      return "LOG-REPORT";
    case Act::Kind::Config:
    case Act::Kind::Interrupts:
      return "STP-CONFIG";
    case Act::Kind::RegionRead:
    case Act::Kind::RegionWrite:
      return "STP-ACCESS";
    case Act::Kind::Get:
    case Act::Kind::Keep:
      break;
  }
  return "FSM-COMPLETE";
}

bool reads_data(const Act& act) { return act.kind == Act::Kind::Read || act.kind == Act::Kind::ReadAll; }

std::string outcome_text(const Act& act, const Outcome& outcome) {
  if (outcome.error) return conformance::to_text(*outcome.error);
  if (!reads_data(act)) return {};
  if (outcome.end == StreamEnd::More) return fmt::format("{} bytes", outcome.size);
  return outcome.end == StreamEnd::Final ? "the end" : "nothing now";
}

}  // namespace

PhasePlayer::PhasePlayer(Subject& subject, conformance::Journal& journal, const Setting& setting)
    : subject_(subject),
      journal_(journal),
      setting_(setting),
      model_(setting_.features.flags, setting_.saved == nullptr ? 0 : setting_.saved->bytes.size()) {}

PhaseResult PhasePlayer::play(const Phase& phase) {
  const auto begin = std::chrono::steady_clock::now();
  journal_.clear();
  result_ = {.name = phase.name, .side = phase.side};
  const Step opening{.act = {.kind = Act::Kind::Open}};
  const Outcome opened = conformance::act_on(subject_, opening.act);
  const auto finding = model_.judge(opening.act, opened);
  if (setting_.saved != nullptr) subject_.give(setting_.saved->bytes);
  if (note(opening, "open", "FSM-INITIAL", outcome_text(opening.act, opened), finding) && play_steps(phase.steps)) {
    (void)(setting_.interface == Revision::V1 ? check_v1_end() : check_end());
  }
  const bool failed = std::ranges::find(result_.acts, Verdict::Fail, &ActResult::verdict) != result_.acts.end();
  result_.verdict = failed ? Verdict::Fail : Verdict::Pass;
  result_.script = journal_.text();
  result_.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return std::move(result_);
}

// Acts of one line one after the other that came to the same are one entry.
bool PhasePlayer::note(const Step& step, std::string text, std::string_view clause, std::string outcome,
                       const std::optional<Finding>& finding) {
  const bool again = !finding && !result_.acts.empty() && result_.acts.back().line == step.line &&
                     result_.acts.back().text == text && result_.acts.back().outcome == outcome;
  if (again) {
    ++result_.acts.back().times;
    return true;
  }
  ActResult act{
      .line = step.line, .text = std::move(text), .from = step.from, .clause = clause, .outcome = std::move(outcome)};
  if (finding) {
    act.clause = finding->clause;
    act.verdict = Verdict::Fail;
    act.expected = finding->expected;
    act.came = finding->came;
  }
  result_.acts.push_back(std::move(act));
  return !finding;
}

// --- steps ---

bool PhasePlayer::play_steps(const std::vector<Step>& steps) {
  return std::ranges::all_of(steps, [this](const Step& step) { return play_step(step); });
}

bool PhasePlayer::play_step(const Step& step) {
  switch (step.kind) {
    case Step::Kind::Act:
      return play_act(step, step.act, clause_of(step.act, model_.state()));
    case Step::Kind::Own:
      return play_own(step);
    case Step::Kind::Expect:
      return check_expectation(step);
    case Step::Kind::If:
      return play_steps(step.condition.holds(setting_.features) ? step.body : step.otherwise);
    case Step::Kind::Repeat:
      return play_repeat(step);
    case Step::Kind::Thread:
      return play_thread(step);
  }
  return false;
}

bool PhasePlayer::play_act(const Step& step, const Act& act, std::string_view clause) {
  const bool by_region =
      setting_.interface == Revision::RegionV2 && (act.kind == Act::Kind::Set || act.kind == Act::Kind::Get);
  const bool was_saving = contract::in_saving_group(model_.state());
  Outcome outcome = by_region ? act_by_region(act) : conformance::act_on(subject_, act);
  // What the model must know of a failure, and what the userspace itself asks.
  if ((outcome.error || act.kind == Act::Kind::Get) && !subject_.lost()) {
    outcome.state = state_now();
    outcome.lost = subject_.lost();
  }
  // PRE_COPY goes on in STOP_COPY; a stream begins where a session does (DAT-SESSION).
  if (by_region && act.kind == Act::Kind::Set && !was_saving) reading_ = {};
  std::optional<Finding> finding = model_.judge(act, outcome);
  last_error_ = outcome.error;
  if (act.kind == Act::Kind::Reset && bits_) bits_ = migration_region::kRunning;
  if (reads_data(act)) {
    met_end_ = outcome.end != StreamEnd::More;
    read_ += outcome.size;
    if (!finding && read_ > Subject::kMostData) {
      finding = Finding{"DAT-SESSION", "migration data ends", fmt::format("{} bytes and no end", read_), {}};
    }
    if (outcome.end == StreamEnd::Final && model_.state() == StopCopy) saved_.bytes = subject_.received();
  }
  if (!note(step, conformance::to_text(act), clause, outcome_text(act, outcome), finding)) return false;
  const bool failed_set = outcome.error && act.kind == Act::Kind::Set;
  return !failed_set || !step.recovery || recover(step);
}

// R2-STATES: a write of device_state is a SET, a read is a GET.
Outcome PhasePlayer::act_by_region(const Act& act) {
  Outcome outcome;
  if (act.kind != Act::Kind::Set) return outcome;
  const Result<void> set = subject_.perform(conformance::to_text(act),
                                            [region = *setting_.region, state = act.number](DeviceHandle& device) {
                                              return region.set_device_state(device, static_cast<std::uint32_t>(state));
                                            });
  if (!set) outcome.error = set.error();
  outcome.lost = subject_.lost();
  return outcome;
}

// By the interface that has states of its own; nullopt: it has none, or does not tell.
std::optional<DeviceState> PhasePlayer::state_now() {
  if (setting_.interface == Revision::V2) {
    const Result<DeviceState> state = subject_.peek();
    return state ? std::optional(*state) : std::nullopt;
  }
  if (setting_.interface != Revision::RegionV2) return std::nullopt;
  const auto state = subject_.ask<std::uint32_t>(
      "# device_state", [region = *setting_.region](DeviceHandle& device) { return region.device_state(device); });
  return state ? region_state(Revision::RegionV2, *state) : std::nullopt;
}

// Where the contract lets a SET fail: the state that the userspace names, else a reset.
bool PhasePlayer::recover(const Step& step) {
  Step again{.line = step.line, .from = step.from};
  if (step.recovery->state) {
    if (!play_act(again, Act::set(*step.recovery->state), "FSM-FAIL")) return false;
    if (!last_error_) return true;
  }
  return play_act(again, {.kind = Act::Kind::Reset}, "RST-ABORTS");
}

bool PhasePlayer::play_repeat(const Step& step) {
  if (step.rounds == 0) return play_until_end(step);
  for (std::uint64_t round = 0; round < step.rounds; ++round) {
    if (!play_steps(step.body)) return false;
  }
  return true;
}

// Over at the act that met the end; what stands behind it is for data that came.
bool PhasePlayer::play_until_end(const Step& step) {
  for (std::uint64_t round = 0; round < kEndlessRounds; ++round) {
    for (const Step& each : step.body) {
      met_end_ = false;
      if (!play_step(each)) return false;
      if (met_end_) return true;
    }
  }
  const Finding endless{"DAT-SESSION", "migration data ends", fmt::format("no end in {} rounds", kEndlessRounds), {}};
  return note(step, step.text(), endless.clause, {}, endless);
}

bool PhasePlayer::play_thread(const Step& step) {
  subject_.change_thread();
  const bool goes_on = play_steps(step.body);
  subject_.change_thread();
  return goes_on;
}

bool PhasePlayer::check_expectation(const Step& step) {
  const int came = last_error_ ? last_error_->code : 0;
  if (came == step.code) return true;
  const Finding other{step.clause,
                      step.text().substr(sizeof("expect ") - 1),
                      last_error_ ? conformance::to_text(*last_error_) : "success",
                      {}};
  return note(step, step.text(), step.clause, {}, other);
}

// The userspace need not ask where it left the device; we do.
bool PhasePlayer::check_end() { return !setting_.interface || play_act({}, {.kind = Act::Kind::Get}, "FSM-COMPLETE"); }

bool PhasePlayer::check_v1_end() {
  if (!bits_) return true;
  const auto state = subject_.ask<std::uint32_t>(
      "# device_state", [region = *setting_.region](DeviceHandle& device) { return region.device_state(device); });
  std::optional<Finding> finding;
  const std::string expected = fmt::format("device_state is {:03b}", *bits_);
  if (!state) {
    finding = Finding{"V1-STATES", expected, conformance::to_text(state.error()), {}};
  } else if ((*state & migration_region::kStateBits) != *bits_) {
    finding = Finding{"V1-STATES", expected, fmt::format("it is {:03b}", *state & migration_region::kStateBits), {}};
  }
  return note({}, "device_state afterwards", "V1-STATES", {}, finding);
}

}  // namespace gangway::profile
