#include "profile/recorded_region.h"

#include <algorithm>
#include <utility>
#include <variant>

#include <gangway/migration_region.h>

#include "base/bytes.h"

namespace gangway::profile {
namespace {

using namespace migration_region;
using Kind = RegionDeed::Kind;

}  // namespace

MigrationRegions migration_regions(std::span<const record::Act> acts) {
  MigrationRegions regions;
  for (const record::Act& act : acts) {
    const auto* const region = std::get_if<record::GetRegion>(&act.doing);
    if (region == nullptr || !region->type || region->type->first != kType) continue;
    for (const Revision revision : {Revision::V1, Revision::RegionV2}) {
      if (region->type->second == subtype(revision)) regions[region->region] = revision;
    }
  }
  return regions;
}

RecordedRegion::RecordedRegion(std::span<const record::Act* const> acts, const MigrationRegions& regions) {
  for (const record::Act* act : acts) {
    const auto* const read = std::get_if<record::ReadRegion>(&act->doing);
    const auto* const write = std::get_if<record::WriteRegion>(&act->doing);
    if (act->by_device || (read == nullptr && write == nullptr)) continue;
    const auto region = regions.find(read != nullptr ? read->region : write->region);
    if (region == regions.end()) continue;
    RegionDeed deed = read != nullptr ? this->read(*read) : this->write(*write);
    deed.revision = region->second;
    // What was refused came to nothing, but the state: that it was refused is what matters of it.
    if (!act->succeeded() && deed.kind != Kind::WriteState) deed.kind = Kind::Access;
    RegionDeed& kept = deeds_[act] = deed;
    switch (kept.kind) {
      case Kind::WriteState:
        if (!driven_) driven_ = kept.revision;
        loaded_ = nullptr;
        end_iteration();
        break;
      case Kind::Pending:
        end_iteration();
        break;
      case Kind::Chunk:
        chunk_ = &kept;
        break;
      case Kind::Load:
        if (loaded_ != nullptr) loaded_->last = false;
        loaded_ = &kept;
        kept.last = true;
        break;
      default:
        break;
    }
  }
}

RegionDeed RecordedRegion::read(const record::ReadRegion& read) {
  const auto number = [&read]<class T>(Kind kind, T) -> RegionDeed {
    const std::optional<T> value = load_at<T>(read.data);
    return value && read.size == sizeof(T) ? RegionDeed{.kind = kind, .value = *value} : RegionDeed{};
  };
  switch (read.offset) {
    case kDeviceState:
      return number(Kind::ReadState, std::uint32_t{});
    case kPendingBytes:
      return number(Kind::Pending, std::uint64_t{});
    case kDataOffset:
      return number(Kind::Part, std::uint64_t{});
    case kDataSize: {
      RegionDeed deed = number(Kind::Chunk, std::uint64_t{});
      deed.access = chunk_access_;
      // Read again within an iteration it is the same chunk.
      if (chunk_ != nullptr && deed.kind == Kind::Chunk) deed.kind = Kind::Part;
      return deed;
    }
    default:
      break;
  }
  if (read.offset < kHeaderSize) return {};
  chunk_access_ = std::max<std::uint64_t>(chunk_access_, read.size);
  if (chunk_ != nullptr) chunk_->access = chunk_access_;
  return {.kind = Kind::Part};
}

RegionDeed RecordedRegion::write(const record::WriteRegion& write) {
  if (write.offset == kDeviceState) {
    const auto value = load_at<std::uint32_t>(write.data);
    return value && write.size == sizeof *value ? RegionDeed{.kind = Kind::WriteState, .value = *value} : RegionDeed{};
  }
  if (write.offset == kDataSize) {
    const auto value = load_at<std::uint64_t>(write.data);
    if (!value || write.size != sizeof *value) return {};
    return {.kind = Kind::Load, .value = *value, .access = std::exchange(load_access_, 0)};
  }
  if (write.offset < kHeaderSize) return {};
  load_access_ = std::max<std::uint64_t>(load_access_, write.size);
  return {.kind = Kind::Part};
}

void RecordedRegion::end_iteration() {
  chunk_ = nullptr;
  chunk_access_ = load_access_ = 0;
}

const RegionDeed* RecordedRegion::at(const record::Act& act) const {
  const auto found = deeds_.find(&act);
  return found == deeds_.end() ? nullptr : &found->second;
}

}  // namespace gangway::profile
