// A long stretch of zeroed memory of which only the touched pages cost anything.
//
// Address space is reserved without access and opened from its start as far as it is needed; what was opened stays
// open until the object dies, so a reader or writer who is late never faults.
//
// Thread-safety: words() and opened() from any thread; the rest by one thread at a time.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include <gangway/error.h>

namespace gangway {

class SparseMemory {
 public:
  static Result<SparseMemory> reserve(std::size_t bytes);
  SparseMemory(SparseMemory&& other) noexcept;
  SparseMemory& operator=(SparseMemory&&) = delete;
  ~SparseMemory();

  // Makes the first `bytes` accessible and all of the memory zero. `huge_pages`: few TLB misses, for memory that is
  // going to be filled; never for a sparse one, where each touch would cost 2 MiB.
  Result<void> open_zeroed(std::size_t bytes, bool huge_pages);
  // Gives the touched pages back; they read as zero from here.
  void zero();

  [[nodiscard]] std::uint64_t* words() const { return static_cast<std::uint64_t*>(base_); }
  [[nodiscard]] std::size_t opened_words() const {
    return opened_.load(std::memory_order_relaxed) / sizeof(std::uint64_t);
  }

 private:
  SparseMemory(void* base, std::size_t size) : base_(base), size_(size) {}

  void* base_ = nullptr;
  std::size_t size_ = 0;
  std::atomic<std::size_t> opened_{0};  // bytes; only grows
};

}  // namespace gangway
