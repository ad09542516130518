// NVMe status codes: what a completion says about its command.
// Source: NVM Express 1.4, 4.6.1 (status field), figures 127 to 133.
#pragma once

#include <cstdint>

namespace gangway::nvme {

// Status code type in bits 10:8, status code in bits 7:0.
enum class Status : std::uint16_t {
  Success = 0x000,
  InvalidOpcode = 0x001,
  InvalidField = 0x002,
  DataTransferError = 0x004,
  InternalError = 0x006,
  AbortRequested = 0x007,
  InvalidNamespace = 0x00b,
  CommandSequenceError = 0x00c,
  InvalidPrpOffset = 0x013,
  NamespaceWriteProtected = 0x020,
  LbaOutOfRange = 0x080,
  CapacityExceeded = 0x081,
  CompletionQueueInvalid = 0x100,
  InvalidQueueId = 0x101,
  InvalidQueueSize = 0x102,
  AsyncEventLimitExceeded = 0x105,
  InvalidInterruptVector = 0x108,
  InvalidLogPage = 0x109,
  InvalidQueueDeletion = 0x10c,
  FeatureNotSaveable = 0x10d,
  FeatureNotChangeable = 0x10e,
  FeatureNotNamespaceSpecific = 0x10f,
  WriteFault = 0x280,
  UnrecoveredReadError = 0x281,
  CompareFailure = 0x285,
};

inline constexpr std::uint16_t kStatusMore = 0x2000;        // the error log tells more
inline constexpr std::uint16_t kStatusDoNotRetry = 0x4000;  // the same command would fail again

// Worth an entry in the error log: the fault lies with the controller, the medium or the host's memory, not with the
// command's fields.
[[nodiscard]] constexpr bool is_logged(Status status) {
  return status == Status::DataTransferError || status == Status::InternalError || status == Status::CapacityExceeded ||
         status == Status::WriteFault || status == Status::UnrecoveredReadError;
}

[[nodiscard]] constexpr bool may_be_retried(Status status) {
  return status == Status::Success || status == Status::AbortRequested || status == Status::DataTransferError ||
         status == Status::InternalError || status == Status::WriteFault || status == Status::UnrecoveredReadError;
}

// Bits 15:1 of the last word of a completion, shifted down by the phase bit.
[[nodiscard]] constexpr std::uint16_t status_field(Status status) {
  auto field = static_cast<std::uint16_t>(status);
  if (is_logged(status)) field |= kStatusMore;
  if (!may_be_retried(status)) field |= kStatusDoNotRetry;
  return field;
}

// What a command ends with.
struct Outcome {
  Status status = Status::Success;
  std::uint32_t result = 0;  // dword 0 of the completion
};

}  // namespace gangway::nvme
