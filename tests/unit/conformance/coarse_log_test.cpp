// What the suite says of a device whose DMA log is right, and kept in larger pages than the smallest.
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include <gangway/device_handle.h>
#include <gangway/endpoint.h>
#include <gangway/server.h>
#include <gtest/gtest.h>

#include "conformance/runner.h"
#include "devices/faulty/card.h"
#include "unit/migrate/recording_handle.h"

namespace gangway::conformance {
namespace {

using namespace std::chrono_literals;

// Keeps its log in pages of `kPage`: START says so, and REPORT has all of each that was written in part.
class CoarseLog : public migrate::RecordingHandle {
 public:
  static constexpr std::uint64_t kPage = 256U << 10;  // more than the card writes at a time

  using RecordingHandle::RecordingHandle;

  Result<std::uint64_t> dma_logging_start(std::span<const IovaRange> ranges, std::uint64_t page_size) override {
    if (auto started = RecordingHandle::dma_logging_start(ranges, page_size); !started) return started;
    return says_so ? kPage : std::uint64_t{4096};
  }
  Result<void> dma_logging_report(IovaRange range, std::uint64_t page_size, std::span<std::uint64_t> bitmap) override {
    std::vector<std::uint64_t> own(bitmap.size());
    if (auto reported = RecordingHandle::dma_logging_report(range, page_size, own); !reported) return reported;
    const std::uint64_t pages = range.size / page_size;
    for (std::uint64_t page = 0; page < pages; ++page) {
      if ((own[page / 64] >> (page % 64) & 1U) == 0) continue;
      const std::uint64_t at = range.start.value + page * page_size;
      for (std::uint64_t other = 0; other < pages; ++other) {
        const std::uint64_t there = range.start.value + other * page_size;
        if (there / kPage == at / kPage) bitmap[other / 64] |= std::uint64_t{1} << (other % 64);
      }
    }
    return {};
  }

  bool says_so = true;
};

struct CoarseLogs : testing::Test {
  // Clauses of the log that failed.
  std::vector<std::string> failed(bool says_so) {
    const std::string socket = testing::TempDir() + "gangway-coarse-" + std::to_string(::getpid()) + ".sock";
    const auto endpoint = Endpoint::create(std::make_unique<faulty::Card>()).value();
    const auto server = Server::listen(socket, *endpoint).value();
    EXPECT_TRUE(server->start());
    const Opener opener = [&]() -> Result<std::shared_ptr<DeviceHandle>> {
      auto opened = open_device("vfio-user:" + socket);
      if (!opened) return std::unexpected(opened.error());
      auto coarse = std::make_shared<CoarseLog>(std::move(*opened));
      coarse->says_so = says_so;
      return coarse;
    };
    Settings settings;
    settings.limit = 60s;
    settings.plays = 0;
    Runner runner({.target = {.name = "coarse", .opener = opener},
                   .peer = {},
                   .settings = settings,
                   .selection = {.select = {"LOG-*"}, .skip = {"many_ranges*"}},
                   .waivers = {},
                   .progress = {}});
    const auto report = runner.run();
    EXPECT_TRUE(report) << report.error().message;
    std::vector<std::string> clauses;
    if (!report) return clauses;
    EXPECT_GT(report->count(Verdict::Pass), 0U);
    for (const ClauseResult& clause : report->clauses) {
      if (clause.verdict == Verdict::Fail) clauses.emplace_back(clause.clause->id);
    }
    return clauses;
  }
};

TEST_F(CoarseLogs, one_that_says_in_what_pages_it_is_kept_passes) {
  EXPECT_EQ(failed(true), std::vector<std::string>{});
}

TEST_F(CoarseLogs, one_that_says_it_is_fine_and_is_not_fails) {
  const auto clauses = failed(false);
  EXPECT_NE(std::ranges::find(clauses, "LOG-EXACT"), clauses.end());
}

}  // namespace
}  // namespace gangway::conformance
