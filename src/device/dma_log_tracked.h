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

  void mark(Iova iova, std::uint64_t length) noexcept;

  [[nodiscard]] DirtyReport report(IovaRange range, std::uint64_t page_size);
  [[nodiscard]] bool everything() const { return everything_.load(std::memory_order_relaxed); }

 private:
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
  [[nodiscard]] std::size_t first_segment_ending_after(std::uint64_t page, std::size_t count) const noexcept;
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
