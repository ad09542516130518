#include "device/dma_log_tracked.h"

#include <algorithm>
#include <bit>
#include <new>
#include <utility>

namespace gangway {
namespace {

// Up to here huge pages are worth their memory: the bitmap of 8 TiB.
constexpr std::uint64_t kHugePageBits = std::uint64_t{1} << 31;

constexpr std::uint64_t round_up_to_line(std::uint64_t bits) {
  return (bits + DirtyBitmap::kLineBits - 1) / DirtyBitmap::kLineBits * DirtyBitmap::kLineBits;
}

// Bits of the report for bytes [first, last], clipped to the range.
void add_bytes(std::uint64_t first, std::uint64_t last, IovaRange range, std::uint64_t page_size,
               ReportBuilder& builder) {
  first = std::max(first, range.start.value);
  last = std::min(last, range.last().value);
  if (first > last) return;
  builder.add_bits((first - range.start.value) / page_size, (last - range.start.value) / page_size + 1);
}

}  // namespace

Result<std::unique_ptr<DmaLog::Tracked>> DmaLog::Tracked::create() {
  auto space = DirtyBitmap::reserve(kReservedBits);
  if (!space) return std::unexpected(std::move(space.error()));
  return std::unique_ptr<Tracked>(new Tracked(std::move(*space)));
}

Result<void> DmaLog::Tracked::start(std::span<const IovaRange> ranges, std::uint64_t page_size, bool everything) {
  std::uint64_t bits = 0;
  for (const IovaRange& range : ranges) {
    const std::uint64_t pages = range.size / page_size;
    // Ranges beyond any machine's memory: log all there is, and let the reports choose.
    if (everything || pages > kReservedBits - bits) {
      everything = true;
      break;
    }
    bits = std::min(kReservedBits, bits + round_up_to_line(pages));
  }
  if (everything) bits = kDenseEnd / page_size;
  if (auto covered = bitmap_.cover(bits, bits > kHugePageBits); !covered) return covered;

  const IovaRange dense{Iova{0}, kDenseEnd};
  if (everything) ranges = std::span(&dense, 1);
  std::uint64_t first_bit = 0;
  for (std::size_t i = 0; i < ranges.size(); ++i) {
    segments_[i].first_page.store(ranges[i].start.value / page_size, std::memory_order_relaxed);
    segments_[i].end_page.store(ranges[i].last().value / page_size + 1, std::memory_order_relaxed);
    segments_[i].first_bit.store(first_bit, std::memory_order_relaxed);
    first_bit += round_up_to_line(ranges[i].size / page_size);
  }
  segment_count_.store(ranges.size(), std::memory_order_relaxed);
  shift_.store(static_cast<unsigned>(std::countr_zero(page_size)), std::memory_order_relaxed);
  everything_.store(everything, std::memory_order_relaxed);

  std::scoped_lock lock(high_mutex_);
  high_pages_.clear();
  all_high_dirty_ = false;
  return {};
}

void DmaLog::Tracked::stop() {
  segment_count_.store(0, std::memory_order_relaxed);
  everything_.store(false, std::memory_order_relaxed);
  bitmap_.clear();
  std::scoped_lock lock(high_mutex_);
  high_pages_.clear();
}

void DmaLog::Tracked::mark_pages(std::uint64_t first_page, std::uint64_t last_page) noexcept {
  const std::size_t count = segment_count_.load(std::memory_order_relaxed);
  for (std::size_t i = first_segment_ending_after(first_page, count); i < count; ++i) {
    const std::uint64_t segment_first = segments_[i].first_page.load(std::memory_order_relaxed);
    if (segment_first > last_page) break;
    const std::uint64_t end = std::min(last_page + 1, segments_[i].end_page.load(std::memory_order_relaxed));
    const std::uint64_t first = std::max(first_page, segment_first);
    const std::uint64_t bit = segments_[i].first_bit.load(std::memory_order_relaxed) + (first - segment_first);
    if (first < end) bitmap_.set_range(bit, bit + (end - first));
  }
  const std::uint64_t end_of_dense = kDenseEnd >> shift();
  if (last_page >= end_of_dense && everything()) mark_high(std::max(first_page, end_of_dense), last_page);
}

void DmaLog::Tracked::mark_high(std::uint64_t first_page, std::uint64_t last_page) noexcept {
  std::scoped_lock lock(high_mutex_);
  if (all_high_dirty_) return;
  if (last_page - first_page >= kMaxHighPages - high_pages_.size()) {
    all_high_dirty_ = true;
  } else {
    try {
      for (std::uint64_t page = first_page; page <= last_page; ++page) high_pages_.insert(page);
    } catch (const std::bad_alloc&) {
      all_high_dirty_ = true;
    }
  }
  if (all_high_dirty_) high_pages_.clear();
}

DmaLog::Tracked::Pages DmaLog::Tracked::pages(std::size_t segment) const {
  return {segments_[segment].first_page.load(std::memory_order_relaxed),
          segments_[segment].end_page.load(std::memory_order_relaxed),
          segments_[segment].first_bit.load(std::memory_order_relaxed)};
}

DirtyReport DmaLog::Tracked::report(IovaRange range, std::uint64_t page_size) {
  const std::size_t total_words = ((range.size - 1) / page_size) / DirtyBitmap::kWordBits + 1;
  const std::uint64_t log_page_size = std::uint64_t{1} << shift();
  const std::size_t count = segment_count_.load(std::memory_order_relaxed);

  std::uint64_t dirty_lines = 0;
  std::size_t first = first_segment_ending_after(range.start.value >> shift(), count);
  std::size_t end = first;
  for (; end < count && pages(end).first <= range.last().value >> shift(); ++end) {
    const auto [first_bit, end_bit] = bits_within(pages(end), range);
    dirty_lines += bitmap_.dirty_lines(first_bit, end_bit);
  }
  const bool dense = dirty_lines * DirtyBitmap::kLineWords * 8 >= total_words;

  ReportBuilder builder(total_words, dense ? total_words : 0);
  for (; first < end; ++first) {
    const Pages segment = pages(first);
    const std::uint64_t distance = (segment.first << shift()) - range.start.value;  // modulo 2^64
    if (page_size == log_page_size && distance % (page_size * DirtyBitmap::kWordBits) == 0) {
      report_words(segment, range, builder);
    } else {
      report_bits(segment, range, page_size, builder);
    }
  }
  if (everything() && range.last().value >= kDenseEnd) report_high(range, page_size, builder);
  // The client reads the memory next: not before the bits were taken.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  return std::move(builder).finish();
}

std::pair<std::uint64_t, std::uint64_t> DmaLog::Tracked::bits_within(const Pages& pages, IovaRange range) const {
  const std::uint64_t first = std::max(pages.first, range.start.value >> shift());
  const std::uint64_t end = std::min(pages.end, (range.last().value >> shift()) + 1);
  return {pages.first_bit + (first - pages.first), pages.first_bit + (end - pages.first)};
}

void DmaLog::Tracked::report_words(const Pages& pages, IovaRange range, ReportBuilder& builder) {
  // Word w of the segment is word w + distance of the report; the distance is negative when the report begins later.
  const auto distance =
      (static_cast<std::int64_t>(pages.first) - static_cast<std::int64_t>(range.start.value >> shift())) /
      static_cast<std::int64_t>(DirtyBitmap::kWordBits);
  const std::size_t segment_word = pages.first_bit / DirtyBitmap::kWordBits;
  const auto [first_bit, end_bit] = bits_within(pages, range);
  bitmap_.take(first_bit, end_bit, [&](std::size_t first_word, std::span<const std::uint64_t> words) {
    const std::int64_t at = static_cast<std::int64_t>(first_word - segment_word) + distance;
    const auto before = static_cast<std::size_t>(std::max<std::int64_t>(0, -at));  // words outside, all 0
    builder.add_words(static_cast<std::size_t>(at + static_cast<std::int64_t>(before)), words.subspan(before));
  });
}

void DmaLog::Tracked::report_bits(const Pages& pages, IovaRange range, std::uint64_t page_size,
                                  ReportBuilder& builder) {
  const auto [first_bit, end_bit] = bits_within(pages, range);
  bitmap_.take(first_bit, end_bit, [&](std::size_t first_word, std::span<const std::uint64_t> words) {
    for (std::size_t i = 0; i < words.size(); ++i) {
      const std::uint64_t word_bit = (first_word + i) * DirtyBitmap::kWordBits;
      for (std::uint64_t word = words[i]; word != 0;) {
        const int skipped = std::countr_zero(word);
        const int run = std::countr_one(word >> skipped);
        const std::uint64_t page = pages.first + (word_bit - pages.first_bit) + static_cast<std::uint64_t>(skipped);
        const std::uint64_t start = page << shift();
        add_bytes(start, start + ((static_cast<std::uint64_t>(run) << shift()) - 1), range, page_size, builder);
        word &= word + (word & -word);  // without the lowest run
      }
    }
  });
}

void DmaLog::Tracked::report_high(IovaRange range, std::uint64_t page_size, ReportBuilder& builder) {
  std::scoped_lock lock(high_mutex_);
  if (all_high_dirty_) {
    add_bytes(kDenseEnd, kMaxIova, range, page_size, builder);
    return;
  }
  auto page = high_pages_.lower_bound(range.start.value >> shift());
  while (page != high_pages_.end() && *page <= range.last().value >> shift()) {
    const std::uint64_t start = *page << shift();
    add_bytes(start, start + ((std::uint64_t{1} << shift()) - 1), range, page_size, builder);
    page = high_pages_.erase(page);
  }
}

}  // namespace gangway
