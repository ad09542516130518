// Which parts of a device's memory a save has still to send.
//
// First all of it, each memory in ascending order; then, for a device that tracks what it dirties, what changed since.
// The load side relies on that order: a section starts nowhere beyond what earlier ones covered.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <span>

#include <gangway/device.h>

namespace gangway {

class SaveMemory {
 public:
  // `memories` outlives this.
  SaveMemory(Migratable& device, std::span<const StateMemory> memories) : device_(device), memories_(memories) {}

  // The device runs from here on (PRE_COPY): what it writes is sent again.
  void track_dirty();
  void stop_tracking();
  // All memory is to be sent as in a first round; nothing counts as dirty that it is going to send.
  void begin_again();

  struct Part {
    std::size_t memory;
    std::uint64_t offset;
    std::uint64_t size;
    bool initial;  // of the first round
  };
  // The next part, at most `max` bytes.
  [[nodiscard]] std::optional<Part> next(std::uint64_t max);

  // What is left, with each section's framing, if sent in sections of `max` bytes.
  [[nodiscard]] std::uint64_t initial_bytes_left(std::uint64_t max) const;
  [[nodiscard]] std::uint64_t dirty_bytes_left(std::uint64_t max) const;
  // The same, but 0 exactly when next() would find nothing dirty, however roughly the device counts (PRE-INFO-EMPTY).
  [[nodiscard]] std::uint64_t count_dirty_bytes(std::uint64_t max);

 private:
  void collect_dirty();
  [[nodiscard]] std::uint64_t framed(std::size_t memory, std::uint64_t bytes, std::uint64_t max) const;

  Migratable& device_;
  std::span<const StateMemory> memories_;
  std::size_t memory_ = 0;  // the first round is here
  std::uint64_t offset_ = 0;
  bool tracking_ = false;
  struct Dirty {
    std::size_t memory;
    std::uint64_t offset;
    std::uint64_t size;
  };
  std::deque<Dirty> dirty_;
};

}  // namespace gangway
