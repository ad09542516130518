// What a run says of a device beyond the verdict of single tests.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "unit/conformance/served_card.h"

namespace gangway::conformance {
namespace {

using namespace std::chrono_literals;

Target by_name(const ServedCard& card) { return named_target(card.target(), 60s); }

std::vector<std::string> with(const Report& report, Verdict verdict) {
  std::vector<std::string> clauses;
  for (const ClauseResult& clause : report.clauses) {
    if (clause.verdict == verdict) clauses.emplace_back(clause.clause->id);
  }
  return clauses;
}

using Clauses = std::vector<std::string>;

TEST(Run, a_waived_foundation_explains_what_follows_from_it_as_a_failed_one_does) {
  const ServedCard card("resuming_needs_reset");
  for (const bool waived : {false, true}) {
    const auto waivers = Waivers::parse(waived ? "* RST-NOT-REQUIRED never - known\n" : "", "2026-01-01");
    ASSERT_TRUE(waivers) << waivers.error().message;
    const Report report = run_suite({.target = by_name(card),
                                     .peer = {},
                                     .settings = quick_settings(),
                                     .selection = {},
                                     .waivers = *waivers,
                                     .progress = {}});
    EXPECT_EQ(with(report, Verdict::Fail), waived ? Clauses{} : Clauses{"RST-NOT-REQUIRED"}) << to_text(report);
    EXPECT_EQ(with(report, Verdict::Waived), waived ? Clauses{"RST-NOT-REQUIRED"} : Clauses{});
  }
}

// What the setting is called only the program knows that has it.
TEST(Run, names_a_setting_as_the_program_does_that_has_it) {
  const ServedCard card("none");
  for (const std::string_view name : {"", "the second device"}) {
    Settings settings = quick_settings();
    settings.names.peer = name;
    const Report report = run_suite({.target = by_name(card),
                                     .peer = {},
                                     .settings = settings,
                                     .selection = {.select = {"there_and_back"}, .skip = {}},
                                     .waivers = {},
                                     .progress = {}});
    ASSERT_EQ(report.clauses.size(), 1U);
    EXPECT_EQ(report.clauses.front().tests.front().message,
              name.empty() ? "no second device was given" : "no second device was given (the second device)");
  }
}

TEST(Run, every_clause_of_the_log_has_a_row) {
  const ServedCard card("none");
  Runner::Plan plan{.target = by_name(card),
                    .peer = {},
                    .settings = quick_settings(),
                    .selection = {.select = {"LOG-*"}, .skip = {}},
                    .waivers = {},
                    .progress = {}};
  const Report report = run_suite(plan);
  EXPECT_EQ(with(report, Verdict::NotTested), Clauses{"LOG-ERROR"}) << to_text(report);
  EXPECT_EQ(with(report, Verdict::Fail), Clauses{});
}

// As a driver does whose reader waits: the data descriptor yields nothing until the device is closed.
class WaitingReader : public KernelLikeHandle {
 public:
  WaitingReader(std::unique_ptr<DeviceHandle> inner, std::atomic<int>& closed)
      : KernelLikeHandle(std::move(inner)), closed_(closed) {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) std::abort();
    reader_ = Fd(ends[0]);
    writer_ = Fd(ends[1]);
  }
  ~WaitingReader() override { closed_ += reading_ ? 1 : 0; }
  Result<int> data_descriptor() override {
    reading_ = true;
    return reader_.get();
  }
  Result<StreamRead> read_data(std::span<std::byte> out) override {
    reading_ = true;
    const ssize_t got = ::read(reader_.get(), out.data(), out.size());
    return StreamRead{static_cast<std::size_t>(std::max<ssize_t>(got, 0)), StreamEnd::Final};
  }

 private:
  std::atomic<int>& closed_;
  std::atomic<bool> reading_ = false;
  Fd reader_;
  Fd writer_;
};

TEST(Run, a_close_during_a_read_closes_the_device_while_the_reader_waits) {
  const ServedCard card("none");
  std::atomic<int> closed = 0;
  const Target target{.name = "waiting", .opener = [&]() -> Result<std::shared_ptr<DeviceHandle>> {
                        auto opened = open_device(card.target());
                        if (!opened) return std::unexpected(opened.error());
                        return std::make_shared<WaitingReader>(std::move(*opened), closed);
                      }};
  Settings settings = quick_settings();
  settings.limit = 5s;
  const Report report = run_suite({.target = target,
                                   .peer = {},
                                   .settings = settings,
                                   .selection = {.select = {"close_during_read"}, .skip = {}},
                                   .waivers = {},
                                   .progress = {}});
  EXPECT_EQ(with(report, Verdict::Pass), (Clauses{"FSM-INITIAL", "DAT-SESSION"})) << to_text(report);
  EXPECT_EQ(closed, 5 + 1);  // each round, and the question what the device has
}

TEST(Run, the_diagram_counts_a_failure_where_its_script_ends) {
  Coverage coverage;
  const auto at = [](DeviceState state) { return static_cast<std::size_t>(state); };
  using enum DeviceState;
  coverage.count_failure("open\nset STOP_COPY\nread all  # 5 bytes\nset STOP             # EIO\nget   # STOP_COPY\n");
  EXPECT_EQ(coverage.broken[at(StopCopy)][at(Stop)], 1U);
  coverage.count_failure("open\nset STOP_COPY\nset PRE_COPY  # EINVAL\nread all  # EIO\n");
  EXPECT_EQ(coverage.broken_in[at(StopCopy)], 1U);
  coverage.count_failure("set STOP\nreset\nconfig\n");
  EXPECT_EQ(coverage.broken_in[at(Running)], 1U);
  Report report{.target = "t", .flags = MigrationFlags{.p2p = false, .pre_copy = false}};
  report.coverage.done[at(Running)][at(Stop)] = 1;
  EXPECT_EQ(to_html(report).find("<line class=\"bad\""), std::string::npos);
  report.coverage.count_failure("set STOP\n");
  EXPECT_NE(to_html(report).find("<line class=\"bad\""), std::string::npos);
}

}  // namespace
}  // namespace gangway::conformance
