#include "devices/nvme/log_pages.h"

#include "base/bytes.h"
#include "devices/nvme/features.h"

namespace gangway::nvme {
namespace {

constexpr std::size_t kChangedNamespacesSize = 4096;
constexpr std::uint8_t kTemperatureWarning = 1U << 1;
constexpr std::uint8_t kSparePercent = 100;
constexpr std::uint8_t kSpareThresholdPercent = 10;
constexpr std::uint64_t kDataUnit = 512 * 1000;

Count128 data_units(std::uint64_t bytes) {
  return {.low = bytes / kDataUnit + (bytes % kDataUnit != 0 ? 1 : 0), .high = 0};
}

template <class T>
std::vector<std::byte> to_vector(const T& value) {
  const auto bytes = bytes_of(value);
  return {bytes.begin(), bytes.end()};
}

}  // namespace

void LogPages::add_error(ErrorLogEntry entry) {
  entry.error_count = ++counters_.errors;
  errors_.push_front(entry);
  if (errors_.size() > kErrorLogEntries) errors_.pop_back();
}

std::optional<std::vector<std::byte>> LogPages::page(std::uint8_t number, bool temperature_warning) const {
  switch (number) {
    case kLogError: {
      std::array<ErrorLogEntry, kErrorLogEntries> entries{};
      std::copy(errors_.begin(), errors_.end(), entries.begin());
      return to_vector(entries);
    }
    case kLogSmart:
      return to_vector(smart(temperature_warning));
    case kLogFirmware: {
      FirmwareSlotLog log;
      log.active = 1;
      log.revision[0] = kFirmwareRevision;
      return to_vector(log);
    }
    case kLogChangedNamespaces:  // they never change
      return std::vector<std::byte>(kChangedNamespacesSize);
    default:
      return std::nullopt;
  }
}

SmartLog LogPages::smart(bool temperature_warning) const {
  SmartLog log;
  log.critical_warning = temperature_warning ? kTemperatureWarning : 0;
  log.composite_temperature = {kCompositeTemperature & 0xff, kCompositeTemperature >> 8};
  log.available_spare = kSparePercent;
  log.available_spare_threshold = kSpareThresholdPercent;
  log.data_units_read = data_units(counters_.bytes_read);
  log.data_units_written = data_units(counters_.bytes_written);
  log.host_reads = {.low = counters_.reads, .high = 0};
  log.host_writes = {.low = counters_.writes, .high = 0};
  log.power_cycles = {.low = counters_.power_cycles, .high = 0};
  log.power_on_hours = {.low = powered_seconds() / 3600, .high = 0};
  log.unsafe_shutdowns = {.low = counters_.unsafe_shutdowns, .high = 0};
  log.media_errors = {.low = counters_.media_errors, .high = 0};
  log.error_log_entries = {.low = counters_.errors, .high = 0};
  return log;
}

std::uint64_t LogPages::powered_seconds() const {
  std::uint64_t seconds = counters_.powered_seconds;
  if (started_) {
    const auto running = std::chrono::steady_clock::now() - *started_;
    seconds += static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::seconds>(running).count());
  }
  return seconds;
}

void LogPages::start_clock() {
  if (!started_) started_ = std::chrono::steady_clock::now();
}

void LogPages::stop_clock() {
  counters_.powered_seconds = powered_seconds();
  started_.reset();
}

void LogPages::restore(const SmartCounters& counters, std::deque<ErrorLogEntry> errors) {
  counters_ = counters;
  errors_ = std::move(errors);
}

void LogPages::clear() {
  counters_ = {};
  errors_.clear();
  started_.reset();
}

}  // namespace gangway::nvme
