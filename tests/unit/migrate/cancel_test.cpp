// Either side can be told to give up, at any point before the machine was told to run.
#include <unistd.h>

#include <chrono>
#include <future>
#include <stop_token>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/bytes.h"
#include "migrate/address.h"
#include "migrate/conversation.h"
#include "migrate/memory_sender.h"
#include "migrate/page_batch.h"
#include "migrate/setup.h"
#include "migrate_pair.h"
#include "test_machine.h"

namespace gangway::migrate {
namespace {

using namespace std::chrono_literals;

struct Cancel : testing::Test {
  Cancel() {
    from.fill(1);
    to.set_running(false);
  }
  void expect_runs_here(const Outcome& outcome) const {
    EXPECT_FALSE(outcome.source);
    EXPECT_FALSE(outcome.destination);
    EXPECT_TRUE(from.running());
    EXPECT_FALSE(to.running());
  }
  void expect_moves() {
    const Outcome outcome = migrate_pair(from, to, listener);
    ASSERT_TRUE(outcome.source) << text(outcome.source);
    EXPECT_EQ(difference(from, to), "");
  }

  TestMachine from;
  TestMachine to;
  Listener listener = Listener::bind("tcp:127.0.0.1:0").value();
  std::stop_source stop;
};

TEST_F(Cancel, the_source_in_pre_copy) {
  from.tracker().on_collect = [&](int n) {
    if (n == 1) stop.request_stop();
  };
  const Outcome outcome =
      migrate_pair(from, to, listener, {.max_downtime = 0ms, .max_rounds = 3, .cancel = stop.get_token()});
  expect_runs_here(outcome);
  EXPECT_EQ(outcome.source.error().code, ECANCELED);
  EXPECT_THAT(text(outcome.source), testing::EndsWith(": cancelled"));
  from.tracker().on_collect = nullptr;
  expect_moves();
}

TEST_F(Cancel, the_source_while_the_machine_stands_still) {
  from.on_save_cpus = [&]() -> Result<void> {
    stop.request_stop();
    return {};
  };
  const Outcome outcome = migrate_pair(from, to, listener, {.cancel = stop.get_token()});
  expect_runs_here(outcome);
  EXPECT_EQ(outcome.source.error().code, ECANCELED);
  from.on_save_cpus = nullptr;
  expect_moves();
}

TEST_F(Cancel, the_source_before_it_is_connected) {
  stop.request_stop();
  const auto moved = migrate_out(from, listener.address(), {.cancel = stop.get_token()});
  ASSERT_FALSE(moved);
  EXPECT_EQ(moved.error().code, ECANCELED);
  EXPECT_TRUE(from.running());
}

TEST_F(Cancel, the_destination_that_waits_for_a_source) {
  auto waiting = std::async(std::launch::async, [&] { return listener.migrate_in(to, {.cancel = stop.get_token()}); });
  stop.request_stop();
  const auto moved = waiting.get();
  ASSERT_FALSE(moved);
  EXPECT_EQ(moved.error().code, ECANCELED);
  expect_moves();
}

TEST_F(Cancel, the_destination_that_loads) {
  to.on_load_cpus = [&]() -> Result<void> {
    stop.request_stop();
    return {};
  };
  const Outcome outcome = migrate_pair(from, to, listener, {}, {.cancel = stop.get_token()});
  expect_runs_here(outcome);
  EXPECT_EQ(outcome.destination.error().code, ECANCELED);
  to.on_load_cpus = nullptr;
  expect_moves();
}

// A source played up to PREPARED, against a destination that is cancelled around the order to run.
struct CancelAtTheBorder : Cancel, testing::WithParamInterface<std::string> {
  void prepare() {
    ASSERT_TRUE(source.send_hello({.migration = {1, 0}, .channel = 0, .channels = 1}));
    ASSERT_TRUE(source.receive_hello());
    ASSERT_TRUE(source.send(MessageType::Setup, encode(describe(to).value())));
    ASSERT_EQ(next_message(source)->type, MessageType::SetupDone);
    struct {
      std::uint32_t block = 0;
      std::uint32_t runs = 1;
      PageRun run{.first = 0, .count = 256, .kind = PageRun::Kind::Zero};
    } const zeros;
    ASSERT_TRUE(source.send(MessageType::Pages, bytes_of(zeros)));
    ASSERT_TRUE(source.send(MessageType::RoundEnd, bytes_of(RoundEnd{.round = 1, .final = 1})));
    ASSERT_TRUE(source.send(MessageType::Cpus, {}));
    ASSERT_TRUE(source.send(MessageType::Last, bytes_of(LastTotals{})));
    ASSERT_EQ(next_message(source)->type, MessageType::Prepared);
  }
  // The source learns where the machine is.
  void expect_an_answer() {
    const auto answer = next_message(source);
    ASSERT_TRUE(answer) << "the machine is nowhere: " << answer.error().message;
    if (answer->type == MessageType::Failed) {
      EXPECT_FALSE(decode_failure(answer->payload).ran);
      EXPECT_FALSE(waiting.get());
      EXPECT_FALSE(to.running());
    } else {
      EXPECT_EQ(answer->type, MessageType::Running);
      EXPECT_TRUE(waiting.get());
      EXPECT_TRUE(to.running());
    }
  }

