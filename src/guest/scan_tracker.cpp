#include "guest/scan_tracker.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <vector>

namespace gangway::guest {
namespace {

// Linux include/uapi/linux/fs.h, since 6.7.
struct PageRegion {
  std::uint64_t start;
  std::uint64_t end;
  std::uint64_t categories;
};
struct PageScan {
  std::uint64_t size;
  std::uint64_t flags;
  std::uint64_t start;
  std::uint64_t end;
  std::uint64_t walk_end;
  std::uint64_t regions;
  std::uint64_t regions_length;
  std::uint64_t max_pages;
  std::uint64_t category_inverted;
  std::uint64_t category_mask;
  std::uint64_t category_anyof_mask;
  std::uint64_t return_mask;
};
constexpr unsigned long kPagemapScan = _IOWR('f', 16, PageScan);
constexpr std::uint64_t kProtectMatching = 1;    // PM_SCAN_WP_MATCHING
constexpr std::uint64_t kCheckAsynchronous = 2;  // PM_SCAN_CHECK_WPASYNC
constexpr std::uint64_t kWritten = 1U << 1;      // PAGE_IS_WRITTEN
constexpr std::size_t kRegionsAtOnce = 1024;

void set_bits(std::span<std::uint64_t> bitmap, std::uint64_t first, std::uint64_t end) {
  for (std::uint64_t page = first; page < end;) {
    const std::uint64_t bit = page % 64;
    const std::uint64_t count = std::min<std::uint64_t>(64 - bit, end - page);
    const std::uint64_t ones = count == 64 ? ~0ULL : (1ULL << count) - 1;
    bitmap[page / 64] |= ones << bit;
    page += count;
  }
}

// Sets the bits of the pages of `memory` written since they were protected, and protects them again. The kernel does
// both for a page in one step under its page table lock, so no write falls between.
Result<void> scan(const Fd& pagemap, std::span<std::byte> memory, std::span<std::uint64_t> bitmap) {
  const auto base = reinterpret_cast<std::uintptr_t>(memory.data());
  std::array<PageRegion, kRegionsAtOnce> regions;
  std::uint64_t from = base;
  while (from < base + memory.size()) {
    PageScan request{.size = sizeof(PageScan),
                     .flags = kProtectMatching | kCheckAsynchronous,
                     .start = from,
                     .end = base + memory.size(),
                     .walk_end = 0,
                     .regions = reinterpret_cast<std::uintptr_t>(regions.data()),
                     .regions_length = regions.size(),
                     .max_pages = 0,
                     .category_inverted = 0,
                     .category_mask = kWritten,
                     .category_anyof_mask = 0,
                     .return_mask = kWritten};
    const int found = ::ioctl(pagemap.get(), kPagemapScan, &request);
    if (found < 0) return fail_errno("scan for written pages");
    for (int n = 0; n < found; ++n) {
      const PageRegion& region = regions[static_cast<std::size_t>(n)];
      set_bits(bitmap, (region.start - base) / kPageSize, (region.end - base) / kPageSize);
    }
    if (request.walk_end <= from) return fail(EIO, "scan for written pages: the kernel made no progress");
    from = request.walk_end;
  }
  return {};
}

// Pages of its own: one written, one written and then dropped from the page tables (as memory pressure does), one
// untouched. A kernel that forgets the second would lose pages.
Result<void> try_out(const Fd& pagemap) {
  constexpr std::size_t kPages = 3;
  const Fd file(::memfd_create("gangway-trial", MFD_CLOEXEC));
  if (!file || ::ftruncate(file.get(), kPages * kPageSize) != 0) return fail_errno("make pages for a trial");
  auto mapping = Mapping::map(file.get(), 0, kPages * kPageSize);
  if (!mapping) return std::unexpected(mapping.error());
  const auto memory = mapping->bytes();
  auto protection = Userfaultfd::open(Userfaultfd::Mode::Asynchronous);
  if (!protection) return std::unexpected(protection.error());
  if (auto watched = protection->watch(memory); !watched) return watched;
  if (auto armed = protection->protect(memory, true); !armed) return armed;
  memory[0] = memory[kPageSize] = std::byte{1};
  if (::madvise(memory.data() + kPageSize, kPageSize, MADV_DONTNEED) != 0) return fail_errno("drop a page");
  std::array<std::uint64_t, 1> found{};
  if (auto scanned = scan(pagemap, memory, found); !scanned) return scanned;
  if (found[0] != 0b011) return fail(ENOTSUP, "this kernel's scan for written pages misses some");
  return {};
}

}  // namespace

Result<std::unique_ptr<migrate::DirtyTracker>> ScanTracker::create(GuestMemory& memory) {
  Fd pagemap(::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
  if (!pagemap) return fail_errno("open /proc/self/pagemap");
  if (auto works = try_out(pagemap); !works) return fail(ENOTSUP, works.error().message);
  return std::unique_ptr<migrate::DirtyTracker>(new ScanTracker(memory, std::move(pagemap)));
}

ScanTracker::~ScanTracker() = default;

Result<void> ScanTracker::start() {
  auto protection = Userfaultfd::open(Userfaultfd::Mode::Asynchronous);
  if (!protection) return std::unexpected(protection.error());
  for (const GuestMemory::Block& block : memory_.blocks()) {
    if (auto watched = protection->watch(block.cpus.bytes()); !watched) return watched;
    if (auto armed = protection->protect(block.cpus.bytes(), true); !armed) return armed;
  }
  protection_ = std::move(*protection);
  return {};
}

Result<void> ScanTracker::collect(std::size_t block, std::span<std::uint64_t> bitmap) {
  const auto memory = memory_.blocks()[block].cpus.bytes();
  if (bitmap.size() < (memory.size() / kPageSize + 63) / 64)
    return fail(EINVAL, "the bitmap is shorter than the block");
  return scan(pagemap_, memory, bitmap);
}

Result<void> ScanTracker::stop() {
  // Closing it lifts the protection from all that it watched.
  protection_.reset();
  return {};
}

}  // namespace gangway::guest
