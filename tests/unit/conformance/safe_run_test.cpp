// What a run does to a device beside judging it: nothing that is known to crash some kernels, unless it may.
#include <algorithm>
#include <memory>
#include <string>

#include <gtest/gtest.h>

#include "conformance/abilities.h"
#include "conformance/model.h"
#include "conformance/script.h"
#include "conformance/subject.h"
#include "unit/conformance/served_card.h"

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

enum class Resets : bool { No, Yes };

// Counts what crashes some kernels.
class WatchedHandle : public KernelLikeHandle {
 public:
  WatchedHandle(std::unique_ptr<DeviceHandle> inner, Endpoint& served, Seen& seen, Resets resets)
      : KernelLikeHandle(std::move(inner)), served_(served), seen_(seen), resets_(resets) {}
  // Asked of the device itself: one that is driven by a region does not tell by v2. Its answer to info() says that it
  // is done with what came before.
  ~WatchedHandle() override {
    (void)KernelLikeHandle::info();
    const DeviceState last = served_.migration()->state();
    if (last != DeviceState::Running) seen_.held_state(last);
  }
  Result<void> set_state_number(std::uint32_t number) override {
    const auto to = static_cast<DeviceState>(number);
    if (number < kDeviceStates && contract::is_pre_copy(to) && state() == DeviceState::StopCopy) seen_.refused_pair(to);
    return KernelLikeHandle::set_state_number(number);
  }

  Result<Info> info() override {
    Result<Info> info = KernelLikeHandle::info();
    if (info && resets_ == Resets::No) info->reset = false;
    return info;
  }
  Result<void> reset() override {
    return resets_ == Resets::Yes ? KernelLikeHandle::reset() : fail(ENOTTY, "the device cannot be reset");
  }

 private:
  Endpoint& served_;
  Seen& seen_;
  const Resets resets_;
};

struct SafeRun : testing::Test {
  Target target(ServedCard& card) {
    return {.name = "watched", .opener = [this, &card, resets = resets_]() -> Result<std::shared_ptr<DeviceHandle>> {
              auto opened = open_device(card.target());
              if (!opened) return std::unexpected(opened.error());
              return std::make_shared<WatchedHandle>(std::move(*opened), card.endpoint(), seen_, resets);
            }};
  }
  Report run(ServedCard& card, const Selection& selection, const Settings& settings) {
    return run_suite({.target = target(card),
                      .peer = {},
                      .settings = settings,
                      .selection = selection,
                      .waivers = {},
                      .progress = {}});
  }
  static Settings settings(bool safe) {
    Settings settings;
    settings.limit = 60s;
    settings.depth = 2;
    settings.safe = safe;
    return settings;
  }

  Resets resets_ = Resets::Yes;
  Seen seen_;
};

TEST_F(SafeRun, closes_a_good_device_only_when_it_runs_and_asks_for_no_refused_pair) {
  ServedCard card("none");
  const Report report = run(card, {}, settings(true));
  EXPECT_EQ(report.count(Verdict::Fail), 0U) << to_text(report);
  EXPECT_EQ(seen_.held_states + seen_.refused_pairs, 0U) << seen_.first;
}

TEST_F(SafeRun, closes_a_device_with_migration_regions_only_when_it_runs) {
  EndpointOptions all;
  all.revisions = {.v2 = true, .v1 = true, .region_v2 = true};
  ServedCard card("none", all);
  (void)run(card, {.select = {"V1-*", "R2-*"}, .skip = {}}, settings(true));
  EXPECT_EQ(seen_.held_states + seen_.refused_pairs, 0U) << seen_.first;
}

