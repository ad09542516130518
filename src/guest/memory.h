// The guest's RAM: memfd blocks at fixed guest-physical addresses, which are also their IOVAs.
//
// Every block is mapped twice. The CPUs (the workload's threads) use one view, migration the other, so that the page
// tables which the write-protect scan looks at hold the CPUs' writes and nothing else.
//
// Blocks: ram0 starts at 2 MiB, ram1 at 4 GiB, as on a PC whose RAM is split by a hole; the names and places depend
// on the size alone, so both sides of a migration agree.
//
// Thread-safety: constant after create(), except note_write, record_writes and take_writes, which are safe from any
// thread.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include <gangway/device_handle.h>
#include <gangway/error.h>
#include <gangway/fd.h>
#include <gangway/types.h>

#include "guest/mapping.h"

namespace gangway::guest {

inline constexpr std::uint64_t kPageSize = 4096;

class GuestMemory {
 public:
  static constexpr std::uint64_t kGranule = 2U << 20;  // sizes are multiples of it
  static constexpr std::uint64_t kSmallest = 2 * kGranule;

  struct Options {
    std::uint64_t size = 256U << 20;  // bytes, rounded up to kGranule
    bool huge_pages = false;          // from the kernel's pool of 2 MiB pages
  };
  // EINVAL below kSmallest; ENOMEM when the kernel has no (huge) pages left.
  static Result<std::unique_ptr<GuestMemory>> create(const Options& options);

  struct Block {
    std::string name;
    IovaRange range;
    Fd file;
    Mapping cpus;
    Mapping migration;
    std::vector<std::atomic<std::uint64_t>> written;  // bit n: page n; used while writes are recorded
  };
  [[nodiscard]] const std::vector<Block>& blocks() const { return blocks_; }
  [[nodiscard]] std::uint64_t size() const { return size_; }
  [[nodiscard]] bool huge_pages() const { return huge_pages_; }

  // The CPUs' view of [iova, iova + size); empty when it does not lie within one block.
  [[nodiscard]] std::span<std::byte> at(Iova iova, std::uint64_t size) const;

  // One object in the CPUs' view; nullptr when it does not lie within one block or is misaligned.
  template <class T>
  [[nodiscard]] T* object(Iova iova) const {
    const auto bytes = at(iova, sizeof(T));
    if (bytes.empty() || iova.value % alignof(T) != 0) return nullptr;
    return reinterpret_cast<T*>(bytes.data());
  }
  // `count` objects in a row; empty likewise.
  template <class T>
  [[nodiscard]] std::span<T> objects(Iova iova, std::uint64_t count) const {
    if (count > size_ / sizeof(T)) return {};
    const auto bytes = at(iova, count * sizeof(T));
    if (bytes.empty() || iova.value % alignof(T) != 0) return {};
    return {reinterpret_cast<T*>(bytes.data()), static_cast<std::size_t>(count)};
  }

  // Lets a device reach all blocks.
  Result<void> map_into(DeviceHandle& device) const;

  // --- for tracking written pages by the writers themselves, where the kernel cannot (DirtyTracker "workload") ---

  // After every write to the CPUs' view. Costs a load while writes are not recorded.
  void note_write(const void* start, std::size_t size) {
    if (recording_.load()) record(static_cast<const std::byte*>(start), size);
  }
  template <class T>
  void note_write(const T& object) {
    note_write(&object, sizeof(T));
  }
  void record_writes(bool on);
  // Moves the pages written in block number `block` out into `bitmap`, by OR.
  void take_writes(std::size_t block, std::span<std::uint64_t> bitmap);

 private:
  GuestMemory() = default;
  void record(const std::byte* start, std::size_t size);

  std::vector<Block> blocks_;
  std::uint64_t size_ = 0;
  bool huge_pages_ = false;
  std::atomic<bool> recording_{false};
};

}  // namespace gangway::guest
