#include "vfio_user/migration_watch.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>

#include <fmt/format.h>

#include <gangway/device_handle.h>

#include "base/bytes.h"

namespace gangway::vfio_user {
namespace {

// Who asks for one of these knows what migration is, v2. DMA logging is none of them: it is of use without.
constexpr std::array kOfMigration{
    static_cast<std::uint16_t>(Feature::Migration),
    static_cast<std::uint16_t>(Feature::MigDeviceState),
    static_cast<std::uint16_t>(Feature::MigDataSize),
    static_cast<std::uint16_t>(Feature::MigPrecopyInfoV2),
    kFeaturePrecopyInfo,
    kFeatureSharedData,
};

bool asks_by_feature(std::span<const std::byte> body) {
  const auto head = load_at<FeatureHeader>(body);
  return head && std::ranges::find(kOfMigration, head->flags & kFeatureMask) != kOfMigration.end();
}

// A client may list all regions without knowing any; one that has reached into a migration region does.
bool asks_by_region(std::span<const std::byte> body, const Endpoint& endpoint) {
  const auto access = load_at<RegionAccess>(body);
  if (!access || access->region < to_number(RegionIndex::FirstDeviceSpecific)) return false;
  const auto region = endpoint.region(access->region);
  return region && region->type;
}

bool asks(const Message& command, const Endpoint& endpoint) {
  switch (command.command()) {
    case Command::DeviceFeature:
      return asks_by_feature(command.body.bytes());
    case Command::RegionRead:
    case Command::RegionWrite:
      return asks_by_region(command.body.bytes(), endpoint);
    default:
      return false;
  }
}

std::string revisions_of(const Endpoint& endpoint) {
  std::vector<std::string_view> names;
  for (const Revision revision : kAllRevisions) {
    if (endpoint.exposes(revision)) names.push_back(contract::name(revision));
  }
  return fmt::format("{}", fmt::join(names, ", "));
}

// A device that thousands of clients come to, one after the other, does not fill the log.
bool worth_a_line(std::uint64_t count) { return std::has_single_bit(count); }

}  // namespace

void MigrationWatch::client_came() { asked_ = drives_ = false; }

std::optional<std::string> MigrationWatch::carried_out(const Message& command, Endpoint& endpoint) {
  if (drives_ || endpoint.migration() == nullptr) return std::nullopt;
  asked_ = asked_ || asks(command, endpoint);
  drives_ = endpoint.bus_master();
  if (asked_ || !drives_) return std::nullopt;
  if (++without_asking_ > 1) {
    if (!worth_a_line(without_asking_)) return std::nullopt;
    return fmt::format("again a client drives the device and has not asked whether it can migrate ({} so far)",
                       without_asking_);
  }
  return fmt::format(
      "the client drives the device and has not asked whether it can migrate (by {}); a client that never asks leaves "
      "the device's state behind when its guest migrates",
      revisions_of(endpoint));
}

std::optional<std::string> MigrationWatch::gone(Endpoint& endpoint) {
  const bool drove = endpoint.bus_master() && endpoint.dma().used();
  if (!drove || endpoint.migration() == nullptr || !endpoint.migration()->has_unsaved_state()) return std::nullopt;
  const std::string_view state = contract::name(endpoint.migration()->state());
  if (++without_saving_ > 1) {
    if (!worth_a_line(without_saving_)) return std::nullopt;
    return fmt::format(
        "again a client is gone and had not saved the device, which has done DMA and is in {} ({} so far)", state,
        without_saving_);
  }
  return fmt::format(
      "the client is gone and had not saved the device to the end, which has done DMA and is in {}; if its guest goes "
      "on elsewhere, it goes on without the device's state",
      state);
}

}  // namespace gangway::vfio_user
