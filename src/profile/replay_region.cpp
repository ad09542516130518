// What a recorded client did to a migration region, done again: iteration by iteration, since a chunk of now is as long
// as this device makes it.
#include <algorithm>
#include <utility>

#include <fmt/core.h>

#include <gangway/migration_region.h>

#include "profile/replay_connection.h"
#include "profile/replay_text.h"

namespace gangway::profile {
namespace {

using conformance::Act;
using conformance::Subject;

constexpr std::size_t kOfMapped = 64U << 10;  // bytes of an access that stands for a mapping

std::size_t access_of(const RegionDeed& deed) {
  return deed.access == 0 ? kOfMapped : std::min<std::uint64_t>(deed.access, kLargestAccess);
}

std::string value_text(Revision revision, std::uint32_t value) {
  return revision == Revision::RegionV2 ? state_text(value)
                                        : fmt::format("{:03b}", value & migration_region::kStateBits);
}

}  // namespace

std::optional<ReplayConnection::Came> ReplayConnection::perform_deed(const RegionDeed& deed) {
  const auto region = setting_.regions.find(deed.revision);
  if (region == setting_.regions.end()) return std::nullopt;
  switch (deed.kind) {
    case RegionDeed::Kind::ReadState:
      return read_state(deed, region->second);
    case RegionDeed::Kind::WriteState:
      return write_state(deed, region->second);
    case RegionDeed::Kind::Pending:
      return read_pending(deed, region->second);
    case RegionDeed::Kind::Chunk:
      return read_chunk(deed, region->second);
    case RegionDeed::Kind::Load:
      return load_chunks(deed, region->second);
    case RegionDeed::Kind::Part:
      return Came{};  // done with the chunk
    case RegionDeed::Kind::Access:
      break;
  }
  return access(region->second);
}

ReplayConnection::Came ReplayConnection::read_state(const RegionDeed& deed, const MigrationRegion& region) {
  Came came;
  const auto now = subject_.ask<std::uint32_t>("device_state",
                                               [region](DeviceHandle& device) { return region.device_state(device); });
  if (!now) {
    came.error = now.error();
    return came;
  }
  if (deed.revision == setting_.interface) {
    came.judged = Act{.kind = Act::Kind::Get};
    came.outcome.state = region_state(deed.revision, *now);
  }
  const std::string then = value_text(deed.revision, static_cast<std::uint32_t>(deed.value));
  if (const std::string text = value_text(deed.revision, *now); text != then) came.other = {then, text};
  return came;
}

ReplayConnection::Came ReplayConnection::write_state(const RegionDeed& deed, const MigrationRegion& region) {
  const auto value = static_cast<std::uint32_t>(deed.value);
  loading_ = false;
  if (!contract::in_saving_group(model_.state())) reading_ = {};
  Came came;
  const Result<void> set =
      subject_.perform(fmt::format("device_state {}", value_text(deed.revision, value)),
                       [region, value](DeviceHandle& device) { return region.set_device_state(device, value); });
  if (!set) came.error = came.outcome.error = set.error();
  came.outcome.lost = subject_.lost();
  if (deed.revision != setting_.interface) return came;
  if (!set && !subject_.lost()) {
    came.outcome.state = region_state_now(region);
    came.outcome.lost = subject_.lost();
  }
  // Bits that mean no state are a number that means none.
  const std::optional<DeviceState> state = region_state(deed.revision, value);
  const bool valid = state && *state != DeviceState::Error;
  came.judged = Act{.kind = Act::Kind::Set, .number = valid ? static_cast<std::uint64_t>(*state) : kDeviceStates};
  return came;
}

// A stream of another length: where the recording met the end in stop-and-copy we go on to it.
ReplayConnection::Came ReplayConnection::read_pending(const RegionDeed& deed, const MigrationRegion& region) {
  Came came;
  const bool stopped = model_.state() == DeviceState::StopCopy;
  const auto now = subject_.ask<std::uint64_t>("pending_bytes",
                                               [region](DeviceHandle& device) { return region.pending_bytes(device); });
  if (!now) {
    came.error = now.error();
    return came;
  }
  pending_ = *now;
  if (deed.value == 0 && pending_ != 0 && stopped) {
    const Result<std::uint64_t> rest = read_on(region);
    if (!rest) {
      came.error = rest.error();
      return came;
    }
    pending_ = *rest;
    if (pending_ != 0) came.other = {"the end", fmt::format("{} bytes and no end", reading_.bytes.size())};
  }
  if (!contract::in_saving_group(model_.state())) return came;
  came.judged = Act{.kind = Act::Kind::Read};
  came.outcome.size = pending_;
  came.outcome.end = pending_ != 0 ? StreamEnd::More : stopped ? StreamEnd::Final : StreamEnd::Temporary;
  if (stopped && pending_ == 0 && !reading_.empty()) data_ = reading_;
  return came;
}

// What is pending behind it: 0, but of a device without an end.
Result<std::uint64_t> ReplayConnection::read_on(const MigrationRegion& region) {
  while (pending_ != 0 && reading_.bytes.size() <= Subject::kMostData) {
    const auto chunk = subject_.ask<conformance::Bytes>(
        "chunk", [region](DeviceHandle& device) { return region.chunk(device, kOfMapped); });
    if (!chunk) return std::unexpected(chunk.error());
    reading_.bytes.insert(reading_.bytes.end(), chunk->begin(), chunk->end());
    reading_.chunks.push_back(*chunk);
    const auto next = subject_.ask<std::uint64_t>(
        "pending_bytes", [region](DeviceHandle& device) { return region.pending_bytes(device); });
    if (!next) return next;
    pending_ = *next;
  }
  return pending_;
}

ReplayConnection::Came ReplayConnection::read_chunk(const RegionDeed& deed, const MigrationRegion& region) {
  if (pending_ == 0) return {};  // the stream of now is shorter
  Came came;
  const auto chunk = subject_.ask<conformance::Bytes>(
      "chunk", [region, access = access_of(deed)](DeviceHandle& device) { return region.chunk(device, access); });
  if (!chunk) {
    came.error = chunk.error();
    return came;
  }
  reading_.bytes.insert(reading_.bytes.end(), chunk->begin(), chunk->end());
  reading_.chunks.push_back(*chunk);
  if (reading_.bytes.size() > Subject::kMostData) {
    came.other = {"migration data ends", fmt::format("{} bytes and no end", reading_.bytes.size())};
  }
  if (contract::in_saving_group(model_.state())) {
    came.judged = Act{.kind = Act::Kind::Read, .number = chunk->size()};
    came.outcome.size = chunk->size();
  }
  return came;
}

// Each as it was saved, where it was saved in chunks; with the last of the recording goes what is left.
ReplayConnection::Came ReplayConnection::load_chunks(const RegionDeed& deed, const MigrationRegion& region) {
  if (!loading_) {
    begin_load();
    loaded_ = 0;
    if (data_.chunks.empty()) data_.chunks.push_back(data_.bytes);
  }
  Came came;
  const std::size_t until = deed.last ? data_.chunks.size() : std::min(loaded_ + 1, data_.chunks.size());
  std::size_t bytes = 0;
  for (; loaded_ < until && !came.error; ++loaded_) {
    const conformance::Bytes& chunk = data_.chunks[loaded_];
    bytes += chunk.size();
    // A copy: an access that hangs outlives this.
    const Result<void> loaded = subject_.perform(
        "load",
        [region, chunk, access = access_of(deed)](DeviceHandle& device) { return region.load(device, chunk, access); });
    if (!loaded) came.error = came.outcome.error = loaded.error();
  }
  if (bytes == 0) return came;
  came.judged = Act{.kind = Act::Kind::Write, .number = bytes};
  came.outcome.lost = subject_.lost();
  return came;
}

// One that was refused, or that no client makes: it is answered as it was.
ReplayConnection::Came ReplayConnection::access(const MigrationRegion& region) {
  Came came;
  const auto& doing = now_->act->doing;
  if (const auto* read = std::get_if<record::ReadRegion>(&doing)) {
    conformance::Bytes bytes(std::min<std::uint64_t>(read->size, kLargestAccess));
    const Result<void> done = subject_.read_region(region.index, read->offset, bytes);
    if (!done) came.error = done.error();
  } else if (const auto* write = std::get_if<record::WriteRegion>(&doing)) {
    const conformance::Bytes bytes =
        write->data.empty() ? conformance::Bytes(std::min<std::uint64_t>(write->size, kLargestAccess)) : write->data;
    const Result<void> done = subject_.write_region(region.index, write->offset, bytes);
    if (!done) came.error = done.error();
  }
  return came;
}

std::optional<DeviceState> ReplayConnection::region_state_now(const MigrationRegion& region) {
  const auto state = subject_.ask<std::uint32_t>(
      "# device_state", [region](DeviceHandle& device) { return region.device_state(device); });
  return state ? region_state(setting_.interface, *state) : std::nullopt;
}

// By v1 the same is about v1's clauses; region-v2 has those of v2 (R2-STATES).
std::string_view ReplayConnection::clause_by_region(std::string_view clause) const {
  const RegionDeed* const deed = recorded_region_.at(*now_->act);
  if (deed == nullptr || setting_.interface != Revision::V1) return clause;
  switch (deed->kind) {
    case RegionDeed::Kind::ReadState:
    case RegionDeed::Kind::WriteState:
      return "V1-STATES";
    case RegionDeed::Kind::Load:
      return "V1-LOAD";
    case RegionDeed::Kind::Pending:
    case RegionDeed::Kind::Chunk:
      return "V1-SAVE";
    case RegionDeed::Kind::Part:
    case RegionDeed::Kind::Access:
      break;
  }
  return clause;
}

std::string deed_text(const RegionDeed& deed) {
  switch (deed.kind) {
    case RegionDeed::Kind::ReadState:
      return "read device_state";
    case RegionDeed::Kind::WriteState:
      return fmt::format("write device_state {}", value_text(deed.revision, static_cast<std::uint32_t>(deed.value)));
    case RegionDeed::Kind::Pending:
      return "read pending_bytes";
    case RegionDeed::Kind::Chunk:
      return "read a chunk";
    case RegionDeed::Kind::Load:
      return "load a chunk";
    case RegionDeed::Kind::Part:
    case RegionDeed::Kind::Access:
      break;
  }
  return "access a migration region";
}

}  // namespace gangway::profile
