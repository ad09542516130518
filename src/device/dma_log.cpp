#include <gangway/dma_log.h>

#include <algorithm>
#include <bit>
#include <thread>
#include <utility>

#include <fmt/format.h>

#include "device/dma_log_tracked.h"

namespace gangway {
namespace {

// Coarser pages would make a report say more than what was written.
constexpr std::uint64_t kMaxPageSize = std::uint64_t{1} << 30;

constexpr bool is_page_size(std::uint64_t size) { return std::has_single_bit(size) && size >= DmaLog::kMinPageSize; }

// The hint if it can be followed (LOG-START).
constexpr std::uint64_t choose_page_size(std::uint64_t hint) {
  return is_page_size(hint) ? std::min(hint, kMaxPageSize) : DmaLog::kMinPageSize;
}

std::string describe(const IovaRange& range) {
  return fmt::format("range of {:#x} bytes at {:#x}", range.size, range.start.value);
}

// As Linux has it, a range that ends at 2^64 wraps.
bool end_wraps(const IovaRange& range) { return range.start.value + range.size < range.start.value; }

Result<std::vector<IovaRange>> check_ranges(std::span<const IovaRange> ranges, std::uint64_t alignment) {
  if (ranges.empty()) return fail(EINVAL, "DMA logging: start without a range", "LOG-START");
  if (ranges.size() > DmaLog::kMaxRanges) {
    return fail(E2BIG, fmt::format("DMA logging: start with {} ranges, at most {}", ranges.size(), DmaLog::kMaxRanges),
                "LOG-START");
  }
  std::vector<IovaRange> sorted(ranges.begin(), ranges.end());
  std::ranges::sort(sorted, {}, &IovaRange::start);
  for (const IovaRange& range : sorted) {
    if (range.size == 0 || (range.start.value | range.size) % alignment != 0) {
      return fail(EINVAL, fmt::format("DMA logging: {} is empty or not aligned to {:#x}", describe(range), alignment),
                  "LOG-START");
    }
    if (end_wraps(range)) {
      return fail(EOVERFLOW, fmt::format("DMA logging: {} wraps", describe(range)), "LOG-START");
    }
  }
  for (std::size_t i = 1; i < sorted.size(); ++i) {
    if (sorted[i].start <= sorted[i - 1].last()) {
      return fail(EINVAL, fmt::format("DMA logging: {} overlaps the {}", describe(sorted[i]), describe(sorted[i - 1])),
                  "LOG-START");
    }
  }
  return sorted;
}

}  // namespace

DmaLog::DmaLog() = default;
DmaLog::~DmaLog() = default;

Result<std::uint64_t> DmaLog::start(std::span<const IovaRange> ranges, std::uint64_t page_size_hint) {
  // Linux checks the alignment against the hint itself; one that is no page size asks for nothing.
  const std::uint64_t alignment = is_page_size(page_size_hint) ? page_size_hint : kMinPageSize;
  auto checked = check_ranges(ranges, alignment);
  if (!checked) return std::unexpected(std::move(checked.error()));
  return start_tracking(*checked, choose_page_size(page_size_hint), false);
}

Result<std::uint64_t> DmaLog::start_all(std::uint64_t page_size_hint) {
  return start_tracking({}, choose_page_size(page_size_hint), true);
}

Result<std::uint64_t> DmaLog::start_tracking(std::span<const IovaRange> ranges, std::uint64_t page_size,
                                             bool everything) {
  std::scoped_lock lock(mutex_);
  if (started()) return fail(EALREADY, "DMA logging: started already; stop it first", "LOG-START");
  if (!tracked_) {
    auto created = Tracked::create();
    if (!created) return fail_within("DMA logging", std::move(created.error()));
    tracked_ = std::move(*created);
  }
  if (auto started = tracked_->start(ranges, page_size, everything); !started) {
    return fail_within("DMA logging", std::move(started.error()));
  }
  started_.store(true, std::memory_order_release);
  return page_size;
}

Result<void> DmaLog::stop() {
  std::scoped_lock lock(mutex_);
  if (!started()) return fail(EINVAL, "DMA logging: stop without a start");
  started_.store(false, std::memory_order_release);
  tracked_->stop();
  return {};
}

Result<DirtyReport> DmaLog::report(IovaRange range, std::uint64_t page_size, std::size_t max_bytes) {
  std::scoped_lock lock(mutex_);
  if (!started()) return fail(EINVAL, "DMA logging: report without a start", "LOG-REPORT");
  if (!is_page_size(page_size)) {
    return fail(EINVAL, fmt::format("DMA logging: page size {:#x} is no power of two from 0x1000 on", page_size),
                "LOG-REPORT");
  }
  if (range.size == 0) return fail(EINVAL, "DMA logging: report of an empty range", "LOG-REPORT");
  // With ranges nothing can be logged in the last page, and Linux refuses to be asked for it.
  if (tracked_->everything() ? !range.valid() : end_wraps(range)) {
    return fail(EOVERFLOW, fmt::format("DMA logging: {} wraps", describe(range)), "LOG-REPORT");
  }
  const std::uint64_t words = ((range.size - 1) / page_size) / 64 + 1;
  if (words > max_bytes / sizeof(std::uint64_t)) {
    return fail(E2BIG,
                fmt::format("DMA logging: the bitmap of the {} in pages of {:#x} has {} bytes, at most {}",
                            describe(range), page_size, words * sizeof(std::uint64_t), max_bytes),
                "LOG-REPORT");
  }
  wait_for_open_sections();
  return tracked_->report(range, page_size);
}

// Whoever reads the same turn after it is counted came before the next report, which then sees the count; whoever does
// not has written nothing yet, and enters anew. Both need one order of all these accesses.
std::atomic<std::uint32_t>& DmaLog::enter_section() noexcept {
  for (;;) {
    const std::uint32_t turn = turn_.load(std::memory_order_seq_cst);
    std::atomic<std::uint32_t>& open = open_[turn % open_.size()];
    open.fetch_add(1, std::memory_order_seq_cst);
    if (turn_.load(std::memory_order_seq_cst) == turn) return open;
    open.fetch_sub(1, std::memory_order_release);
  }
}

void DmaLog::wait_for_open_sections() noexcept {
  const std::uint32_t turn = turn_.fetch_add(1, std::memory_order_seq_cst);
  while (open_[turn % open_.size()].load(std::memory_order_seq_cst) != 0) std::this_thread::yield();
}

void DmaLog::mark_started(Iova iova, std::uint64_t length) noexcept { tracked_->mark(iova, length); }

}  // namespace gangway
