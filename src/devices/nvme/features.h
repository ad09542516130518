// The features a host may get and set.
// Source: NVM Express 1.4, 5.12 (get features), 5.21 (set features).
//
// Thread-safety: the I/O thread's own.
#pragma once

#include <array>
#include <cstdint>
#include <expected>
#include <vector>

#include "devices/nvme/queues.h"
#include "devices/nvme/status.h"

namespace gangway::nvme {

enum class FeatureId : std::uint8_t {
  Arbitration = 0x01,
  PowerManagement = 0x02,
  TemperatureThreshold = 0x04,
  ErrorRecovery = 0x05,
  VolatileWriteCache = 0x06,
  NumberOfQueues = 0x07,
  InterruptCoalescing = 0x08,
  InterruptVectorConfig = 0x09,
  WriteAtomicity = 0x0a,
  AsyncEventConfig = 0x0b,
};

inline constexpr std::uint16_t kCompositeTemperature = 323;  // kelvins, constant
inline constexpr std::uint16_t kWarningTemperature = 343;
inline constexpr std::uint16_t kCriticalTemperature = 353;

class Features {
 public:
  // What a host may ask for beside the current value (SEL).
  enum class Select : std::uint8_t { Current = 0, Default = 1, Saved = 2, Capabilities = 3 };

  struct Values {
    std::uint32_t arbitration = 0;
    std::uint32_t power_management = 0;
    std::uint16_t over_temperature = kWarningTemperature;
    std::uint16_t under_temperature = 0;
    std::vector<std::uint32_t> error_recovery;  // one a namespace
    std::uint32_t volatile_write_cache = 1;
    std::uint32_t number_of_queues = 0;  // as dword 0 of the completion: counts - 1, completion queues above
    std::uint32_t interrupt_coalescing = 0;
    std::uint32_t uncoalesced_vectors = 0;  // a bit for each vector with coalescing disabled
    std::uint32_t write_atomicity = 0;
    std::uint32_t async_events = 0;
    friend bool operator==(const Values&, const Values&) = default;
  };

  Features(std::uint16_t io_queue_pairs, std::size_t namespaces);

  // `number` is the feature identifier as it came from the host.
  [[nodiscard]] std::expected<std::uint32_t, Status> get(std::uint8_t number, Select select, std::uint32_t nsid,
                                                         std::uint32_t cdw11) const;
  // The result is dword 0 of the completion. `save` asks for a value that survives power loss: none does.
  [[nodiscard]] std::expected<std::uint32_t, Status> set(std::uint8_t number, bool save, std::uint32_t nsid,
                                                         std::uint32_t cdw11, bool queues_exist);

  void reset() { values_ = defaults_; }
  [[nodiscard]] const Values& values() const { return values_; }
  // False, and nothing changed, when a value is none that set() would have left.
  [[nodiscard]] bool restore(const Values& values);

  [[nodiscard]] bool write_cache() const { return values_.volatile_write_cache != 0; }
  [[nodiscard]] std::uint16_t allowed_sqs() const {
    return static_cast<std::uint16_t>((values_.number_of_queues & 0xffffU) + 1);
  }
  [[nodiscard]] std::uint16_t allowed_cqs() const {
    return static_cast<std::uint16_t>((values_.number_of_queues >> 16) + 1);
  }
  // The composite temperature lies beyond a threshold.
  [[nodiscard]] bool temperature_warning() const {
    return kCompositeTemperature >= values_.over_temperature || kCompositeTemperature <= values_.under_temperature;
  }

 private:
  std::expected<std::uint32_t, Status> value_in(const Values& values, FeatureId id, std::uint32_t nsid,
                                                std::uint32_t cdw11) const;
  Status set_temperature(std::uint32_t cdw11);
  Status set_error_recovery(std::uint32_t nsid, std::uint32_t cdw11);
  std::expected<std::uint32_t, Status> set_number_of_queues(std::uint32_t cdw11, bool queues_exist);
  Status set_vector_config(std::uint32_t cdw11);

  std::uint16_t io_queue_pairs_;
  Values defaults_;
  Values values_;
};

}  // namespace gangway::nvme
