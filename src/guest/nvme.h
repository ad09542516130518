// The part of NVM Express that the driver speaks: registers, commands, completions, as they lie in memory.
// Source: NVM Express Base Specification 1.4, sections 3.1 (registers), 4.2 and 4.6 (entries), 5 and 6 (commands).
#pragma once

#include <cstdint>

namespace gangway::guest::nvme {

inline constexpr std::uint32_t kPciClass = 0x010802;  // mass storage, NVM, NVM Express I/O controller

// Controller registers in BAR 0, byte offsets.
inline constexpr std::uint64_t kCap = 0x00;
inline constexpr std::uint64_t kCc = 0x14;
inline constexpr std::uint64_t kCsts = 0x1c;
inline constexpr std::uint64_t kAqa = 0x24;
inline constexpr std::uint64_t kAsq = 0x28;
inline constexpr std::uint64_t kAcq = 0x30;
inline constexpr std::uint64_t kDoorbells = 0x1000;

inline constexpr std::uint32_t kCcEnable = 1U << 0;
inline constexpr std::uint32_t kCcEntrySizes = 6U << 16 | 4U << 20;  // IOSQES 64 bytes, IOCQES 16 bytes
inline constexpr std::uint32_t kCstsReady = 1U << 0;
inline constexpr std::uint32_t kCstsFatal = 1U << 1;

enum class AdminOpcode : std::uint8_t {
  CreateSubmission = 0x01,
  CreateCompletion = 0x05,
  Identify = 0x06,
  SetFeatures = 0x09
};
enum class IoOpcode : std::uint8_t { Flush = 0x00, Write = 0x01, Read = 0x02 };

inline constexpr std::uint32_t kIdentifyNamespace = 0;
inline constexpr std::uint32_t kIdentifyController = 1;
inline constexpr std::uint32_t kFeatureQueues = 0x07;
inline constexpr std::uint32_t kForceUnitAccess = 1U << 30;  // in dword 12 of a write

struct Command {
  std::uint8_t opcode = 0;
  std::uint8_t flags = 0;  // 0: PRPs
  std::uint16_t id = 0;
  std::uint32_t namespace_id = 0;
  std::uint64_t reserved = 0;
  std::uint64_t metadata = 0;
  std::uint64_t prp1 = 0;
  std::uint64_t prp2 = 0;
  std::uint32_t dword10 = 0;
  std::uint32_t dword11 = 0;
  std::uint32_t dword12 = 0;
  std::uint32_t dword13 = 0;
  std::uint32_t dword14 = 0;
  std::uint32_t dword15 = 0;
};
static_assert(sizeof(Command) == 64);

struct Completion {
  std::uint32_t result = 0;
  std::uint32_t reserved = 0;
  std::uint16_t submission_head = 0;
  std::uint16_t submission_queue = 0;
  std::uint32_t id_and_status = 0;  // command identifier, phase tag (bit 16), status (bits 17..31)

  [[nodiscard]] std::uint16_t id() const { return static_cast<std::uint16_t>(id_and_status); }
  [[nodiscard]] std::uint32_t phase() const { return id_and_status >> 16 & 1U; }
  [[nodiscard]] std::uint16_t status() const { return static_cast<std::uint16_t>(id_and_status >> 17 & 0x7ffU); }
};
static_assert(sizeof(Completion) == 16);

}  // namespace gangway::guest::nvme
