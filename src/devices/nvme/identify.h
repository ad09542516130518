// What the controller and its namespaces say they are.
// Source: NVM Express 1.4, 5.15.
//
// Thread-safety: pure functions.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <span>
#include <string>

#include "devices/nvme/namespace.h"
#include "devices/nvme/status.h"

namespace gangway::nvme {

inline constexpr std::size_t kIdentifySize = 4096;
inline constexpr std::uint8_t kMaxTransferShift = 7;  // MDTS: 2^7 pages of 4 KiB
inline constexpr std::uint32_t kMaxTransfer = 4096U << kMaxTransferShift;

inline constexpr std::size_t kSerialLength = 20;
inline constexpr std::size_t kModelLength = 40;

// Who the controller is; the same before and after a migration.
struct ControllerIdentity {
  std::string serial;  // at most kSerialLength printable ASCII characters
  std::string model;   // at most kModelLength
};

using IdentifyData = std::array<std::byte, kIdentifySize>;

// The data structure of a CNS value. InvalidField for one that is not offered, InvalidNamespace for a namespace that
// cannot be.
std::expected<IdentifyData, Status> identify(std::uint8_t cns, std::uint32_t nsid, const ControllerIdentity& identity,
                                             std::span<const Namespace> namespaces);

}  // namespace gangway::nvme