  static std::string where() {
    return GetParam() == "tcp" ? "tcp:127.0.0.1:0"
                               : "unix:" + testing::TempDir() + "gangway-cancel-" + std::to_string(::getpid());
  }
  Listener there = Listener::bind(where()).value();
  std::future<Result<DestinationReport>> waiting =
      std::async(std::launch::async, [this] { return there.migrate_in(to, {.cancel = stop.get_token()}); });
  Channel source = Channel::adopt(connect_to(Address::parse(there.address()).value(), 5s, {}).value(), 5s).value();
};

TEST_P(CancelAtTheBorder, before_the_order_came) {
  prepare();
  stop.request_stop();
  (void)source.send(MessageType::Commit, {});  // it crosses the cancellation, or cannot be sent any more
  expect_an_answer();
}

TEST_P(CancelAtTheBorder, after_the_order_came) {
  prepare();
  ASSERT_TRUE(source.send(MessageType::Commit, {}));
  stop.request_stop();
  expect_an_answer();
}
INSTANTIATE_TEST_SUITE_P(Over, CancelAtTheBorder, testing::Values("tcp", "unix"),
                         [](const auto& info) { return info.param; });

TEST_F(Cancel, comes_too_late_once_the_destination_runs) {
  to.on_resume = [&]() -> Result<void> {
    stop.request_stop();
    return {};
  };
  const Outcome outcome = migrate_pair(from, to, listener, {.cancel = stop.get_token()}, {.cancel = stop.get_token()});
  EXPECT_TRUE(outcome.source) << text(outcome.source);
  EXPECT_TRUE(to.running());
}

TEST_F(Cancel, progress_is_told_at_most_ten_times_a_second) {
  std::vector<std::chrono::steady_clock::time_point> told;
  std::vector<Progress> progress;
  from.tracker().on_collect = [&](int) { from.fill(2); };
  const Outcome outcome =
      migrate_pair(from, to, listener, {.max_downtime = 0ms, .max_rounds = 20, .progress = [&](const Progress& now) {
                                          told.push_back(std::chrono::steady_clock::now());
                                          progress.push_back(now);
                                        }});
  ASSERT_TRUE(outcome.source) << text(outcome.source);
  ASSERT_FALSE(told.empty());
  EXPECT_EQ(progress.front().phase, "pre-copy");
  for (std::size_t i = 1; i < told.size(); ++i) {
    EXPECT_GE(told[i] - told[i - 1], 99ms);
    EXPECT_GE(progress[i].memory_bytes_sent, progress[i - 1].memory_bytes_sent);
  }
}

}  // namespace
}  // namespace gangway::migrate
