// LOG-*: the DMA log.
#include <algorithm>
#include <bit>
#include <tuple>

#include "devices/faulty/defect.h"

namespace gangway::faulty {
namespace {

constexpr std::uint64_t kPage = DmaLog::kMinPageSize;
constexpr std::uint64_t kBits = 64;
constexpr std::size_t kAny = std::size_t{1} << 30;

// The bitmap of a report with nothing left out, and back.
std::vector<std::uint64_t> whole(const DirtyReport& report) {
  std::vector<std::uint64_t> bitmap(report.total_words);
  report.merge_into(bitmap);
  return bitmap;
}
DirtyReport as_report(std::vector<std::uint64_t> bitmap) {
  DirtyReport report;
  report.total_words = bitmap.size();
  report.extents.push_back({0, std::move(bitmap)});
  return report;
}
bool test(std::span<const std::uint64_t> bitmap, std::uint64_t bit) {
  return ((bitmap[bit / kBits] >> (bit % kBits)) & 1U) != 0;
}
void clear(std::span<std::uint64_t> bitmap, std::uint64_t bit) {
  bitmap[bit / kBits] &= ~(std::uint64_t{1} << (bit % kBits));
}
std::uint64_t pages_of(const IovaRange& range, std::uint64_t page_size) { return (range.size - 1) / page_size + 1; }

// Changes what the good log reports.
class ChangedReport : public FaultyLog {
 public:
  Result<DirtyReport> report(IovaRange range, std::uint64_t page_size, std::size_t max_bytes) override {
    Result<DirtyReport> report = DmaLog::report(range, page_size, max_bytes);
    if (!report) return report;
    std::vector<std::uint64_t> bitmap = whole(*report);
    change(bitmap, range, page_size);
    return as_report(std::move(bitmap));
  }

