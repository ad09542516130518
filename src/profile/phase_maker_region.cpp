// What a client did to a migration region, as acts of a profile.
#include <algorithm>
#include <bit>
#include <utility>

#include <gangway/migration_region.h>

#include "profile/phase_maker.h"
#include "profile/step_text.h"

namespace gangway::profile {
namespace {

constexpr std::uint64_t kOfMapped = 64U << 10;  // bytes of an access that stands for a mapping

Step own(OwnAct::Kind kind, std::uint64_t number = 0) {
  return {.kind = Step::Kind::Own, .own = {.kind = kind, .number = number}};
}

}  // namespace

// Looking at another revision than the one that is driven is no act.
bool PhaseMaker::take_deed(const RegionDeed& deed, const record::Act& act, const record::Act* next) {
  if (deed.revision != interface_) return false;
  switch (deed.kind) {
    case RegionDeed::Kind::WriteState:
      if (interface_ == Revision::RegionV2) return take_set(static_cast<std::uint32_t>(deed.value), act, next);
      take_bits(static_cast<std::uint32_t>(deed.value), act);
      break;
    case RegionDeed::Kind::ReadState:
      // v1's `bits` reads it by itself.
      if (interface_ == Revision::RegionV2) add_once("get");
      break;
    case RegionDeed::Kind::Pending:
      take_pending(deed);
      break;
    case RegionDeed::Kind::Chunk:
      take_chunk(deed);
      break;
    case RegionDeed::Kind::Load:
      take_load(deed);
      break;
    case RegionDeed::Kind::Part:
    case RegionDeed::Kind::Access:
      break;
  }
  return false;
}

// What was refused is left out: there is no other way for a client of v1 to go on than what it does next.
void PhaseMaker::take_bits(std::uint32_t device_state, const record::Act& act) {
  const std::optional<DeviceState> target = migration_region::v1_state(device_state);
  if (!target || !act.succeeded()) return;
  drove_ = true;
  loads_ |= *target == DeviceState::Resuming;
  end_segment();
  phase_.steps.push_back(own(OwnAct::Kind::Bits, device_state & migration_region::kStateBits));
  state_ = *target;
}

void PhaseMaker::take_pending(const RegionDeed& deed) {
  if (!chunk_run_) {
    add(own(OwnAct::Kind::Pending));
    chunk_run_ = ChunkRun{.pending = list().size() - 1};
  }
  chunk_run_->ended |= deed.value == 0;
}

void PhaseMaker::take_chunk(const RegionDeed& deed) {
  if (!chunk_run_) return;
  if (chunk_run_->chunks++ == 0) {
    add(own(OwnAct::Kind::Chunk, 1));
    chunk_run_->chunk = list().size() - 1;
  }
  chunk_run_->access = std::max(chunk_run_->access, deed.access);
}

void PhaseMaker::take_load(const RegionDeed& deed) {
  if (!load_access_) add(own(OwnAct::Kind::Load));
  load_access_ = std::max(load_access_.value_or(0), deed.access);
}

// In the form that the whole segment showed: to the end, so often, once.
void PhaseMaker::end_chunks(std::vector<Step>& steps) {
  const ChunkRun& run = *chunk_run_;
  if (run.chunks == 0 || run.pending >= steps.size() || run.chunk >= steps.size()) return;
  steps[run.chunk].own.number = access_of(run.access);
  if (run.chunks == 1 && !run.ended) return;
  Step repeat{.kind = Step::Kind::Repeat, .rounds = run.ended ? 0 : std::min<std::uint64_t>(run.chunks, kMostRounds)};
  repeat.body.push_back(std::move(steps[run.pending]));
  repeat.body.push_back(std::move(steps[run.chunk]));
  steps[run.pending] = std::move(repeat);
  steps.erase(steps.begin() + static_cast<std::ptrdiff_t>(run.chunk));
}

std::uint64_t PhaseMaker::access_of(std::uint64_t recorded) {
  // A short chunk shows only how much of an access it filled.
  constexpr std::uint64_t kWord = 8;
  if (recorded > kWord) return std::bit_ceil(std::min(recorded, kLargestAccess));
  if (recorded != 0) return recorded;
  if (phase_.notes.empty()) phase_.notes.emplace_back("data went through the mapped part of the region");
  return kOfMapped;
}

}  // namespace gangway::profile
