// Features of a device of the kernel: migration and its data, DMA logging.
#include <cstring>

#include <fmt/format.h>

#include "base/bytes.h"
#include "kernel/device.h"

namespace gangway::kernel {
namespace {

struct FeatureName {
  Feature feature;
  std::string_view name;
};
constexpr FeatureName kNames[] = {{Feature::Migration, "MIGRATION"},
                                  {Feature::MigDeviceState, "MIG_DEVICE_STATE"},
                                  {Feature::DmaLoggingStart, "DMA_LOGGING_START"},
                                  {Feature::DmaLoggingStop, "DMA_LOGGING_STOP"},
                                  {Feature::DmaLoggingReport, "DMA_LOGGING_REPORT"},
                                  {Feature::MigDataSize, "MIG_DATA_SIZE"},
                                  {Feature::MigPrecopyInfoV2, "MIG_PRECOPY_INFOv2"}};

std::uint32_t number(Feature feature) { return static_cast<std::uint16_t>(feature); }

std::string name_of(std::uint32_t feature) {
  for (const FeatureName& known : kNames) {
    if (number(known.feature) == feature) return std::string(known.name);
  }
  return fmt::format("{}", feature);
}

}  // namespace

// --- features ---

Result<std::vector<std::byte>> Device::call_feature(std::uint32_t flags, std::span<const std::byte> data,
                                                    std::size_t reply_size) {
  const vfio::FeatureHeader head{.argsz = static_cast<std::uint32_t>(sizeof head + std::max(data.size(), reply_size)),
                                 .flags = flags};
  std::vector<std::byte> message(head.argsz);
  (void)store_at(std::span(message), 0, head);
  if (!data.empty()) std::memcpy(message.data() + sizeof head, data.data(), data.size());
  if (call(opened_.device->get(), Call::DeviceFeature, message.data()) < 0) {
    const int why = errno;
    const std::string feature = fmt::format("feature {}", name_of(flags & vfio::kFeatureMask));
    if (why == ENOTTY) return fail(ENOTTY, fmt::format("{}: {}: the driver does not have it", target_, feature));
    return in_words(feature, why);
  }
  message.erase(message.begin(), message.begin() + sizeof head);
  message.resize(reply_size);
  return message;
}

Result<std::vector<std::byte>> Device::feature_get(Feature feature, std::span<const std::byte> data,
                                                   std::size_t reply_size) {
  return call_feature(number(feature) | vfio::kFeatureGet, data, reply_size);
}

Result<std::vector<std::byte>> Device::feature_set(Feature feature, std::span<const std::byte> data) {
  Result<std::vector<std::byte>> reply = call_feature(number(feature) | vfio::kFeatureSet, data, data.size());
  if (!reply || feature != Feature::MigDeviceState) return reply;
  const auto state = load_at<vfio::FeatureDeviceState>(*reply);
  if (!state || state->data_fd < 0) return reply;
  // A session began (DAT-SESSION). The descriptor of the last one stays as it is until then, dead or not.
  auto data_file = std::make_shared<MigrationData>(Fd(state->data_fd), limit_);
  const std::scoped_lock lock(mutex_);
  data_.swap(data_file);
  return reply;
}

Result<void> Device::feature_probe(Feature feature, bool get, bool set) {
  const std::uint32_t flags =
      number(feature) | vfio::kFeatureProbe | (get ? vfio::kFeatureGet : 0) | (set ? vfio::kFeatureSet : 0);
  const Result<std::vector<std::byte>> probed = call_feature(flags, {}, 0);
  if (!probed) return std::unexpected(probed.error());
  return {};
}

// --- migration data ---

Result<std::shared_ptr<MigrationData>> Device::session(std::string_view doing) {
  const std::scoped_lock lock(mutex_);
  if (data_) return data_;
  return fail(EINVAL, fmt::format("{}: {}: no data session was begun", target_, doing));
}

Result<StreamRead> Device::read_data(std::span<std::byte> out) {
  const auto data = session("read migration data");
  if (!data) return std::unexpected(data.error());
  Result<StreamRead> read = (*data)->read(out);
  if (!read) return in_words("", read.error());
  return read;
}

Result<void> Device::write_data(std::span<const std::byte> in) {
  const auto data = session("write migration data");
  if (!data) return std::unexpected(data.error());
  Result<void> written = (*data)->write(in);
  if (!written) return in_words("", written.error());
  return written;
}

Result<PrecopyInfo> Device::precopy_info() {
  const auto data = session("PRECOPY_INFO");
  if (!data) return std::unexpected(data.error());
  Result<PrecopyInfo> info = (*data)->precopy_info();
  if (!info) return in_words("", info.error());
  return info;
}

Result<void> Device::close_data() {
  const auto data = session("close the data descriptor");
  if (!data) return std::unexpected(data.error());
  const std::scoped_lock lock(mutex_);
  data_.reset();
  return {};
}

Result<int> Device::data_descriptor() {
  const auto data = session("data descriptor");
  if (!data) return std::unexpected(data.error());
  return (*data)->descriptor();
}

// --- DMA logging ---

Result<std::uint64_t> Device::dma_logging_start(std::span<const IovaRange> ranges, std::uint64_t page_size) {
  std::vector<vfio::LoggingRange> list;
  list.reserve(ranges.size());
  for (const IovaRange& range : ranges) list.push_back({.iova = range.start.value, .length = range.size});
  const LoggingStart asked{.control = {.page_size = page_size, .ranges = static_cast<std::uint32_t>(list.size())},
                           .ranges = reinterpret_cast<std::uintptr_t>(list.data())};
  const Result<std::vector<std::byte>> reply = feature_set(Feature::DmaLoggingStart, bytes_of(asked));
  if (!reply) return std::unexpected(reply.error());
  return load_at<LoggingStart>(*reply)->control.page_size;
}

Result<void> Device::dma_logging_report(IovaRange range, std::uint64_t page_size, std::span<std::uint64_t> bitmap) {
  constexpr std::uint64_t kBitsPerWord = 64;
  const std::uint64_t pages = page_size == 0 ? 0 : range.size / page_size + (range.size % page_size != 0 ? 1 : 0);
  if (bitmap.size() < pages / kBitsPerWord + (pages % kBitsPerWord != 0 ? 1 : 0)) {
    return fail(EINVAL, fmt::format("{}: a bitmap of {} words for {} pages", target_, bitmap.size(), pages),
                "LOG-REPORT");
  }
  const LoggingReport asked{.report = {.iova = range.start.value, .length = range.size, .page_size = page_size},
                            .bitmap = reinterpret_cast<std::uintptr_t>(bitmap.data())};
  const Result<std::vector<std::byte>> reply = feature_get(Feature::DmaLoggingReport, bytes_of(asked), sizeof asked);
  if (!reply) return std::unexpected(reply.error());
  return {};
}

}  // namespace gangway::kernel
