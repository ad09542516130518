// Which pages the device wrote: a bitmap with a summary level, marked by DMA and reported to the client.
//
// Marking must cost nanoseconds from any number of threads; reporting must cost what is dirty and not what is
// covered. So a summary bit stands for each cache line of the bitmap: a mark tests before it sets, a report
// visits only lines whose summary bit is set.
//
// Order: a device's bytes must be visible before its mark is (LOG-EXACT). DmaSpace and DmaPin fence once per
// access before they mark; who calls mark() directly after plain stores must do the same. And a client that has seen
// the bytes finds the page in the report that it asks for then: what it may see at once is written in a WriteSection.
//
// Source: Linux vfio.h, VFIO_DEVICE_FEATURE_DMA_LOGGING_START/STOP/REPORT; clauses LOG-*.
// What a client asks for may be answered differently by a deriving log; marking never is, and costs no virtual call.
//
// Thread-safety: mark() and write sections are lock-free and may run against everything else. start, stop and report
// exclude each other.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include <gangway/error.h>
#include <gangway/types.h>

namespace gangway {

// A dirty bitmap as it goes to a client. Long clean stretches are not stored: `extents` lists the stretches that
// hold a set bit, in ascending order; all words between them are 0.
struct DirtyReport {
  struct Extent {
    std::size_t first_word;            // index into the whole bitmap, in 8-byte words
    std::vector<std::uint64_t> words;  // little-endian in memory on every machine gangway runs on
  };
  std::size_t total_words = 0;
  std::vector<Extent> extents;

  [[nodiscard]] std::uint64_t dirty_pages() const;
  // OR into the caller's bitmap, never clearing a bit (LOG-REPORT). `bitmap` holds at least total_words.
  void merge_into(std::span<std::uint64_t> bitmap) const;
};

class DmaLog {
 public:
  static constexpr std::uint64_t kMinPageSize = 4096;
  static constexpr std::size_t kMaxRanges = 4096;

  DmaLog();
  virtual ~DmaLog();
  DmaLog(const DmaLog&) = delete;
  DmaLog& operator=(const DmaLog&) = delete;

  // Starts to log writes inside the ranges. `page_size_hint` is a hint (0: none); the page size used is returned,
  // a power of two ≥ 4096. Errors (LOG-START): EINVAL for no range, an empty, misaligned or overlapping one;
  // EOVERFLOW for one that wraps; E2BIG for more than kMaxRanges; EALREADY when started; ENOMEM.
  virtual Result<std::uint64_t> start(std::span<const IovaRange> ranges, std::uint64_t page_size_hint);

  // Starts to log every write at any IOVA (vfio-user: DMA_LOGGING_START with no range).
  virtual Result<std::uint64_t> start_all(std::uint64_t page_size_hint);

  // EINVAL when not started.
  virtual Result<void> stop();

  [[nodiscard]] bool started() const { return started_.load(std::memory_order_acquire); }

  // Bits of [iova, iova + length) in units of page_size, and clears what it reports (LOG-REPORT). A page that
  // the report covers in part is reported and cleared whole. Errors: EINVAL when not started, page_size is no
  // power of two or below 4096, or length is 0; EOVERFLOW when the range wraps; E2BIG when the bitmap would exceed
  // `max_bytes`. Waits for the write sections that are open when it is called.
  virtual Result<DirtyReport> report(IovaRange range, std::uint64_t page_size, std::size_t max_bytes);

  // Marks the pages of [iova, iova + length) that lie in a logged range. Never fails, never blocks, never allocates
  // while inside the ranges given to start().
  void mark(Iova iova, std::uint64_t length) noexcept {
    if (started_.load(std::memory_order_acquire)) mark_started(iova, length);
  }

  // Held while bytes that the client may see at once (a queue's entry, a copy) are written and marked. Short: a report
  // waits for it, so neither I/O nor a message to the client belongs into it.
  class WriteSection {
   public:
    explicit WriteSection(DmaLog& log) noexcept : open_(log.enter_section()) {}
    ~WriteSection() { open_.fetch_sub(1, std::memory_order_release); }
    WriteSection(const WriteSection&) = delete;
    WriteSection& operator=(const WriteSection&) = delete;

   private:
    std::atomic<std::uint32_t>& open_;
  };

 private:
  class Tracked;
  Result<std::uint64_t> start_tracking(std::span<const IovaRange> ranges, std::uint64_t page_size, bool everything);
  void mark_started(Iova iova, std::uint64_t length) noexcept;
  std::atomic<std::uint32_t>& enter_section() noexcept;
  void wait_for_open_sections() noexcept;

  std::atomic<bool> started_{false};
  // Sections count in the one of `open_` whose turn it is. A report gives the turn to the other one and waits for the
  // first to empty, which those that enter meanwhile cannot put off.
  std::atomic<std::uint32_t> turn_{0};
  std::array<std::atomic<std::uint32_t>, 2> open_{};
  std::mutex mutex_;
  // Made by the first start and kept: a mark may still be inside when the log stops.
  std::unique_ptr<Tracked> tracked_;
};

}  // namespace gangway
