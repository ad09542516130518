// The layout of a state stream: preamble, section heads, limits. docs/state-stream.md says it in words.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace gangway::frame {

static_assert(std::endian::native == std::endian::little, "the structures below are the layout on the wire");

inline constexpr std::array<char, 8> kMagic{'G', 'W', 'S', 'T', 'A', 'T', 'E', '\n'};
inline constexpr std::uint32_t kFormatRevision = 1;

// Followed by `type_length` bytes of device type, then a checksum.
struct PreambleHead {
  std::array<char, 8> magic;
  std::uint32_t format_revision;
  std::uint32_t model_version;
  std::uint32_t compatible_with;
  std::uint32_t type_length;
};
static_assert(sizeof(PreambleHead) == 24);

enum class Kind : std::uint32_t { Structured = 1, Memory = 2, End = 3 };

// Followed by `name_length` bytes of name, `length` bytes of payload, then a checksum.
struct SectionHead {
  Kind kind;
  std::uint32_t name_length;
  std::uint64_t sequence;  // 0, 1, 2, ... over all sections
  std::uint64_t offset;    // memory: of the payload's first byte; else 0
  std::uint64_t length;    // bytes of payload
};
static_assert(sizeof(SectionHead) == 32);

// Payload of the end section.
struct Totals {
  std::uint64_t sections;  // before the end section
  std::uint64_t structured_bytes;
  std::uint64_t memory_bytes;
  friend bool operator==(const Totals&, const Totals&) = default;
};
static_assert(sizeof(Totals) == 24);

inline constexpr std::size_t kChecksumSize = 8;
inline constexpr std::size_t kMaxName = 64;  // of a section, of a memory, of a device type
inline constexpr std::uint64_t kMaxStructuredBytes = 64ULL << 20;
inline constexpr std::uint64_t kMaxStructuredSections = 4096;

// Sections that the engine itself writes; no device's section may begin like this.
inline constexpr std::string_view kOwnPrefix = "gangway.";
inline constexpr std::string_view kMemoryList = "gangway.memory";
inline constexpr std::string_view kInterrupts = "gangway.interrupts";

// Bytes that a section takes with a name and a payload of these lengths.
[[nodiscard]] constexpr std::uint64_t section_size(std::size_t name_length, std::uint64_t payload_length) {
  return sizeof(SectionHead) + name_length + payload_length + kChecksumSize;
}

// 1..64 bytes.
[[nodiscard]] constexpr bool valid_name(std::string_view name) { return !name.empty() && name.size() <= kMaxName; }

}  // namespace gangway::frame
