#include "conformance/model.h"

#include <algorithm>

#include <fmt/core.h>

namespace gangway::conformance {
namespace {

using enum DeviceState;
using Kind = Act::Kind;

Finding broken(std::string_view clause, std::string expected, std::string came) {
  return {clause, std::move(expected), std::move(came), {}};
}

std::string came_of(const Outcome& outcome) {
  if (outcome.error) return to_text(*outcome.error);
  if (outcome.state) return fmt::format("success, state {}", contract::name(*outcome.state));
  return "success";
}

bool contains(const contract::Path& path, DeviceState state) { return std::ranges::find(path, state) != path.end(); }

}  // namespace

bool Model::is_legal(const Act& act) const {
  switch (act.kind) {
    case Kind::Set: {
      const auto target = static_cast<DeviceState>(act.number);
      return contract::advertised(target, flags_) && contract::path(state_, target, flags_).has_value();
    }
    case Kind::Read:
    case Kind::ReadAll:
      return contract::in_saving_group(state_) && !closed_;
    case Kind::Write:
    case Kind::WriteAll:
      return state_ == Resuming && !closed_ && sent_ < sending_;
    case Kind::CloseData:
      return (contract::in_saving_group(state_) || state_ == Resuming) && !closed_;
    case Kind::LogStart:
      return log_ == Log::Off;
    case Kind::LogStop:
    case Kind::LogReport:
      return log_ == Log::On;
    case Kind::Info:
      return contract::is_pre_copy(state_);
    default:
      return true;
  }
}

bool Model::is_refused_pair(const Act& act) const {
  const auto target = static_cast<DeviceState>(act.number);
  return act.kind == Kind::Set && state_ != Error && contract::advertised(target, flags_) &&
         !contract::path(state_, target, flags_);
}

bool Model::holds_state(const Act& act) const {
  return (act.kind == Kind::Open || act.kind == Kind::Close) && state_ != Running;
}

std::optional<Finding> Model::judge(const Act& act, const Outcome& outcome) {
  switch (act.kind) {
    case Kind::Open:
      return judge_open(outcome);
    case Kind::Close:
      begin();
      return {};
    case Kind::Reset:
      return judge_reset(outcome);
    case Kind::Set:
      return judge_set(act.number, outcome);
    case Kind::Read:
    case Kind::ReadAll:
      return judge_read(act, outcome);
    case Kind::Stream:
      spoiled_ = act.variant.kind != Variant::Kind::Good;
      // A stream that is only cut is good as far as it goes.
      sending_ = act.variant.kind == Variant::Kind::Cut ? std::min<std::size_t>(act.variant.at, stream_) : stream_;
      sent_ = 0;
      return {};
    case Kind::Keep:
      stream_ = sending_ = outcome.size;
      return {};
    case Kind::Write:
    case Kind::WriteAll:
      return judge_write(act, outcome);
    case Kind::CloseData:
      if (!outcome.error) closed_ = true;
      return unchanged("FSM-COMPLETE", outcome);
    case Kind::LogStart:
    case Kind::LogStop:
    case Kind::LogReport:
      return judge_log(act, outcome);
    case Kind::Config:
    case Kind::Interrupts:
      return judge_setup(act, outcome);
    case Kind::Size:
      if (outcome.error && outcome.error->code != ENOTTY) {
        return broken("DAT-SIZE", fmt::format("MIG_DATA_SIZE answers in {}", contract::name(state_)), came_of(outcome));
      }
      return unchanged("FSM-COMPLETE", outcome);
    case Kind::Info:
      if (!outcome.error && !contract::is_pre_copy(state_)) {
        return broken("PRE-INFO-STATE", fmt::format("EINVAL in {}", contract::name(state_)), came_of(outcome));
      }
      return unchanged("FSM-COMPLETE", outcome);
    case Kind::RegionRead:
    case Kind::RegionWrite:
      return unchanged("STP-ACCESS", outcome);
    case Kind::Get:
      return unchanged("FSM-COMPLETE", outcome);
  }
  return {};
}

void Model::begin() {
  const std::optional<std::uint32_t> identity = identity_;
  *this = Model(flags_, stream_);
  identity_ = identity;
}

Model::Verdict Model::judge_open(const Outcome& outcome) {
  begin();
  if (outcome.error) return broken("FSM-INITIAL", "the device is opened", came_of(outcome));
  return unchanged("FSM-INITIAL", outcome);
}

// Whether a log outlives a reset is the log's own affair (RST-CLEARS).
Model::Verdict Model::judge_reset(const Outcome& outcome) {
  if (outcome.error) {
    return broken("RST-ALLOWED", fmt::format("a reset in {} succeeds", contract::name(state_)), came_of(outcome));
  }
  enter(Running);
  log_ = log_ == Log::On ? Log::Unknown : log_;
  return unchanged("RST-ALLOWED", outcome);
}

void Model::enter(DeviceState state) {
  const bool was_saving = contract::in_saving_group(state_);
  const bool is_saving = contract::in_saving_group(state);
  if (was_saving && !is_saving) saved_before_ = true;
  if (state_ == Resuming && state != Resuming) {
    loaded_before_ = true;
    refused_before_ |= spoiled_ || refused_ || write_failed_ || sent_ != stream_;
  }
  if (was_saving != is_saving) at_end_ = closed_ = false;
  if ((state_ == Resuming) != (state == Resuming)) {
    sent_ = 0;
    write_failed_ = refused_ = closed_ = false;
    if (state != Resuming) {
      spoiled_ = false;
      sending_ = stream_;
    }
  }
  state_ = state;
}

// Nothing but a SET or a reset changes the state (FSM-COMPLETE).
Model::Verdict Model::unchanged(std::string_view clause, const Outcome& outcome) const {
  const std::string expected = fmt::format("the device is in {}", contract::name(state_));
  if (outcome.lost) return broken(clause, expected, "it does not answer any more");
  if (outcome.state && *outcome.state != state_) {
    return broken(clause, expected, fmt::format("it is in {}", contract::name(*outcome.state)));
  }
  return {};
}

Model::Verdict Model::judge_set(std::uint64_t number, const Outcome& outcome) {
  const auto target = static_cast<DeviceState>(number);
  const auto refusal = [&](std::string_view clause) -> Verdict {
    const bool refused = outcome.error && !outcome.lost && outcome.error->code == EINVAL;
    if (!refused) return broken(clause, "EINVAL", came_of(outcome));
    return unchanged(clause, outcome);
  };
  if (number >= kDeviceStates || !contract::advertised(target, flags_)) return refusal("FSM-INVALID");
  if (state_ == Error) {
    if (!outcome.error) return broken("FSM-ERROR", "every SET in ERROR fails", came_of(outcome));
    return unchanged("FSM-ERROR", outcome);
  }
  const auto path = contract::path(state_, target, flags_);
  if (!path) return refusal("FSM-BLOCKED");
  set_since_log_ = true;
  if (state_ == Resuming && target != Resuming) return judge_load(target, outcome);
  const std::string_view clause = outcome.lost ? "FSM-COMPLETE" : clause_of(target);
  if (outcome.error) {
    return broken(clause, fmt::format("{} to {} succeeds", contract::name(state_), contract::name(target)),
                  came_of(outcome));
  }
  enter(target);
  if (contract::in_saving_group(target)) at_end_ = at_end_ && target == StopCopy;
  return unchanged("FSM-COMPLETE", outcome);
}

// What a legal SET that fails is about: what came before tells the defect from the arc alone.
std::string_view Model::clause_of(DeviceState target) const {
  const auto path = contract::path(state_, target, flags_);
  if (path->empty()) return "FSM-ARC";
  const bool saved = saved_before_ || contract::in_saving_group(state_);
  if (contains(*path, Resuming)) return saved ? "FSM-REPEAT" : "RST-NOT-REQUIRED";
  if (contract::in_saving_group(target) && saved_before_) return "FSM-REPEAT";
  if (contract::is_pre_copy(state_)) return "DAT-EARLY";
  return "FSM-ARC";
}

std::string_view Model::clause_of_load() const {
  if (refused_before_) return "RST-CLEARS";
  return loaded_before_ || saved_before_ ? "FSM-REPEAT" : "DAT-STREAM";
}

Model::Verdict Model::judge_load(DeviceState target, const Outcome& outcome) {
  const bool sent = !spoiled_ && sent_ >= stream_;
  const std::string way = fmt::format("RESUMING to {}", contract::name(target));
  if (!outcome.error) {
    if (!whole()) {
      return broken("DAT-VALIDATE",
                    fmt::format("{} fails after {} of {} bytes{}", way, sent_, stream_,
                                spoiled_ ? ", not as they were saved" : ""),
                    came_of(outcome));
    }
    enter(target);
    return unchanged("FSM-COMPLETE", outcome);
  }
  if (outcome.lost) return broken(sent ? clause_of_load() : "DAT-VALIDATE", way + " ends", came_of(outcome));
  if (whole() && !refused_) {
    return broken(clause_of_load(), fmt::format("{} succeeds after the whole stream", way), came_of(outcome));
  }
  refused_ = true;
  // It failed at the first arc, so RESUMING was not left, unless no valid state could be kept.
  if (outcome.state && *outcome.state != Resuming && *outcome.state != Error) {
    return broken("FSM-FAIL", "after a refused load the device is in RESUMING or ERROR",
                  fmt::format("it is in {}", contract::name(*outcome.state)));
  }
  if (outcome.state == Error) enter(Error);
  return {};
}

Model::Verdict Model::judge_read(const Act& act, const Outcome& outcome) {
  if (!contract::in_saving_group(state_)) {
    if (!outcome.error) {
      return broken("DAT-DIRECTION", fmt::format("reading in {} fails", contract::name(state_)), came_of(outcome));
    }
    return unchanged("DAT-DIRECTION", outcome);
  }
  if (closed_) return unchanged("FSM-COMPLETE", outcome);
  if (outcome.error) {
    return broken(saved_before_ ? "FSM-REPEAT" : "DAT-SESSION",
                  fmt::format("reading in {} succeeds", contract::name(state_)), came_of(outcome));
  }
  const bool nothing = outcome.end != StreamEnd::More;
  if (state_ == StopCopy && outcome.end == StreamEnd::Temporary) {
    return broken("DAT-EOS-STOP", "the end in STOP_COPY reads as 0 bytes", "ENOMSG");
  }
  if (contract::is_pre_copy(state_) && outcome.end == StreamEnd::Final) {
    return broken("DAT-EOS-PRECOPY", "a temporary end is ENOMSG", "0 bytes");
  }
  if (at_end_ && outcome.size != 0) {
    return broken("DAT-EOS-STOP", "the end in STOP_COPY reads as 0 bytes for ever",
                  fmt::format("{} bytes behind it", outcome.size));
  }
  if (act.kind == Kind::ReadAll && !nothing) return broken("DAT-SESSION", "the data ends", "it does not");
  at_end_ = at_end_ || (nothing && state_ == StopCopy);
  return unchanged("FSM-COMPLETE", outcome);
}

Model::Verdict Model::judge_write(const Act& act, const Outcome& outcome) {
  if (state_ != Resuming) {
    if (!outcome.error) {
      return broken("DAT-DIRECTION", fmt::format("writing in {} fails", contract::name(state_)), came_of(outcome));
    }
    return unchanged("DAT-DIRECTION", outcome);
  }
  const std::size_t left = sending_ - std::min(sent_, sending_);
  const std::size_t asked = act.kind == Kind::WriteAll ? left
                            : act.number == 0          ? std::max<std::size_t>(stream_ / 3, 1)
                                                       : act.number;
  if (outcome.error && !spoiled_ && !refused_ && !write_failed_ && !closed_) {
    return broken(clause_of_load(), "writing a good stream succeeds", came_of(outcome));
  }
  sent_ += std::min(asked, left);
  write_failed_ |= outcome.error.has_value();
  return unchanged("FSM-COMPLETE", outcome);
}

Model::Verdict Model::judge_log(const Act& act, const Outcome& outcome) {
  const bool on = log_ == Log::On;
  const bool known = log_ != Log::Unknown;
  if (act.kind == Kind::LogStart) {
    if (known && on != outcome.error.has_value()) {
      return broken("LOG-START", on ? "a second START fails" : "START succeeds", came_of(outcome));
    }
    if (!outcome.error) {
      log_ = Log::On;
      set_since_log_ = false;
    }
    return unchanged("FSM-COMPLETE", outcome);
  }
  if (act.kind == Kind::LogStop) {
    if (on && outcome.error)
      return broken(set_since_log_ ? "LOG-EXACT" : "LOG-START", "STOP after START succeeds", came_of(outcome));
    if (!outcome.error) log_ = Log::Off;
    return unchanged("FSM-COMPLETE", outcome);
  }
  if (on && outcome.error) {
    // A kernel without the bitmaps of iommufd has no REPORT at all, whatever was SET before.
    const bool after_set = set_since_log_ && outcome.error->code != EOPNOTSUPP;
    return broken(after_set ? "LOG-EXACT" : "LOG-REPORT", "REPORT succeeds while the log is on", came_of(outcome));
  }
  if (known && !on && !outcome.error) return broken("LOG-REPORT", "REPORT without START fails", came_of(outcome));
  return unchanged("FSM-COMPLETE", outcome);
}

Model::Verdict Model::judge_setup(const Act& act, const Outcome& outcome) {
  if (outcome.error) {
    return broken("STP-CONFIG", fmt::format("{} answers in {}", to_text(act), contract::name(state_)),
                  came_of(outcome));
  }
  if (act.kind == Kind::Config) {
    if (!identity_) identity_ = outcome.identity;
    if (*identity_ != outcome.identity) {
      return broken("STP-CONFIG", fmt::format("config space says {:08x} in {}", *identity_, contract::name(state_)),
                    fmt::format("{:08x}", outcome.identity));
    }
  }
  return unchanged("FSM-COMPLETE", outcome);
}

}  // namespace gangway::conformance
