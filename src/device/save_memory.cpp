#include "device/save_memory.h"

#include <algorithm>

#include "device/state_frame.h"

namespace gangway {

void SaveMemory::track_dirty() {
  if (!device_.tracks_dirty()) return;
  device_.track_dirty(true);
  (void)device_.take_renewed();  // before there was anything to renew
  tracking_ = true;
}

void SaveMemory::stop_tracking() {
  if (tracking_) device_.track_dirty(false);
  tracking_ = false;
}

// What the device marked so far is forgotten before it is read again, so whatever it writes from here on is not.
void SaveMemory::begin_again() {
  collect_dirty();
  dirty_.clear();
  memory_ = 0;
  offset_ = 0;
}

std::optional<SaveMemory::Part> SaveMemory::next(std::uint64_t max) {
  while (memory_ < memories_.size() && offset_ == memories_[memory_].bytes.size()) {
    ++memory_;
    offset_ = 0;
  }
  if (memory_ < memories_.size()) {
    const Part part{memory_, offset_, std::min<std::uint64_t>(max, memories_[memory_].bytes.size() - offset_), true};
    offset_ += part.size;
    return part;
  }
  if (dirty_.empty()) collect_dirty();
  if (dirty_.empty()) return std::nullopt;
  Dirty& front = dirty_.front();
  const Part part{front.memory, front.offset, std::min(max, front.size), false};
  front.offset += part.size;
  front.size -= part.size;
  if (front.size == 0) dirty_.pop_front();
  return part;
}

// Takes over what the device knows to be dirty.
void SaveMemory::collect_dirty() {
  if (!tracking_) return;
  for (std::size_t i = 0; i < memories_.size(); ++i) {
    const std::uint64_t size = memories_[i].bytes.size();
    for (const Migratable::DirtyRange& range : device_.take_dirty(i)) {
      // A device may round beyond the end.
      const std::uint64_t offset = std::min(range.offset, size);
      const std::uint64_t length = std::min(range.size, size - offset);
      if (length != 0) dirty_.push_back({i, offset, length});
    }
  }
}

std::uint64_t SaveMemory::initial_bytes_left(std::uint64_t max) const {
  std::uint64_t bytes = 0;
  for (std::size_t i = memory_; i < memories_.size(); ++i) {
    bytes += framed(i, memories_[i].bytes.size() - (i == memory_ ? offset_ : 0), max);
  }
  return bytes;
}

std::uint64_t SaveMemory::dirty_bytes_left(std::uint64_t max) const {
  std::uint64_t bytes = tracking_ ? device_.dirty_bytes() : 0;
  for (const Dirty& dirty : dirty_) bytes += framed(dirty.memory, dirty.size, max);
  return bytes;
}

std::uint64_t SaveMemory::count_dirty_bytes(std::uint64_t max) {
  if (dirty_.empty()) collect_dirty();
  return dirty_.empty() ? 0 : dirty_bytes_left(max);
}

std::uint64_t SaveMemory::framed(std::size_t memory, std::uint64_t bytes, std::uint64_t max) const {
  const std::uint64_t sections = bytes / max + (bytes % max != 0 ? 1 : 0);
  return bytes + sections * frame::section_size(memories_[memory].name.size(), 0);
}

}  // namespace gangway
