// The messages between the two ends of a migration, and what bounds them. Layout: docs/migration.md.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace gangway::migrate {

// Grows with every change of the protocol; peers of different revisions refuse each other.
inline constexpr std::uint32_t kRevision = 1;

inline constexpr std::array<char, 8> kMagic{'g', 'w', 'm', 'i', 'g', 'r', 'a', '\n'};

// The first bytes in both directions on every connection. The first 16 bytes keep their form in every revision.
struct Hello {
  std::array<char, 8> magic = kMagic;
  std::uint32_t revision = kRevision;
  std::uint32_t size = 40;                   // of the whole hello, bytes
  std::array<std::uint64_t, 2> migration{};  // drawn by the source; ties the connections of a migration together
  std::uint32_t channel = 0;                 // this connection's number; 0 carries everything but the other's memory
  std::uint32_t channels = 1;
};
static_assert(sizeof(Hello) == 40);

enum class MessageType : std::uint16_t {
  Setup = 1,     // source: memory layout, devices, options
  SetupDone,     // destination: all of it fits
  DeviceConfig,  // source: a device's config space
  DeviceData,    // source: migration data of a device
  Pages,         // source: runs of pages; the data of those that are not zero follows
  RoundEnd,      // source, on every channel: all pages of a round were sent here
  RoundDone,     // destination: all pages of a round are in place
  Cpus,          // source: what save_cpus() gave
  Last,          // source: everything was sent; with totals
  Prepared,      // destination: everything was loaded and checked
  Commit,        // source: run
  Running,       // destination: it runs
  Failed,        // either: given up, and why
  Alive,         // either: a step takes its time
};

struct MessageHeader {
  MessageType type{};
  std::uint16_t flags = 0;     // none yet; 0
  std::uint32_t length = 0;    // of the payload, bytes
  std::uint64_t checksum = 0;  // XXH3-64 of the payload, seeded with that of the header with this field 0
};
static_assert(sizeof(MessageHeader) == 16);

inline constexpr std::uint32_t kDeviceHeadBytes = 4;         // in front of a device's bytes: its index
inline constexpr std::uint32_t kMaxConfigSpace = 4096;       // bytes
inline constexpr std::uint32_t kDeviceDataBytes = 1U << 20;  // of one DeviceData message
inline constexpr std::uint32_t kMaxCpuState = 16U << 20;     // bytes
inline constexpr std::uint32_t kMaxSetup = 64U << 10;        // bytes
inline constexpr std::uint32_t kMaxFailure = 4096;           // bytes

// LAST's payload: what the source sent, to be compared.
struct LastTotals {
  std::uint64_t memory_bytes = 0;  // page data
  std::uint64_t device_bytes = 0;
};

// The longest payload of a type; nullopt for a number that is no type.
[[nodiscard]] std::optional<std::uint32_t> longest_payload(MessageType type);
[[nodiscard]] std::string_view name(MessageType type);

}  // namespace gangway::migrate
