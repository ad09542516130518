// A device's saved state: typed sections in a self-describing, checksummed frame.
//
// An author puts named sections in and takes them out by name; the frame makes a truncated, extended, bit-flipped,
// reordered or foreign stream impossible to load (DAT-VALIDATE), carries the identity in front (DAT-IDENTITY), and does
// not depend on how it is cut into reads and writes (DAT-STREAM). The layout is written down in docs/state-stream.md.
//
// Thread-safety: one thread at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <gangway/error.h>

namespace gangway {

// Who may load a stream. `model_version` grows with every change of what is saved; a device loads streams whose
// model_version is at most its own, and newer ones whose `compatible_with` is at most its own.
struct StateIdentity {
  std::string device_type;  // "nvme"
  std::uint32_t model_version = 1;
  std::uint32_t compatible_with = 1;  // the oldest model_version that can load this
};

// Memory of the device (a frame buffer, a cache) that the engine saves and loads by itself, from and to where it lies.
// The owner keeps it alive and at its place as long as the device lives.
struct StateMemory {
  std::string name;  // unique within the device
  std::span<std::byte> bytes;
};

// What Migratable::save fills.
class StateWriter {
 public:
  // A structured section; `bytes` is copied. Names are unique within a stream, 1..64 bytes; sections keep their order.
  void section(std::string_view name, std::span<const std::byte> bytes);
  void section(std::string_view name, std::string_view bytes);

  struct Section {
    std::string name;
    std::vector<std::byte> bytes;
  };
  [[nodiscard]] const std::vector<Section>& sections() const { return sections_; }

 private:
  std::vector<Section> sections_;
};

// What Migratable::load reads: the sections of a stream that was complete and intact.
class StateReader {
 public:
  explicit StateReader(std::uint32_t model_version) : model_version_(model_version) {}
  void add(std::string name, std::vector<std::byte> bytes);

  // The saving device's model_version: what to expect in the sections.
  [[nodiscard]] std::uint32_t model_version() const { return model_version_; }

  // ENODATA, naming the section, when the stream has none of that name.
  [[nodiscard]] Result<std::span<const std::byte>> section(std::string_view name) const;
  [[nodiscard]] bool has(std::string_view name) const;

 private:
  std::uint32_t model_version_;
  std::map<std::string, std::vector<std::byte>, std::less<>> sections_;
};

}  // namespace gangway
