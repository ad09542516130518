#include "devices/nvme/features.h"

#include <algorithm>
#include <optional>

#include "devices/nvme/spec.h"

namespace gangway::nvme {
namespace {

// What SEL 011b answers.
constexpr std::uint32_t kPerNamespace = 1U << 1;
constexpr std::uint32_t kChangeable = 1U << 2;

struct FeatureKind {
  FeatureId id;
  std::uint32_t capabilities;
};
constexpr std::array kKinds{
    FeatureKind{FeatureId::Arbitration, kChangeable},
    FeatureKind{FeatureId::PowerManagement, kChangeable},
    FeatureKind{FeatureId::TemperatureThreshold, kChangeable},
    FeatureKind{FeatureId::ErrorRecovery, kChangeable | kPerNamespace},
    FeatureKind{FeatureId::VolatileWriteCache, kChangeable},
    FeatureKind{FeatureId::NumberOfQueues, kChangeable},
    FeatureKind{FeatureId::InterruptCoalescing, kChangeable},
    FeatureKind{FeatureId::InterruptVectorConfig, kChangeable},
    FeatureKind{FeatureId::WriteAtomicity, kChangeable},
    FeatureKind{FeatureId::AsyncEventConfig, kChangeable},
};

std::optional<FeatureKind> kind_of(std::uint8_t number) {
  const auto* found = std::ranges::find(kKinds, static_cast<FeatureId>(number), &FeatureKind::id);
  if (found == kKinds.end()) return std::nullopt;
  return *found;
}

constexpr std::uint32_t kArbitrationMask = 0xffff'ff07;
constexpr std::uint32_t kPowerStateMask = 0x1f;
constexpr std::uint32_t kPowerMask = 0xff;  // power state and workload hint
constexpr std::uint32_t kErrorRecoveryMask = 0x0001'ffff;
constexpr std::uint32_t kDeallocatedError = 1U << 16;  // DULBE, which no namespace offers
constexpr std::uint32_t kCoalescingMask = 0xffff;
constexpr std::uint32_t kVectorMask = 0xffff;
constexpr std::uint32_t kCoalescingDisable = 1U << 16;
constexpr std::uint32_t kAsyncEventMask = 0x0000'031f;  // SMART warnings, namespace attributes, firmware activation
constexpr std::uint32_t kNoQueues = 0xffff;

// Threshold select and type of the temperature threshold (5.21.1.4). Sensor 0 is the composite temperature, the only
// one there is; 15 is all of them.
constexpr std::uint32_t sensor(std::uint32_t cdw11) { return cdw11 >> 16 & 0xfU; }
constexpr std::uint32_t threshold_type(std::uint32_t cdw11) { return cdw11 >> 20 & 3U; }
constexpr std::uint32_t kAllSensors = 0xf;

}  // namespace

Features::Features(std::uint16_t io_queue_pairs, std::size_t namespaces) : io_queue_pairs_(io_queue_pairs) {
  defaults_.error_recovery.resize(namespaces, 0);
  const auto pairs = static_cast<std::uint32_t>(io_queue_pairs - 1);
  defaults_.number_of_queues = pairs << 16 | pairs;
  values_ = defaults_;
}

std::expected<std::uint32_t, Status> Features::get(std::uint8_t number, Select select, std::uint32_t nsid,
                                                   std::uint32_t cdw11) const {
  const auto kind = kind_of(number);
  if (!kind) return std::unexpected(Status::InvalidField);
  if ((kind->capabilities & kPerNamespace) != 0 && (nsid == 0 || nsid > values_.error_recovery.size())) {
    return std::unexpected(nsid == kBroadcastNamespace ? Status::InvalidField : Status::InvalidNamespace);
  }
  switch (select) {
    case Select::Capabilities:
      return kind->capabilities;
    case Select::Current:
      return value_in(values_, kind->id, nsid, cdw11);
    case Select::Default:
    case Select::Saved:  // nothing is saveable: the default is what a reset brings back
      return value_in(defaults_, kind->id, nsid, cdw11);
  }
  return std::unexpected(Status::InvalidField);
}

std::expected<std::uint32_t, Status> Features::value_in(const Values& values, FeatureId id, std::uint32_t nsid,
                                                        std::uint32_t cdw11) const {
  switch (id) {
    case FeatureId::Arbitration:
      return values.arbitration;
    case FeatureId::PowerManagement:
      return values.power_management;
    case FeatureId::TemperatureThreshold:
      if (sensor(cdw11) != 0 || threshold_type(cdw11) > 1) return std::unexpected(Status::InvalidField);
      return threshold_type(cdw11) == 0 ? values.over_temperature : values.under_temperature;
    case FeatureId::ErrorRecovery:
      return values.error_recovery.at(nsid - 1);
    case FeatureId::VolatileWriteCache:
      return values.volatile_write_cache;
    case FeatureId::NumberOfQueues:
      return values.number_of_queues;
    case FeatureId::InterruptCoalescing:
      return values.interrupt_coalescing;
    case FeatureId::InterruptVectorConfig: {
      const std::uint32_t vector = cdw11 & kVectorMask;
      if (vector >= kVectors) return std::unexpected(Status::InvalidField);
      const bool disabled = (values.uncoalesced_vectors >> vector & 1U) != 0;
      return vector | (disabled ? kCoalescingDisable : 0);
    }
    case FeatureId::WriteAtomicity:
      return values.write_atomicity;
    case FeatureId::AsyncEventConfig:
      return values.async_events;
  }
  return std::unexpected(Status::InvalidField);
}

std::expected<std::uint32_t, Status> Features::set(std::uint8_t number, bool save, std::uint32_t nsid,
                                                   std::uint32_t cdw11, bool queues_exist) {
  const auto kind = kind_of(number);
  if (!kind) return std::unexpected(Status::InvalidField);
  if (save) return std::unexpected(Status::FeatureNotSaveable);
  const bool per_namespace = (kind->capabilities & kPerNamespace) != 0;
  if (!per_namespace && nsid != 0 && nsid != kBroadcastNamespace) {
    return std::unexpected(nsid > values_.error_recovery.size() ? Status::InvalidNamespace
                                                                : Status::FeatureNotNamespaceSpecific);
  }
  Status status = Status::Success;
  switch (kind->id) {
    case FeatureId::Arbitration:
      values_.arbitration = cdw11 & kArbitrationMask;
      break;
    case FeatureId::PowerManagement:
      if ((cdw11 & kPowerStateMask) != 0) return std::unexpected(Status::InvalidField);
      values_.power_management = cdw11 & kPowerMask;
      break;
    case FeatureId::TemperatureThreshold:
      status = set_temperature(cdw11);
      break;
    case FeatureId::ErrorRecovery:
      status = set_error_recovery(nsid, cdw11);
      break;
    case FeatureId::VolatileWriteCache:
      values_.volatile_write_cache = cdw11 & 1U;
      break;
    case FeatureId::NumberOfQueues:
      return set_number_of_queues(cdw11, queues_exist);
    case FeatureId::InterruptCoalescing:
      values_.interrupt_coalescing = cdw11 & kCoalescingMask;
      break;
    case FeatureId::InterruptVectorConfig:
      status = set_vector_config(cdw11);
      break;
    case FeatureId::WriteAtomicity:
      values_.write_atomicity = cdw11 & 1U;
      break;
    case FeatureId::AsyncEventConfig:
      values_.async_events = cdw11 & kAsyncEventMask;
      break;
  }
  if (status != Status::Success) return std::unexpected(status);
  return 0;
}

Status Features::set_temperature(std::uint32_t cdw11) {
  if ((sensor(cdw11) != 0 && sensor(cdw11) != kAllSensors) || threshold_type(cdw11) > 1) return Status::InvalidField;
  auto& threshold = threshold_type(cdw11) == 0 ? values_.over_temperature : values_.under_temperature;
  threshold = static_cast<std::uint16_t>(cdw11 & 0xffffU);
  return Status::Success;
}

Status Features::set_error_recovery(std::uint32_t nsid, std::uint32_t cdw11) {
  if ((cdw11 & kDeallocatedError) != 0) return Status::InvalidField;
  const std::uint32_t value = cdw11 & kErrorRecoveryMask;
  if (nsid == kBroadcastNamespace) {
    std::ranges::fill(values_.error_recovery, value);
    return Status::Success;
  }
  if (nsid == 0 || nsid > values_.error_recovery.size()) return Status::InvalidNamespace;
  values_.error_recovery[nsid - 1] = value;
  return Status::Success;
}

// The number may not change while queues exist (5.21.1.7).
std::expected<std::uint32_t, Status> Features::set_number_of_queues(std::uint32_t cdw11, bool queues_exist) {
  const std::uint32_t sqs = cdw11 & 0xffffU;
  const std::uint32_t cqs = cdw11 >> 16;
  if (sqs == kNoQueues || cqs == kNoQueues) return std::unexpected(Status::InvalidField);
  if (queues_exist) return std::unexpected(Status::CommandSequenceError);
  const auto most = static_cast<std::uint32_t>(io_queue_pairs_ - 1);
  values_.number_of_queues = std::min(cqs, most) << 16 | std::min(sqs, most);
  return values_.number_of_queues;
}

Status Features::set_vector_config(std::uint32_t cdw11) {
  const std::uint32_t vector = cdw11 & kVectorMask;
  if (vector >= kVectors) return Status::InvalidField;
  const std::uint32_t bit = 1U << vector;
  if ((cdw11 & kCoalescingDisable) != 0) {
    values_.uncoalesced_vectors |= bit;
  } else {
    values_.uncoalesced_vectors &= ~bit;
  }
  return Status::Success;
}

bool Features::restore(const Values& values) {
  const auto most = static_cast<std::uint32_t>(io_queue_pairs_ - 1);
  const bool good = (values.arbitration & ~kArbitrationMask) == 0 && (values.power_management & ~0xe0U) == 0 &&
                    values.error_recovery.size() == defaults_.error_recovery.size() &&
                    std::ranges::all_of(values.error_recovery, [](std::uint32_t v) { return v <= 0xffff; }) &&
                    values.volatile_write_cache <= 1 && (values.number_of_queues & 0xffffU) <= most &&
                    values.number_of_queues >> 16 <= most && (values.interrupt_coalescing & ~kCoalescingMask) == 0 &&
                    values.uncoalesced_vectors < 1U << kVectors && values.write_atomicity <= 1 &&
                    (values.async_events & ~kAsyncEventMask) == 0;
  if (good) values_ = values;
  return good;
}

}  // namespace gangway::nvme
