#include "profile/phase_maker.h"

#include <algorithm>
#include <utility>
#include <variant>

#include <fmt/core.h>

#include "profile/step_text.h"

namespace gangway::profile {
namespace {

constexpr std::uint32_t kConfig = to_number(RegionIndex::Config);
constexpr std::uint64_t kCommand = 0x04;
constexpr unsigned kDecodes = 0x7;              // of PCI_COMMAND: I/O, memory, bus master
constexpr std::uint32_t kIrqTrigger = 1U << 5;  // VFIO_IRQ_SET_ACTION_TRIGGER

// Of lines that we write ourselves.
Step step_of(std::string_view line) { return parse_step(line).value_or(Step{}); }

Step block(Condition::What what, Step inner) {
  Step step{.kind = Step::Kind::If, .condition = {.what = what}};
  step.body.push_back(std::move(inner));
  return step;
}

bool loads(const Step& step, std::uint64_t access) {
  return step.kind == Step::Kind::Own && step.own.kind == OwnAct::Kind::Load && step.own.number == access;
}

std::optional<DeviceState> state_of(std::uint32_t number) {
  if (number == 0 || number >= kDeviceStates) return std::nullopt;
  return static_cast<DeviceState>(number);
}

}  // namespace

bool PhaseMaker::take(const record::Act& act, const record::Act* next) {
  if (act.by_device) return false;
  if (const RegionDeed* deed = region_.at(act)) return take_deed(*deed, act, next);
  const auto& doing = act.doing;
  if (const auto* set = std::get_if<record::SetState>(&doing)) {
    return interface_ == Revision::V2 && take_set(set->state, act, next);
  }
  if (const auto* region = std::get_if<record::WriteRegion>(&doing)) {
    take_region_write(*region);
  } else if (const auto* looked = std::get_if<record::ReadRegion>(&doing)) {
    if (looked->region == kConfig) add_once("config");
  } else if (const auto* irqs = std::get_if<record::SetIrqs>(&doing)) {
    if (irqs->descriptors != 0 && (irqs->flags & kIrqTrigger) != 0) {
      used_ = true;
      add_once("interrupts arm");
    }
  } else if (const auto* start = std::get_if<record::StartLogging>(&doing)) {
    add_once(start->ranges.empty() ? "log start all" : "log start");
  } else if (std::holds_alternative<record::StopLogging>(doing)) {
    add_once("log stop");
  } else if (std::holds_alternative<record::ReportLogging>(doing)) {
    add_once("log report");
  } else if (std::holds_alternative<record::Reset>(doing)) {
    used_ = true;
    end_segment();
    add(step_of("reset"));
    if (act.succeeded()) state_ = DeviceState::Running;
  } else if (interface_ == Revision::V2) {
    take_v2(act);
  }
  return false;
}

void PhaseMaker::take_v2(const record::Act& act) {
  const auto& doing = act.doing;
  if (const auto* read = std::get_if<record::ReadData>(&doing)) {
    take_read(*read, act);
  } else if (const auto* write = std::get_if<record::WriteData>(&doing)) {
    take_write(*write);
  } else if (const auto* close = std::get_if<record::CloseData>(&doing)) {
    // Not when the client itself has ended.
    if (close->current && close->what.empty()) add(step_of("close data"));
  } else if (std::holds_alternative<record::GetState>(doing)) {
    add_once("get");
  } else if (std::holds_alternative<record::GetDataSize>(doing)) {
    add_once("size");
  } else if (std::holds_alternative<record::GetPrecopyInfo>(doing)) {
    add_once("info");
  }
}

// The state that an act asks for by the interface that the client drives.
std::optional<std::uint32_t> PhaseMaker::number_set(const record::Act& act) const {
  if (const auto* set = std::get_if<record::SetState>(&act.doing)) {
    return interface_ == Revision::V2 ? std::optional(set->state) : std::nullopt;
  }
  const RegionDeed* const deed = region_.at(act);
  const bool writes = deed != nullptr && deed->kind == RegionDeed::Kind::WriteState && deed->revision == interface_;
  if (!writes || interface_ != Revision::RegionV2) return std::nullopt;
  return static_cast<std::uint32_t>(deed->value);
}

bool PhaseMaker::take_set(std::uint32_t number, const record::Act& act, const record::Act* next) {
  const std::optional<DeviceState> target = state_of(number);
  if (!target) return false;
  drove_ = true;
  loads_ |= *target == DeviceState::Resuming;
  end_segment();
  Step step{.act = conformance::Act::set(*target)};
  bool took_next = false;
  if (!act.succeeded() && next != nullptr) {
    const std::optional<DeviceState> named = number_set(*next).and_then(state_of);
    took_next = named || std::holds_alternative<record::Reset>(next->doing);
    if (took_next) step.recovery = Recovery{named};
    if (took_next && next->succeeded()) state_ = named.value_or(DeviceState::Running);
  }
  const bool within = contract::is_pre_copy(*target) || contract::is_pre_copy(state_);
  const bool leaves = !contract::is_pre_copy(*target);
  if (act.succeeded()) state_ = *target;
  if (contract::is_p2p(*target)) step = block(Condition::What::P2p, std::move(step));
  // A device without pre-copy leaves it out, and goes from where it is to where this leads.
  if (within && !leaves) {
    add(std::move(step));
  } else {
    phase_.steps.push_back(std::move(step));
  }
  return took_next;
}

void PhaseMaker::take_read(const record::ReadData& read, const record::Act& act) {
  if (act.error == EAGAIN) return;  // it waits for data
  const std::uint64_t size = std::clamp<std::uint64_t>(read.asked, 1, kLargestAccess);
  const auto [run, begins] = runs_.try_emplace(size);
  if (begins) {
    add(step_of(fmt::format("read {}", size)));
    run->second = {.pre_copy = contract::is_pre_copy(state_), .place = list().size() - 1};
  }
  ++run->second.times;
  run->second.ended |= !act.succeeded() || read.met_end();
}

void PhaseMaker::take_write(const record::WriteData& write) {
  if (largest_write_ == 0) add(step_of("write all"));
  largest_write_ = std::max(largest_write_, std::clamp<std::uint64_t>(write.given.size, 1, kLargestAccess));
}

void PhaseMaker::take_region_write(const record::WriteRegion& write) {
  if (write.region != kConfig || write.offset != kCommand) return;
  if (state_ == DeviceState::Resuming) {
    keeps_command_ = true;
    add_once("command restore");
    return;
  }
  const bool on = !write.data.empty() && (std::to_integer<unsigned>(write.data.front()) & kDecodes) != 0;
  used_ |= on;
  if (on) add_once("command enable");
  // Off between on and on, as BARs are sized, is no act.
  clears_ = !on && seen_.contains("command enable");
  if (!on && !clears_) add_once("command clear");
}

void PhaseMaker::add(Step step) { list().push_back(std::move(step)); }

void PhaseMaker::add_once(std::string_view line) {
  if (!seen_.insert(std::string(line)).second) return;
  Step step = step_of(line);
  add(line.starts_with("log") && line != "log start all" ? block(Condition::What::Logging, std::move(step))
                                                         : std::move(step));
}

// What happens in pre-copy is for devices that have it.
std::vector<Step>& PhaseMaker::list() {
  // By v1 every device can be put into it.
  if (!contract::is_pre_copy(state_) || interface_ == Revision::V1) return phase_.steps;
  const auto is_open = [](const Step& step) {
    return step.kind == Step::Kind::If && step.condition.what == Condition::What::PreCopy;
  };
  if (phase_.steps.empty() || !is_open(phase_.steps.back())) {
    phase_.steps.push_back({.kind = Step::Kind::If, .condition = {.what = Condition::What::PreCopy}});
  }
  return phase_.steps.back().body;
}

// Reads and writes get the form that the whole segment showed.
void PhaseMaker::end_segment() {
  if (std::exchange(clears_, false)) add_once("command clear");
  std::vector<Step>& steps = list();
  for (const auto& [size, run] : runs_) {
    if (run.place >= steps.size() || (run.times == 1 && !run.ended)) continue;
    Step repeat{.kind = Step::Kind::Repeat, .rounds = run.ended ? 0 : std::min<std::uint64_t>(run.times, kMostRounds)};
    repeat.body.push_back(std::move(steps[run.place]));
    steps[run.place] = std::move(repeat);
  }
  if (largest_write_ != 0) {
    for (Step& step : steps) {
      if (step.kind == Step::Kind::Act && step.act.kind == conformance::Act::Kind::WriteAll && step.act.number == 0) {
        step.act.number = largest_write_;
      }
    }
  }
  if (chunk_run_) end_chunks(steps);
  if (load_access_) {
    const auto load = std::ranges::find_if(steps, [](const Step& step) { return loads(step, 0); });
    if (load != steps.end()) load->own.number = access_of(*load_access_);
  }
  runs_.clear();
  seen_.clear();
  chunk_run_.reset();
  load_access_.reset();
  largest_write_ = 0;
}

Phase PhaseMaker::finish(std::string name) {
  end_segment();
  phase_.name = std::move(name);
  phase_.side = loads_ ? Side::Destination : Side::Source;
  if (keeps_command_) phase_.steps.insert(phase_.steps.begin(), step_of("command keep"));
  return std::move(phase_);
}

}  // namespace gangway::profile
