// Which revision of the migration interface a client has, and the regions of those that have one.
#include <gangway/endpoint.h>

#include <mutex>
#include <utility>

#include <fmt/core.h>

#include <gangway/migration_region.h>

#include "base/log.h"
#include "device/region_front_end.h"

namespace gangway {
namespace {

// One for the process, however many devices it serves.
void say_that_v1_is_deprecated() {
  static std::once_flag said;
  std::call_once(said, [] {
    log::warn(
        "v1 of the migration interface is served; it is deprecated since 2026-11-24 and meant for clients of Linux 5.8 "
        "to 5.17: see docs/compatibility.md");
  });
}

}  // namespace

Result<void> Endpoint::add_front_ends() {
  if (revisions_.v1) say_that_v1_is_deprecated();
  for (const Revision revision : {Revision::V1, Revision::RegionV2}) {
    if (!revisions_.has(revision)) continue;
    auto made = make_front_end(revision);
    if (!made) return std::unexpected(std::move(made.error()));
    regions_.push_back((*made)->info());
    front_ends_.push_back(std::move(*made));
  }
  return {};
}

Result<std::unique_ptr<RegionFrontEnd>> Endpoint::make_front_end(Revision revision) {
  return RegionFrontEnd::create<RegionFrontEnd>(revision, *migration_);
}

RegionFrontEnd* Endpoint::front_end(std::uint32_t region) const {
  const std::size_t first = regions_.size() - front_ends_.size();
  return region < first ? nullptr : front_ends_[region - first].get();
}

Result<void> Endpoint::look(Revision revision) const {
  if (!exposes(revision)) {
    return fail(ENOTTY,
                fmt::format("the device does not serve {} of the migration interface", contract::name(revision)),
                "V1-HIDDEN");
  }
  if (driven_ && *driven_ != revision) {
    return fail(EBUSY,
                fmt::format("{} of the migration interface: this client drives {}", contract::name(revision),
                            contract::name(*driven_)),
                "V1-ONE");
  }
  return {};
}

Result<void> Endpoint::drive(Revision revision) {
  if (auto free = look(revision); !free) return free;
  driven_ = revision;
  return {};
}

Result<void> Endpoint::read_front_end(RegionFrontEnd& front_end, std::uint64_t offset, std::span<std::byte> out) {
  // Reading the state is looking; the other fields move data.
  const bool looks = offset == migration_region::kDeviceState || offset >= RegionFrontEnd::kDataStart;
  if (auto free = looks ? look(front_end.revision()) : drive(front_end.revision()); !free) return free;
  return front_end.read(offset, out);
}

Result<void> Endpoint::write_front_end(RegionFrontEnd& front_end, std::uint64_t offset, std::span<const std::byte> in) {
  if (auto free = drive(front_end.revision()); !free) return free;
  return front_end.write(offset, in);
}

}  // namespace gangway
