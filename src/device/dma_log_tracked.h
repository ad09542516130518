// What a started DMA log tracks: which IOVAs, at which page size, and their dirty bits.
//
// Made once and never replaced while the log lives, so that mark() needs no lock, no reference and no allocation. When
// the log starts anew while a mark from before is still under way, the mark may read a mixture of the old layout and
// the new. It then sets a bit that nobody needs, or none: its bytes were written before START returned, and the client
// counts them as dirty anyway.
//
// Thread-safety: mark() from any thread at any time; the other calls exclude each other by the caller.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <set>
#include <span>

#include <gangway/dma_log.h>

#include "device/dma_log_bitmap.h"
#include "device/dma_log_report.h"

namespace gangway {

class DmaLog::Tracked {
 public:
  // IOVAs that the bitmap covers when every write is logged; what lies above is kept one by one.
  static constexpr std::uint64_t kDenseEnd = std::uint64_t{1} << 52;
  static constexpr std::uint64_t kReservedBits = kDenseEnd / kMinPageSize;
  // More pages than this above kDenseEnd and all of them count as dirty (LOG-ERROR).
  static constexpr std::size_t kMaxHighPages = 65536;

  static Result<std::unique_ptr<Tracked>> create();

  // Ranges are checked, sorted and do not overlap; `everything` ignores them.
  Result<void> start(std::span<const IovaRange> ranges, std::uint64_t page_size, bool everything);
  void stop();

  // Of one page, as most marks are, as few instructions as can be: what marks cost is the wait for a bitmap that is in
  // no near cache, and the shorter they are, the more of these waits overlap.
  void mark(Iova iova, std::uint64_t length) noexcept {
    if (length == 0) return;
    const std::uint64_t last_byte = length - 1 > kMaxIova - iova.value ? kMaxIova : iova.value + (length - 1);
    const unsigned page_shift = shift();  // the same for both
    const std::uint64_t first_page = iova.value >> page_shift;
    const std::uint64_t last_page = last_byte >> page_shift;
    if (first_page == last_page && mark_logged(first_page)) return;
    mark_pages(first_page, last_page);
  }

  [[nodiscard]] DirtyReport report(IovaRange range, std::uint64_t page_size);
  [[nodiscard]] bool everything() const { return everything_.load(std::memory_order_relaxed); }

 private:
  static constexpr std::uint64_t kMaxIova = ~std::uint64_t{0};
  struct Segment {
    std::atomic<std::uint64_t> first_page{0};
    std::atomic<std::uint64_t> end_page{0};
    std::atomic<std::uint64_t> first_bit{0};  // at the start of a line
  };
  // A segment as the exclusive calls see it.
  struct Pages {
    std::uint64_t first;
    std::uint64_t end;
    std::uint64_t first_bit;
  };

  explicit Tracked(DirtyBitmap::Space space) : bitmap_(std::move(space)) {}

  [[nodiscard]] Pages pages(std::size_t segment) const;
  [[nodiscard]] std::size_t first_segment_ending_after(std::uint64_t page, std::size_t count) const noexcept {
    std::size_t low = 0;
    std::size_t high = count;
    while (low < high) {
      const std::size_t middle = low + (high - low) / 2;
      if (segments_[middle].end_page.load(std::memory_order_relaxed) <= page) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    return low;
  }
  // False: the page lies in no segment.
  bool mark_logged(std::uint64_t page) noexcept {
    const std::size_t count = segment_count_.load(std::memory_order_relaxed);
    const std::size_t number = first_segment_ending_after(page, count);
    if (number == count) return false;
    const Segment& segment = segments_[number];
    const std::uint64_t first_page = segment.first_page.load(std::memory_order_relaxed);
    if (page < first_page) return false;
    bitmap_.set(segment.first_bit.load(std::memory_order_relaxed) + (page - first_page));
    return true;
  }
  void mark_pages(std::uint64_t first_page, std::uint64_t last_page) noexcept;
  void mark_high(std::uint64_t first_page, std::uint64_t last_page) noexcept;
  void report_words(const Pages& pages, IovaRange range, ReportBuilder& builder);
  void report_bits(const Pages& pages, IovaRange range, std::uint64_t page_size, ReportBuilder& builder);
  void report_high(IovaRange range, std::uint64_t page_size, ReportBuilder& builder);
  // The pages of a segment that the range touches, as bits of the bitmap.
  [[nodiscard]] std::pair<std::uint64_t, std::uint64_t> bits_within(const Pages& pages, IovaRange range) const;
  [[nodiscard]] unsigned shift() const { return shift_.load(std::memory_order_relaxed); }

  std::atomic<unsigned> shift_{12};
  std::atomic<std::size_t> segment_count_{0};
  std::atomic<bool> everything_{false};
  std::array<Segment, kMaxRanges> segments_;
  DirtyBitmap bitmap_;

  std::mutex high_mutex_;
  std::set<std::uint64_t> high_pages_;
  bool all_high_dirty_ = false;
};

}  // namespace gangway
