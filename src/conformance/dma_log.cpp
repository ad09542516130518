// LOG: the log of pages that the device wrote.
#include <algorithm>
#include <atomic>
#include <utility>

#include <fmt/core.h>

#include "conformance/steps.h"

namespace gangway::conformance {
namespace {

constexpr unsigned kWriteLimits = 6;  // a workload is many accesses

using enum DeviceState;
using Pages = Workload::Pages;
using Shared = std::shared_ptr<Workload>;

constexpr std::uint64_t kPage = 4096;
constexpr int kReportsMeanwhile = 100;             // more than the device needs time to write
constexpr IovaRange kAny{{0x10'0000}, 0x10'0000};  // it need not be mapped

Result<std::uint64_t> start(Subject& subject, std::vector<IovaRange> ranges, std::uint64_t page_size = kPage) {
  return subject.ask<std::uint64_t>("log start", [ranges = std::move(ranges), page_size](DeviceHandle& device) {
    return device.dma_logging_start(ranges, page_size);
  });
}

Result<void> stop(Subject& subject) {
  return subject.perform("log stop", [](DeviceHandle& device) { return device.dma_logging_stop(); });
}

using Bitmap = std::vector<std::uint64_t>;

// The bits of a report over what was in the bitmap before.
Result<Bitmap> report(Subject& subject, IovaRange range, std::uint64_t page_size = kPage, std::uint64_t before = 0) {
  return subject.ask<Bitmap>("log report", [range, page_size, before](DeviceHandle& device) -> Result<Bitmap> {
    const std::uint64_t pages = page_size == 0 ? 1 : (range.size + page_size - 1) / page_size;
    Bitmap bitmap((pages + 63) / 64, before);
    if (Result<void> done = device.dma_logging_report(range, page_size, bitmap); !done)
      return std::unexpected(done.error());
    return bitmap;
  });
}

Pages pages_of(const Bitmap& bitmap, IovaRange range, std::uint64_t page_size) {
  Pages pages;
  for (std::uint64_t offset = 0; offset < range.size; offset += page_size) {
    const std::uint64_t bit = offset / page_size;
    if ((bitmap[bit / 64] >> (bit % 64) & 1U) != 0) pages.insert(range.start.value + offset);
  }
  return pages;
}

// --- START and STOP ---

struct BadStart {
  std::string_view what;
  std::vector<IovaRange> ranges;
  int code;
};

void ranges_are_checked(Context& c) {
  constexpr std::uint64_t kTop = ~std::uint64_t{0} - kPage + 1;
  std::vector<BadStart> bad{
      {"a range that is not page aligned", {{{0x10'0800}, kPage}}, EINVAL},
      {"a range of half a page", {{{0x10'0000}, kPage / 2}}, EINVAL},
      {"ranges that overlap", {{{0x10'0000}, 4 * kPage}, {{0x10'2000}, 4 * kPage}}, EINVAL},
      {"a range that wraps", {{{kTop}, 2 * kPage}}, EOVERFLOW},
  };
  // vfio-user has no range at all stand for all memory.
  if ((c.abilities.have & kWire) == 0) bad.push_back({"no range", {}, EINVAL});
  for (const BadStart& start_with : bad) {
    expect_refused("LOG-START", c.device, start(c.device, start_with.ranges),
                   fmt::format("START with {} is refused", start_with.what), start_with.code);
  }
  expect_answer("LOG-START", start(c.device, {kAny}), "START succeeds after one that was refused");
}

void second_start_fails(Context& c) {
  step(start(c.device, {kAny}), "log start");
  expect_refused("LOG-START", c.device, start(c.device, {kAny}), "a second START fails");
  expect_answer("LOG-REPORT", report(c.device, kAny), "the log goes on after a second START");
  expect_done("LOG-START", stop(c.device), "STOP succeeds");
  expect_answer("LOG-START", start(c.device, {kAny}), "START succeeds after STOP");
}

void page_size_is_a_hint(Context& c) {
  for (const std::uint64_t hint : {kPage, 2 * kPage, std::uint64_t{2} << 20}) {
    const std::uint64_t used = expect_answer("LOG-START", start(c.device, {{{2U << 20}, 4U << 20}}, hint),
                                             fmt::format("START takes a page size of {} as a hint", hint));
    expect("LOG-START", used != 0 && (used & (used - 1)) == 0, "the page size used is written back, a power of two",
           fmt::format("{}", used));
    step(stop(c.device), "log stop");
  }
}

void many_ranges_fit_or_are_too_many(Context& c) {
  constexpr std::uint64_t kRanges = 4097;
  std::vector<IovaRange> ranges;
  for (std::uint64_t i = 0; i < kRanges; ++i) ranges.push_back({{0x1000'0000 + 2 * i * kPage}, kPage});
  const Result<std::uint64_t> started = start(c.device, ranges);
  if (started) return;
  expect_refused("LOG-START", c.device, started, "too many ranges are E2BIG", E2BIG);
}

// --- REPORT ---

void report_without_start_fails(Context& c) {
  expect_refused("LOG-REPORT", c.device, report(c.device, kAny), "REPORT without START fails");
  step(start(c.device, {kAny}), "log start");
  step(stop(c.device), "log stop");
  expect_refused("LOG-REPORT", c.device, report(c.device, kAny), "REPORT after STOP fails");
}

void page_sizes_of_reports(Context& c) {
  step(start(c.device, {kAny}), "log start");
  for (const std::uint64_t bad : {std::uint64_t{512}, std::uint64_t{2048}, 3 * kPage, kPage + 1}) {
    expect_refused("LOG-REPORT", c.device, report(c.device, kAny, bad),
                   fmt::format("REPORT in pages of {} is refused", bad), EINVAL);
  }
  for (const std::uint64_t good : {kPage, 4 * kPage, std::uint64_t{1} << 20}) {
    expect_answer("LOG-REPORT", report(c.device, kAny, good), fmt::format("REPORT in pages of {} is answered", good));
  }
}

void bits_of_the_caller_stay(Context& c) {
  constexpr std::uint64_t kOnes = ~std::uint64_t{0};
  step(start(c.device, {kAny}), "log start");
  const Bitmap bitmap = step(report(c.device, kAny, kPage, kOnes), "log report");
  expect("LOG-REPORT", std::ranges::all_of(bitmap, [](std::uint64_t word) { return word == kOnes; }),
         "REPORT never clears a bit of the caller's", "cleared bits");
}

// --- LOG-ERROR ---

// A row of the report rather than a question: whatever a device answers after an error is right.
void errors_are_for_the_user(Context&) {
  throw Untestable{"it binds the user, who takes all for dirty after any error: nothing that a device answers is wrong",
                   false};
}

// --- what the device wrote ---

// A workload with all its memory logged.
struct Logged {
  Shared workload;
  std::vector<IovaRange> ranges;
  std::uint64_t page_size = kPage;  // that the device keeps its log in, as it said
};

Logged set_up(Context& c) {
  Logged logged{.workload = set_up_workload(c), .ranges = {}};
  for (const Workload::Block& block : logged.workload->memory()) logged.ranges.push_back(block.range);
  logged.page_size = std::max(kPage, step(start(c.device, logged.ranges), "log start"));
  return logged;
}

Workload::Written write_pages(Subject& subject, const Shared& workload, unsigned round) {
  Workload::Written written = step(subject.ask<Workload::Written>(fmt::format("work write {}", round),
                                                                  [workload, round](DeviceHandle& device) {
                                                                    return workload->write_pages(device, round);
                                                                  }),
                                   "make the device write");
  // A log that has nothing to say of it may be right or wrong.
  if (written.must.empty()) throw Untestable{"the workload wrote no memory", false};
  return written;
}

Pages report_all(Subject& subject, const Logged& logged, std::uint64_t page_size = kPage) {
  Pages pages;
  for (const IovaRange& range : logged.ranges) {
    const Bitmap bitmap = step(report(subject, range, page_size), "log report");
    pages.merge(pages_of(bitmap, range, page_size));
  }
  return pages;
}

// A log in larger pages, of `unit`, reports what lies beside a page that was written as well.
void expect_exact(const Pages& reported, const Workload::Written& written, std::uint64_t unit, std::string_view when,
                  std::string_view clause = "LOG-EXACT") {
  Pages units;
  for (const std::uint64_t page : written.may) units.insert(page / unit);
  for (const std::uint64_t page : written.must) {
    expect(clause, reported.contains(page), fmt::format("every page written {} is reported", when),
           fmt::format("the page at {:#x} is not", page));
  }
  for (const std::uint64_t page : reported) {
    expect(clause, units.contains(page / unit), fmt::format("pages not written {} are not reported", when),
           fmt::format("the page at {:#x} is", page));
  }
}

void merge(Workload::Written& all, const Workload::Written& more) {
  all.must.insert(more.must.begin(), more.must.end());
  all.may.insert(more.may.begin(), more.may.end());
}

void written_pages_are_reported(Context& c) {
  const Logged logged = set_up(c);
  (void)report_all(c.device, logged);
  for (unsigned round = 0; round < 3; ++round) {
    const Workload::Written written = write_pages(c.device, logged.workload, round);
    expect_exact(report_all(c.device, logged), written, logged.page_size, "since the last report");
    const Pages again = report_all(c.device, logged);
    expect("LOG-REPORT", again.empty(), "a report clears what it reports",
           fmt::format("{} pages are reported again", again.size()));
  }
}

// Pages of one size are those of another, put together.
void other_page_sizes_agree(Context& c) {
  const Logged logged = set_up(c);
  (void)report_all(c.device, logged);
  for (const std::uint64_t size : {2 * kPage, 16 * kPage}) {
    const Workload::Written written = write_pages(c.device, logged.workload, 1);
    const Pages reported = report_all(c.device, logged, size);
    Workload::Written larger;
    for (const std::uint64_t page : written.must) larger.must.insert(page / size * size);
    for (const std::uint64_t page : written.may) larger.may.insert(page / size * size);
    expect_exact(reported, larger, std::max(size, logged.page_size), fmt::format("in pages of {}", size), "LOG-REPORT");
  }
}

// The written pages, each reported alone and by the ends of ranges.
void sub_ranges_are_reported_alone(Context& c) {
  const Logged logged = set_up(c);
  (void)report_all(c.device, logged);
  const Workload::Written written = write_pages(c.device, logged.workload, 1);
  const std::uint64_t first = *written.must.begin();
  const std::uint64_t last = *written.must.rbegin();
  const std::uint64_t last_unit = last / logged.page_size * logged.page_size;
  if (last_unit <= first) throw Untestable{"the log's pages are as large as what the workload writes", false};
  const IovaRange upto{{first}, last_unit - first};  // without the last
  const Pages some = pages_of(step(report(c.device, upto), "log report"), upto, kPage);
  const Pages rest = report_all(c.device, logged);
  expect("LOG-REPORT", rest.contains(last), "a report of a sub-range leaves what lies outside for the next",
         fmt::format("the page at {:#x} is lost", last));
  for (const std::uint64_t page : written.must) {
    expect("LOG-EXACT", some.contains(page) || rest.contains(page), "two reports of parts have every page between them",
           fmt::format("the page at {:#x} is lost", page));
  }
  const Workload::Written again = write_pages(c.device, logged.workload, 1);
  const IovaRange exact{{first}, last + kPage - first};  // it ends with the last page written
  const Pages tight = pages_of(step(report(c.device, exact), "log report"), exact, kPage);
  for (const std::uint64_t page : again.must) {
    expect("LOG-EXACT", tight.contains(page), "a page at the end of the range reported is not forgotten",
           fmt::format("the page at {:#x} is", page));
  }
}

void log_goes_on_over_state_changes(Context& c) {
  const Logged logged = set_up(c);
  (void)report_all(c.device, logged);
  for (const DeviceState state : states_of(c.flags())) {
    if (state == Running || state == Resuming) continue;
    const Workload::Written written = write_pages(c.device, logged.workload, 1);
    go(c.device, state);
    const std::string when = fmt::format("before {}", contract::name(state));
    Pages reported;
    for (const IovaRange& range : logged.ranges) {
      const Bitmap bitmap = expect_answer("LOG-EXACT", report(c.device, range),
                                          fmt::format("REPORT answers in {}", contract::name(state)));
      reported.merge(pages_of(bitmap, range, kPage));
    }
    expect_exact(reported, written, logged.page_size, when);
    go(c.device, Running);
    const Workload::Written after = write_pages(c.device, logged.workload, 2);
    expect_exact(report_all(c.device, logged), after, logged.page_size, fmt::format("after {}", contract::name(state)));
  }
}

void unmapping_loses_nothing(Context& c) {
  const Logged logged = set_up(c);
  (void)report_all(c.device, logged);
  const Workload::Written written = write_pages(c.device, logged.workload, 1);
  for (const IovaRange& range : logged.ranges) {
    step(c.device.perform("dma unmap", [range](DeviceHandle& device) { return device.dma_unmap(range); }),
         "unmap memory");
  }
  expect_exact(report_all(c.device, logged), written, logged.page_size, "before the memory was unmapped");
}

// Reports run against the device's writes; between them they have every page.
void nothing_is_lost_under_load(Context& c) {
  const Logged logged = set_up(c);
  (void)report_all(c.device, logged);
  Workload::Written written;
  Pages reported;
  for (unsigned round = 0; round < 60; ++round) {
    const Shared workload = logged.workload;
    auto wrote = std::make_shared<std::optional<Workload::Written>>();
    auto ended = std::make_shared<std::atomic<bool>>(false);
    c.device.alongside(fmt::format("work write {}", round), kWriteLimits,
                       [workload, round, wrote, ended](DeviceHandle& device) -> Result<void> {
                         Result<Workload::Written> done = workload->write_pages(device, round);
                         *ended = true;
                         if (!done) return std::unexpected(done.error());
                         *wrote = *std::move(done);
                         return {};
                       });
    for (int i = 0; i < kReportsMeanwhile && !*ended; ++i) reported.merge(report_all(c.device, logged));
    step(c.device.wait(), "make the device write");
    if ((**wrote).must.empty()) throw Untestable{"the workload wrote no memory", false};
    merge(written, **wrote);
    reported.merge(report_all(c.device, logged));
    expect_exact(reported, written, logged.page_size, "under load");
    // Each round has to report its own pages anew.
    if (round % 8 == 7) {
      reported.clear();
      written = {};
    }
  }
}

}  // namespace

std::vector<Test> dma_log_tests() {
  constexpr std::uint32_t kLog = kDmaLogging;
  return {
      {"ranges_are_checked", {"LOG-START"}, kLog, ranges_are_checked},
      {"second_start_fails", {"LOG-START"}, kLog, second_start_fails},
      {"page_size_is_a_hint", {"LOG-START"}, kLog, page_size_is_a_hint},
      {"many_ranges_fit_or_are_too_many", {"LOG-START"}, kLog, many_ranges_fit_or_are_too_many},
      {"report_without_start_fails", {"LOG-REPORT"}, kLog, report_without_start_fails},
      {"page_sizes_of_reports", {"LOG-REPORT"}, kLog, page_sizes_of_reports},
      {"bits_of_the_caller_stay", {"LOG-REPORT"}, kLog, bits_of_the_caller_stay},
      {"written_pages_are_reported", {"LOG-EXACT", "LOG-REPORT"}, kLog | kWorkload | kDma, written_pages_are_reported},
      {"other_page_sizes_agree", {"LOG-REPORT"}, kLog | kWorkload | kDma, other_page_sizes_agree},
      {"sub_ranges_are_reported_alone",
       {"LOG-EXACT", "LOG-REPORT"},
       kLog | kWorkload | kDma,
       sub_ranges_are_reported_alone},
      {"log_goes_on_over_state_changes",
       {"LOG-EXACT"},
       kMigration | kLog | kWorkload | kDma,
       log_goes_on_over_state_changes},
      {"unmapping_loses_nothing", {"LOG-EXACT"}, kLog | kWorkload | kDma, unmapping_loses_nothing},
      {"errors_are_for_the_user", {"LOG-ERROR"}, kLog, errors_are_for_the_user},
      {"nothing_is_lost_under_load", {"LOG-EXACT"}, kLog | kWorkload | kDma, nothing_is_lost_under_load},
  };
}

}  // namespace gangway::conformance