// Such a device is brought home by its region, whose half-done loads nothing but a reset would end.
TEST_F(SafeRun, closes_a_device_that_has_no_reset_and_regions_alone_only_when_it_runs) {
  resets_ = Resets::No;
  for (const Revisions revisions : {Revisions{.v2 = false, .v1 = true}, Revisions{.v2 = false, .region_v2 = true},
                                    Revisions{.v2 = false, .v1 = true, .region_v2 = true}}) {
    EndpointOptions exposed;
    exposed.revisions = revisions;
    ServedCard card("none", exposed);
    const Report report = run(card, {}, settings(true));
    EXPECT_EQ(report.count(Verdict::Fail), 0U) << to_text(report);
    EXPECT_GT(report.count(Verdict::Pass), 2U) << to_text(report);
    EXPECT_EQ(seen_.held_states + seen_.refused_pairs, 0U) << seen_.first;
  }
}

// Each fails walks and tests with acts after whose loss the rest is a refused pair, or holds a state over a close.
TEST_F(SafeRun, makes_scripts_shorter_without_either) {
  for (const char* const defect : {"temporary_end_is_zero", "half_read_save_blocks_next", "stop_copy_end_is_enomsg"}) {
    SCOPED_TRACE(defect);
    ServedCard card(defect);
    const Report report = run(card, {}, settings(true));
    EXPECT_GT(report.count(Verdict::Fail), 0U);
    EXPECT_EQ(seen_.held_states + seen_.refused_pairs, 0U) << seen_.first;
  }
}

// Without its second and third act the script would ask for a refused pair; it is not tried, whether the caller forbids
// it or the script itself has none.
TEST_F(SafeRun, a_script_that_is_made_shorter_comes_upon_no_refused_pair) {
  for (const Risks risks : {Risks{}, Risks{.refused_pairs = true, .held_states = true}}) {
    ServedCard card("temporary_end_is_zero");
    const std::string script = "set STOP_COPY\nset STOP\nset RUNNING\nset PRE_COPY\nread all\n";
    const auto played = play_script(target(card), settings(true), *parse_script(script));
    ASSERT_TRUE(played) << played.error().message;
    ASSERT_TRUE(played->finding);
    Journal journal;
    Hangs hangs;
    Subject subject(target(card).opener, journal, hangs, {.limit = 60s});
    ASSERT_TRUE(subject.open());
    const Result<Abilities> abilities = subject.ask<Abilities>("abilities", find_abilities);
    ASSERT_TRUE(abilities);
    subject.close();
    const auto shortest =
        shorten_script(target(card).opener, settings(true), *abilities, hangs, script, played->finding->clause, risks);
    ASSERT_TRUE(shortest);
    EXPECT_LT(std::ranges::count(shortest->script, '\n'), std::ranges::count(script, '\n'));
    EXPECT_EQ(seen_.held_states + seen_.refused_pairs, 0U) << seen_.first;
  }
}

TEST_F(SafeRun, a_script_leaves_out_what_is_not_safe_and_says_so) {
  ServedCard card("none");
  const auto acts = parse_script("set STOP_COPY\nread all\nset PRE_COPY\nset 8\nopen\nset RUNNING\nopen\n");
  const auto safely = play_script(target(card), settings(true), *acts);
  ASSERT_TRUE(safely) << safely.error().message;
  EXPECT_FALSE(safely->finding);
  EXPECT_EQ(to_text(safely->left_out), "set PRE_COPY\nopen\n");
  EXPECT_EQ(seen_.held_states + seen_.refused_pairs, 0U) << seen_.first;
  const auto as_it_is = play_script(target(card), settings(false), *acts);
  ASSERT_TRUE(as_it_is) << as_it_is.error().message;
  EXPECT_TRUE(as_it_is->left_out.empty());
  EXPECT_EQ(seen_.held_states, 1U);
  EXPECT_EQ(seen_.refused_pairs, 1U);
}

TEST_F(SafeRun, the_tests_that_run_last_do_both) {
  ServedCard card("none");
  (void)run(card, {.select = {"refused_pairs*", "reopened_device*"}, .skip = {}}, settings(false));
  EXPECT_GT(seen_.held_states, 0U);
  EXPECT_GT(seen_.refused_pairs, 0U);
}

}  // namespace
}  // namespace gangway::conformance
