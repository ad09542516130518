// What a run does to a device beside judging it: nothing that is known to crash some kernels, unless it may.
#include <unistd.h>

#include <memory>
#include <string>

#include <gangway/device_handle.h>
#include <gangway/server.h>
#include <gtest/gtest.h>

#include "conformance/runner.h"
#include "conformance/script.h"
#include "devices/faulty/defect.h"
#include "unit/migrate/recording_handle.h"

namespace gangway::conformance {
namespace {

using namespace std::chrono_literals;

struct Seen {
  unsigned refused_pairs = 0;
  unsigned held_states = 0;
  std::string first;  // of either

  void refused_pair(DeviceState to) {
    if (refused_pairs++ + held_states == 0) first = "STOP_COPY to " + std::string(contract::name(to));
  }
  void held_state(DeviceState state) {
    if (held_states++ + refused_pairs == 0) first = "a close in " + std::string(contract::name(state));
  }
};

// Counts what crashes some kernels. It is no vfio-user target: what speaks the wire itself is not seen here.
class WatchedHandle : public migrate::RecordingHandle {
 public:
  WatchedHandle(std::unique_ptr<DeviceHandle> inner, Endpoint& served, Seen& seen)
      : RecordingHandle(std::move(inner)), served_(served), seen_(seen) {}
  // Asked of the device itself: one that is driven by a region does not tell by v2. Its answer to info() says that it
  // is done with what came before.
  ~WatchedHandle() override {
    (void)info();
    const DeviceState last = served_.migration()->state();
    if (last != DeviceState::Running) seen_.held_state(last);
  }
  Result<void> set_state_number(std::uint32_t number) override {
    const auto to = static_cast<DeviceState>(number);
    if (number < kDeviceStates && contract::is_pre_copy(to) && state() == DeviceState::StopCopy) seen_.refused_pair(to);
    return RecordingHandle::set_state_number(number);
  }
  Result<void> set_state(DeviceState state) override { return set_state_number(static_cast<std::uint32_t>(state)); }
  [[nodiscard]] std::string target() const override { return "watched"; }

 private:
  Endpoint& served_;
  Seen& seen_;
};

struct SafeRun : testing::Test {
  void serve(std::string_view defect, const EndpointOptions& options = {}) {
    endpoint_ = faulty::FaultyEndpoint::create(faulty::find_defect(defect), options).value();
    server_ = Server::listen(socket_, *endpoint_).value();
    EXPECT_TRUE(server_->start());
  }
  Target target() {
    return {.name = "watched", .opener = [this]() -> Result<std::shared_ptr<DeviceHandle>> {
              auto opened = open_device("vfio-user:" + socket_);
              if (!opened) return std::unexpected(opened.error());
              return std::make_shared<WatchedHandle>(std::move(*opened), *endpoint_, seen_);
            }};
  }
  Report run(const Selection& selection, const Settings& settings) {
    Runner runner(
        {.target = target(), .peer = {}, .settings = settings, .selection = selection, .waivers = {}, .progress = {}});
    auto report = runner.run();
    EXPECT_TRUE(report) << report.error().message;
    return report ? *report : Report{};
  }
  static Settings settings(bool safe) {
    Settings settings;
    settings.limit = 60s;
    settings.depth = 2;
    settings.safe = safe;
    return settings;
  }
  ~SafeRun() override {
    if (endpoint_) endpoint_->release();
  }

  const std::string socket_ = testing::TempDir() + "gangway-safe-" + std::to_string(::getpid()) + ".sock";
  Seen seen_;
  std::unique_ptr<faulty::FaultyEndpoint> endpoint_;
  std::unique_ptr<Server> server_;
};

TEST_F(SafeRun, closes_a_good_device_only_when_it_runs_and_asks_for_no_refused_pair) {
  serve("none");
  // Over vfio-user START without a range is one, which a target of another kind is not forgiven.
  const Report report = run({.select = {}, .skip = {"ranges_are_checked"}}, settings(true));
  EXPECT_EQ(report.count(Verdict::Fail), 0U);
  EXPECT_EQ(seen_.held_states + seen_.refused_pairs, 0U) << seen_.first;
}

TEST_F(SafeRun, closes_a_device_with_migration_regions_only_when_it_runs) {
  serve("none", {.revisions = {.v2 = true, .v1 = true, .region_v2 = true}});
  (void)run({.select = {"V1-*", "R2-*"}, .skip = {}}, settings(true));
  EXPECT_EQ(seen_.held_states + seen_.refused_pairs, 0U) << seen_.first;
}

// Each fails walks and tests with acts after whose loss the rest is a refused pair, or holds a state over a close.
TEST_F(SafeRun, makes_scripts_shorter_without_either) {
  for (const char* const defect : {"temporary_end_is_zero", "half_read_save_blocks_next", "stop_copy_end_is_enomsg"}) {
    SCOPED_TRACE(defect);
    serve(defect);
    const Report report = run({}, settings(true));
    EXPECT_GT(report.count(Verdict::Fail), 0U);
    EXPECT_EQ(seen_.held_states + seen_.refused_pairs, 0U) << seen_.first;
    server_.reset();
    endpoint_.reset();
  }
}

TEST_F(SafeRun, a_script_leaves_out_what_is_not_safe_and_says_so) {
  serve("none");
  const auto acts = parse_script("set STOP_COPY\nread all\nset PRE_COPY\nset 8\nopen\nset RUNNING\nopen\n");
  const auto safely = play_script(target(), settings(true), *acts);
  ASSERT_TRUE(safely) << safely.error().message;
  EXPECT_FALSE(safely->finding);
  EXPECT_EQ(to_text(safely->left_out), "set PRE_COPY\nopen\n");
  EXPECT_EQ(seen_.held_states + seen_.refused_pairs, 0U) << seen_.first;
  const auto as_it_is = play_script(target(), settings(false), *acts);
  ASSERT_TRUE(as_it_is) << as_it_is.error().message;
  EXPECT_TRUE(as_it_is->left_out.empty());
  EXPECT_EQ(seen_.held_states, 1U);
  EXPECT_EQ(seen_.refused_pairs, 1U);
}

TEST_F(SafeRun, the_tests_that_run_last_do_both) {
  serve("none");
  (void)run({.select = {"refused_pairs*", "reopened_device*"}, .skip = {}}, settings(false));
  EXPECT_GT(seen_.held_states, 0U);
  EXPECT_GT(seen_.refused_pairs, 0U);
}

}  // namespace
}  // namespace gangway::conformance
