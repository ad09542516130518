#include <gangway/device_handle.h>

#include <fmt/format.h>

#include "base/bytes.h"
#include "handle/vfio.h"

namespace gangway {
namespace {

using namespace vfio;

template <class T>
Result<T> structure(const Result<std::vector<std::byte>>& reply, std::string_view what) {
  if (!reply) return std::unexpected(reply.error());
  if (const std::optional<T> value = load_at<T>(*reply)) return *value;
  return fail(EPROTO, fmt::format("{}: a reply of {} bytes, {} are needed", what, reply->size(), sizeof(T)));
}

template <class T>
Result<T> get(DeviceHandle& device, Feature feature, std::string_view what) {
  return structure<T>(device.feature_get(feature, {}, sizeof(T)), what);
}

}  // namespace

Result<MigrationFlags> DeviceHandle::migration_flags() {
  const auto migration = get<FeatureMigration>(*this, Feature::Migration, "migration flags");
  if (!migration) return std::unexpected(migration.error());
  if (const std::optional<MigrationFlags> flags = MigrationFlags::from_bits(migration->flags)) return *flags;
  return fail(EPROTO, fmt::format("{}: migration flags {:#x} lack STOP_COPY", target(), migration->flags));
}

Result<DeviceState> DeviceHandle::state() {
  const auto state = get<FeatureDeviceState>(*this, Feature::MigDeviceState, "device state");
  if (!state) return std::unexpected(state.error());
  if (state->state < kDeviceStates) return static_cast<DeviceState>(state->state);
  return fail(EPROTO, fmt::format("{}: the device is in state {}, which is none", target(), state->state));
}

Result<void> DeviceHandle::set_state(DeviceState state) { return set_state_number(static_cast<std::uint32_t>(state)); }

Result<void> DeviceHandle::set_state_number(std::uint32_t state) {
  const FeatureDeviceState wanted{.state = state};
  const Result<std::vector<std::byte>> set = feature_set(Feature::MigDeviceState, bytes_of(wanted));
  if (!set) return std::unexpected(set.error());
  return {};
}

Result<std::uint64_t> DeviceHandle::data_size() {
  const auto size = get<FeatureDataSize>(*this, Feature::MigDataSize, "migration data size");
  if (!size) return std::unexpected(size.error());
  return size->stop_copy_length;
}

Result<void> DeviceHandle::check(std::span<const RegionWrite> writes) const {
  constexpr std::size_t kLongest = sizeof(std::uint64_t);
  for (const RegionWrite& write : writes) {
    if (!write.data.empty() && write.data.size() <= kLongest) continue;
    return fail(EINVAL, fmt::format("{}: region {}: a write of {} bytes at {:#x} among others: each has 1 to {}",
                                    target(), write.region, write.data.size(), write.offset, kLongest));
  }
  return {};
}

Result<std::size_t> DeviceHandle::write_multi(std::span<const RegionWrite> writes) {
  if (const Result<void> good = check(writes); !good) return std::unexpected(good.error());
  for (std::size_t done = 0; done < writes.size(); ++done) {
    const Result<void> made = write(writes[done].region, writes[done].offset, writes[done].data);
    if (made) continue;
    if (done == 0) return std::unexpected(made.error());
    return done;
  }
  return writes.size();
}

Result<std::vector<DeviceHandle::IoFd>> DeviceHandle::io_fds(std::uint32_t region) {
  return fail(ENOTTY, fmt::format("{}: region {}: this transport tells no write by a descriptor", target(), region));
}

Result<void> DeviceHandle::dma_unmap_reporting(IovaRange, std::uint64_t, std::span<std::uint64_t>) {
  return fail(ENOTTY, fmt::format("{}: this transport cannot unmap and report in one", target()));
}

Result<void> DeviceHandle::dma_unmap_all() {
  return fail(ENOTTY, fmt::format("{}: this transport unmaps only what is named", target()));
}

Result<void> DeviceHandle::close_data() {
  return fail(ENOTTY, fmt::format("{}: this transport has no data descriptor", target()));
}

Result<int> DeviceHandle::data_descriptor() {
  return fail(ENOTTY, fmt::format("{}: this transport has no data descriptor", target()));
}

// The ranges follow the structure, as vfio-user has it; a transport with pointers in its place overrides these.

Result<std::uint64_t> DeviceHandle::dma_logging_start(std::span<const IovaRange> ranges, std::uint64_t page_size) {
  const FeatureLoggingControl control{.page_size = page_size, .ranges = static_cast<std::uint32_t>(ranges.size())};
  std::vector<std::byte> data(sizeof control + ranges.size() * sizeof(LoggingRange));
  (void)store_at(std::span(data), 0, control);
  for (std::size_t i = 0; i < ranges.size(); ++i) {
    const LoggingRange range{.iova = ranges[i].start.value, .length = ranges[i].size};
    (void)store_at(std::span(data), sizeof control + i * sizeof range, range);
  }
  const auto started =
      structure<FeatureLoggingControl>(feature_set(Feature::DmaLoggingStart, data), "DMA logging start");
  if (!started) return std::unexpected(started.error());
  return started->page_size;
}

Result<void> DeviceHandle::dma_logging_stop() {
  const Result<std::vector<std::byte>> stopped = feature_set(Feature::DmaLoggingStop, {});
  if (!stopped) return std::unexpected(stopped.error());
  return {};
}

Result<void> DeviceHandle::dma_logging_report(IovaRange range, std::uint64_t page_size,
                                              std::span<std::uint64_t> bitmap) {
  const FeatureLoggingReport asked{.iova = range.start.value, .length = range.size, .page_size = page_size};
  const Result<std::vector<std::byte>> reply =
      feature_get(Feature::DmaLoggingReport, bytes_of(asked), sizeof asked + bitmap.size_bytes());
  if (!reply) return std::unexpected(reply.error());
  for (std::size_t i = 0; i < bitmap.size(); ++i) {
    const auto word = load_at<std::uint64_t>(*reply, sizeof asked + i * sizeof(std::uint64_t));
    if (!word) break;
    bitmap[i] |= *word;
  }
  return {};
}

}  // namespace gangway
