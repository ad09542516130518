// The log pages, and the counters behind them.
// Source: NVM Express 1.4, 5.14.
//
// Thread-safety: the I/O thread's own.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

#include "devices/nvme/spec.h"

namespace gangway::nvme {

inline constexpr std::uint8_t kLogError = 0x01;
inline constexpr std::uint8_t kLogSmart = 0x02;
inline constexpr std::uint8_t kLogFirmware = 0x03;
inline constexpr std::uint8_t kLogChangedNamespaces = 0x04;

inline constexpr std::size_t kErrorLogEntries = 16;
inline constexpr std::array<char, 8> kFirmwareRevision{'1', '.', '0', ' ', ' ', ' ', ' ', ' '};

struct SmartCounters {
  std::uint64_t bytes_read = 0;
  std::uint64_t bytes_written = 0;
  std::uint64_t reads = 0;
  std::uint64_t writes = 0;
  std::uint64_t power_cycles = 1;
  std::uint64_t unsafe_shutdowns = 0;
  std::uint64_t media_errors = 0;
  std::uint64_t errors = 0;           // entries ever made in the error log
  std::uint64_t powered_seconds = 0;  // before the controller was last started
};

class LogPages {
 public:
  // Newest first. Sets the entry's number.
  void add_error(ErrorLogEntry entry);

  // The whole page; nullopt when there is none of that number.
  [[nodiscard]] std::optional<std::vector<std::byte>> page(std::uint8_t number, bool temperature_warning) const;

  SmartCounters& counters() { return counters_; }
  [[nodiscard]] const SmartCounters& counters() const { return counters_; }
  [[nodiscard]] const std::deque<ErrorLogEntry>& errors() const { return errors_; }

  // The clock of power_on_hours runs between the two.
  void start_clock();
  void stop_clock();

  void restore(const SmartCounters& counters, std::deque<ErrorLogEntry> errors);
  void clear();

 private:
  [[nodiscard]] std::uint64_t powered_seconds() const;
  [[nodiscard]] SmartLog smart(bool temperature_warning) const;

  SmartCounters counters_;
  std::deque<ErrorLogEntry> errors_;
  std::optional<std::chrono::steady_clock::time_point> started_;
};

}  // namespace gangway::nvme
