#include "device/dma_log_memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <utility>

#include <fmt/format.h>

namespace gangway {
namespace {

constexpr std::size_t kGranule = 4096;

constexpr std::size_t round_up(std::size_t bytes) { return (bytes + kGranule - 1) / kGranule * kGranule; }

}  // namespace

Result<SparseMemory> SparseMemory::reserve(std::size_t bytes) {
  // Without access it is not accounted, whatever the overcommit policy of the host.
  const std::size_t size = round_up(bytes);
  void* base = ::mmap(nullptr, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (base == MAP_FAILED) return fail_errno(fmt::format("reserve {} MiB of address space", size >> 20));
  ::madvise(base, size, MADV_DONTDUMP);
  return SparseMemory(base, size);
}

SparseMemory::SparseMemory(SparseMemory&& other) noexcept
    : base_(std::exchange(other.base_, nullptr)), size_(std::exchange(other.size_, 0)), opened_(other.opened_.load()) {}

SparseMemory::~SparseMemory() {
  if (base_ != nullptr) ::munmap(base_, size_);
}

Result<void> SparseMemory::open_zeroed(std::size_t bytes, bool huge_pages) {
  const std::size_t wanted = round_up(bytes);
  if (wanted > size_) {
    return fail(ENOMEM, fmt::format("open {} MiB of a reservation of {} MiB", wanted >> 20, size_ >> 20));
  }
  zero();
  if (wanted > opened_.load(std::memory_order_relaxed)) {
    if (::mprotect(base_, wanted, PROT_READ | PROT_WRITE) != 0) {
      return fail_errno(fmt::format("open {} MiB of address space", wanted >> 20));
    }
    opened_.store(wanted, std::memory_order_relaxed);
  }
  ::madvise(base_, wanted, huge_pages ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
  return {};
}

void SparseMemory::zero() {
  const std::size_t opened = opened_.load(std::memory_order_relaxed);
  if (opened != 0) ::madvise(base_, opened, MADV_DONTNEED);
}

}  // namespace gangway