 protected:
  virtual void change(std::vector<std::uint64_t>& bitmap, const IovaRange& range, std::uint64_t page_size) = 0;
  void forget(const IovaRange& range) { std::ignore = DmaLog::report(range, kPage, kAny); }
};

class MissesLastPage : public ChangedReport {
 protected:
  void change(std::vector<std::uint64_t>& bitmap, const IovaRange& range, std::uint64_t page_size) override {
    clear(bitmap, pages_of(range, page_size) - 1);
  }
};

class AllDirty : public ChangedReport {
 protected:
  void change(std::vector<std::uint64_t>& bitmap, const IovaRange& range, std::uint64_t page_size) override {
    for (std::uint64_t page = 0; page < pages_of(range, page_size); ++page) {
      bitmap[page / kBits] |= std::uint64_t{1} << (page % kBits);
    }
  }
};

class NeverCleared : public ChangedReport {
 protected:
  void change(std::vector<std::uint64_t>& bitmap, const IovaRange& range, std::uint64_t page_size) override {
    for (std::uint64_t page = 0; page < pages_of(range, page_size); ++page) {
      if (test(bitmap, page)) mark(range.start + page * page_size, page_size);
    }
  }
};

// What is not mapped any more is not looked at.
class LostOnUnmap : public ChangedReport {
 protected:
  void change(std::vector<std::uint64_t>& bitmap, const IovaRange& range, std::uint64_t page_size) override {
    const std::vector<IovaRange> mapped = endpoint().dma().ranges();
    for (std::uint64_t page = 0; page < pages_of(range, page_size); ++page) {
      const Iova address = range.start + page * page_size;
      const bool there =
          std::ranges::any_of(mapped, [&](const IovaRange& m) { return m.start <= address && address <= m.last(); });
      if (!there) clear(bitmap, page);
    }
  }
};

// Read and then cleared, as two steps: what is written in between is lost.
class LosesConcurrentPages : public ChangedReport {
 protected:
  void change(std::vector<std::uint64_t>&, const IovaRange& range, std::uint64_t) override {
    endpoint().card().await_piece();
    forget(range);
  }
};

class SubRangeClearsAll : public ChangedReport {
 protected:
  void change(std::vector<std::uint64_t>&, const IovaRange&, std::uint64_t) override {
    for (const IovaRange& mapped : endpoint().dma().ranges()) forget(mapped);
  }
};

class IgnoresPageSize : public FaultyLog {
 public:
  Result<DirtyReport> report(IovaRange range, std::uint64_t page_size, std::size_t max_bytes) override {
    if (page_size <= kPage || !std::has_single_bit(page_size)) return DmaLog::report(range, page_size, max_bytes);
    Result<DirtyReport> report = DmaLog::report(range, kPage, kAny);
    if (!report) return report;
    std::vector<std::uint64_t> bitmap = whole(*report);
    bitmap.resize((pages_of(range, page_size) - 1) / kBits + 1);
    return as_report(std::move(bitmap));
  }
};

class OddPageSizeAccepted : public FaultyLog {
 public:
  Result<DirtyReport> report(IovaRange range, std::uint64_t page_size, std::size_t max_bytes) override {
    const bool sound = page_size >= kPage && std::has_single_bit(page_size);
    return DmaLog::report(range, sound ? page_size : kPage, sound ? max_bytes : kAny);
  }
};

class ReportWithoutStart : public FaultyLog {
 public:
  Result<DirtyReport> report(IovaRange range, std::uint64_t page_size, std::size_t max_bytes) override {
    if (started() || page_size == 0 || range.size == 0) return DmaLog::report(range, page_size, max_bytes);
    return as_report(std::vector<std::uint64_t>((pages_of(range, page_size) - 1) / kBits + 1));
  }
};

class SecondStartAccepted : public FaultyLog {
 public:
  Result<std::uint64_t> start(std::span<const IovaRange> ranges, std::uint64_t page_size_hint) override {
    if (started()) std::ignore = DmaLog::stop();
    return DmaLog::start(ranges, page_size_hint);
  }
  Result<std::uint64_t> start_all(std::uint64_t page_size_hint) override {
    if (started()) std::ignore = DmaLog::stop();
    return DmaLog::start_all(page_size_hint);
  }
};

class MisalignedRangeAccepted : public FaultyLog {
 public:
  Result<std::uint64_t> start(std::span<const IovaRange> ranges, std::uint64_t page_size_hint) override {
    std::vector<IovaRange> rounded(ranges.begin(), ranges.end());
    for (IovaRange& range : rounded) {
      if (!range.valid() || range.last().value >= ~std::uint64_t{0} - kPage) continue;
      const std::uint64_t end = (range.start.value + range.size + kPage - 1) / kPage * kPage;
      range.start.value = range.start.value / kPage * kPage;
      range.size = end - range.start.value;
    }
    return DmaLog::start(rounded, page_size_hint);
  }
};

class OverlappingRangesAccepted : public FaultyLog {
 public:
  Result<std::uint64_t> start(std::span<const IovaRange> ranges, std::uint64_t page_size_hint) override {
    std::vector<IovaRange> sorted(ranges.begin(), ranges.end());
    std::ranges::sort(sorted, {}, &IovaRange::start);
    std::vector<IovaRange> joined;
    for (const IovaRange& range : sorted) {
      const bool overlaps =
          !joined.empty() && joined.back().valid() && range.valid() && range.start <= joined.back().last();
      if (!overlaps) {
        joined.push_back(range);
      } else if (joined.back().last() < range.last()) {
        joined.back().size = range.last().value - joined.back().start.value + 1;
      }
    }
    return DmaLog::start(joined, page_size_hint);
  }
};

class LogOffInStop : public FaultyMigration {
 public:
  using FaultyMigration::FaultyMigration;
  Result<void> set_state(std::uint32_t number) override {
    const bool before = contract::is_stopped(real_state());
    Result<void> done = Migration::set_state(number);
    if (!before && contract::is_stopped(real_state())) std::ignore = endpoint().log().stop();
    return done;
  }
};

}  // namespace

std::vector<Defect> dma_log_defects() {
  return {
      {"second_log_start_accepted", "LOG-START", "a second START begins logging anew",
       "kind: start written as stop and start", kFaultyLog<SecondStartAccepted>},
      {"misaligned_range_accepted", "LOG-START", "a range that is not page aligned is rounded and not refused",
       "kind: the core's checks are missing where the driver is not in the kernel",
       kFaultyLog<MisalignedRangeAccepted>},
      {"overlapping_ranges_accepted", "LOG-START", "ranges that overlap are joined and not refused",
       "kind: as above; the kernel's interval tree refuses them", kFaultyLog<OverlappingRangesAccepted>},
      {"report_without_start_accepted", "LOG-REPORT", "a REPORT without START says that all is clean",
       "kind: an empty bitmap where there is none", kFaultyLog<ReportWithoutStart>},
      {"odd_report_page_size_accepted", "LOG-REPORT", "a REPORT in pages of no power of two is answered in 4096",
       "libvfio-user pull request 746: a page size that differs from the one before, and what to answer",
       kFaultyLog<OddPageSizeAccepted>},
      {"report_ignores_page_size", "LOG-REPORT LOG-EXACT",
       "bits stand for 4096 bytes, whatever page size was asked for",
       "Linux 4004497cec30, pds: calculations of the bitmap with another unit", kFaultyLog<IgnoresPageSize>},
      {"sub_range_report_clears_all", "LOG-REPORT LOG-EXACT", "a REPORT of a part clears what was not reported",
       "libvfio-user pull request 551: what is cleared when a bitmap was read", kFaultyLog<SubRangeClearsAll>},
      {"report_never_clears", "LOG-REPORT LOG-EXACT", "what was reported once is reported for ever",
       "libvfio-user pull request 551: pages stayed dirty as long as they were mapped by the device",
       kFaultyLog<NeverCleared>},
      {"report_misses_last_page", "LOG-EXACT", "the last page of the range asked for is never reported",
       "Linux 2780025e01e2, iova_bitmap: bits beyond the pages that are mapped at once were dropped",
       kFaultyLog<MissesLastPage>},
      {"report_loses_concurrent_pages", "LOG-EXACT", "pages written while a REPORT is made are lost",
       "libvfio-user issue 595: the bitmap is cleared while the device still writes", kFaultyLog<LosesConcurrentPages>},
      {"report_all_dirty", "LOG-EXACT LOG-REPORT", "every page is always reported",
       "kind: a log that gave up counting and does not say so", kFaultyLog<AllDirty>},
      {"log_lost_on_unmap", "LOG-EXACT", "what was written to a range is forgotten when the range is unmapped",
       "libvfio-user issue 490: unmapping with a dirty bitmap was not supported", kFaultyLog<LostOnUnmap>},
      {"log_off_in_stop", "LOG-EXACT", "stopping the device stops the log",
       "kind: dirty tracking tied to the migration state, as v1 had it", kFaultyMigration<LogOffInStop>},
  };
}

}  // namespace gangway::faulty
