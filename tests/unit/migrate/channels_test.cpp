// Several connections of one migration: who belongs to it, whose silence counts, whose failure is whose.
#include <atomic>
#include <chrono>
#include <functional>
#include <future>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/bytes.h"
#include "migrate/address.h"
#include "migrate/channel.h"
#include "migrate/conversation.h"
#include "migrate/memory_sender.h"
#include "migrate/page_batch.h"
#include "migrate/round_gate.h"
#include "migrate/setup.h"
#include "migrate_pair.h"
#include "test_machine.h"

namespace gangway::migrate {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

constexpr std::uint64_t kPages = 512;

struct Channels : testing::Test {
  Channels() { to.set_running(false); }

  [[nodiscard]] Channel connect() const {
    return Channel::adopt(connect_to(Address::parse(listener.address()).value(), 5s, {}).value(), 5s).value();
  }
  // The destination's end while `source` plays the other.
  Result<DestinationReport> receive(const std::function<void()>& source, std::chrono::milliseconds stall = 5s) {
    auto waiting = std::async(std::launch::async, [&] { return listener.migrate_in(to, {.stall = stall}); });
    source();
    return waiting.get();
  }
  static void greet(Channel& channel, std::uint32_t number, std::uint64_t migration = 1) {
    ASSERT_TRUE(channel.send_hello({.migration = {migration, 0}, .channel = number, .channels = 2}));
    ASSERT_TRUE(channel.receive_hello());
  }
  void set_up(Channel& control) const {
    ASSERT_TRUE(control.send(MessageType::Setup, encode(describe(to).value())));
    const auto answer = next_message(control);
    ASSERT_TRUE(answer && answer->type == MessageType::SetupDone);
  }
  static void send_zeros(Channel& channel) {
    struct {
      std::uint32_t block = 0;
      std::uint32_t runs = 1;
      PageRun run{.first = 0, .count = kPages, .kind = PageRun::Kind::Zero};
    } const payload;
    ASSERT_TRUE(channel.send(MessageType::Pages, bytes_of(payload)));
  }
  static void finish(Channel& control, Channel& other) {
    const RoundEnd end{.round = 1, .final = 1};
    ASSERT_TRUE(other.send(MessageType::RoundEnd, bytes_of(end)));
    ASSERT_TRUE(control.send(MessageType::RoundEnd, bytes_of(end)));
    ASSERT_TRUE(control.send(MessageType::Cpus, {}));
    ASSERT_TRUE(control.send(MessageType::Last, bytes_of(LastTotals{})));
    ASSERT_EQ(next_message(control)->type, MessageType::Prepared);
    ASSERT_TRUE(control.send(MessageType::Commit, {}));
    ASSERT_EQ(next_message(control)->type, MessageType::Running);
  }

  TestMachine to{{{"ram0", 0, kPages}}};
  Listener listener = Listener::bind("tcp:127.0.0.1:0").value();
};

TEST_F(Channels, a_stranger_between_them_is_sent_away) {
  const auto moved = receive([&] {
    Channel control = connect();
    greet(control, 0);
    {
      Channel stranger = connect();
      greet(stranger, 1, 99);
      EXPECT_FALSE(stranger.receive()) << "a stranger was let in";
    }
    Channel other = connect();
    greet(other, 1);
    set_up(control);
    send_zeros(other);
    finish(control, other);
  });
  EXPECT_TRUE(moved) << text(moved);
  EXPECT_TRUE(to.running());
}

TEST_F(Channels, nonsense_on_one_for_memory_ends_the_migration_and_the_source_is_told) {
  const auto moved = receive([&] {
    Channel control = connect();
    greet(control, 0);
    Channel other = connect();
    greet(other, 1);
    set_up(control);
    ASSERT_TRUE(other.send(MessageType::Cpus, {}));
    const auto answer = control.receive();
    ASSERT_TRUE(answer) << answer.error().message;
    EXPECT_EQ(answer->type, MessageType::Failed);
  });
  ASSERT_FALSE(moved);
  EXPECT_THAT(text(moved), HasSubstr("receive: CPUS on a channel for memory"));
}

TEST_F(Channels, one_for_memory_that_closes_early_ends_the_migration) {
  const auto moved = receive([&] {
    Channel control = connect();
    greet(control, 0);
    {
      Channel other = connect();
      greet(other, 1);
      set_up(control);
    }
    const auto answer = control.receive();
    ASSERT_TRUE(answer) << answer.error().message;
    EXPECT_EQ(answer->type, MessageType::Failed);
  });
  ASSERT_FALSE(moved);
  EXPECT_THAT(text(moved), HasSubstr("receive: the peer closed the connection"));
}

// The source may be busy for long with what only the control channel carries.
TEST_F(Channels, one_for_memory_may_be_silent_while_the_control_channel_is_not) {
  constexpr auto kStall = 60ms;
  const auto moved = receive(
      [&] {
        Channel control = connect();
        greet(control, 0);
        Channel other = connect();
        greet(other, 1);
        set_up(control);
        send_zeros(control);
        const auto begin = std::chrono::steady_clock::now();
        while (std::chrono::steady_clock::now() - begin < 4 * kStall) {
          ASSERT_TRUE(control.send(MessageType::Alive, {}));
          std::this_thread::yield();
        }
        finish(control, other);
      },
      kStall);
  EXPECT_TRUE(moved) << text(moved);
}

// A host that dies says nothing any more, on no channel, and its connections stay.
TEST_F(Channels, a_source_that_dies_while_one_has_ended_its_round_is_given_up) {
  const auto moved = receive(
      [&] {
        Channel control = connect();
        greet(control, 0);
        Channel other = connect();
        greet(other, 1);
        set_up(control);
        send_zeros(control);
        ASSERT_TRUE(control.send(MessageType::RoundEnd, bytes_of(RoundEnd{.round = 1, .final = 0})));
        const auto answer = control.receive();
        ASSERT_TRUE(answer) << answer.error().message;
        EXPECT_EQ(answer->type, MessageType::Failed);
      },
      60ms);
  ASSERT_FALSE(moved);
  EXPECT_EQ(moved.error().code, ETIMEDOUT);
  EXPECT_THAT(text(moved), HasSubstr("the source sends the end of a round on one channel, and nothing on another"));
}

TEST_F(Channels, a_source_that_opens_too_few_is_given_up) {
  const auto moved = receive(
      [&] {
        Channel control = connect();
        greet(control, 0);
        while (control.receive()) {
        }
      },
      60ms);
  ASSERT_FALSE(moved);
  EXPECT_THAT(text(moved), HasSubstr("wait for the source's further channels"));
}

TEST(RoundGate, nobody_passes_before_all_arrived) {
  RoundGate gate(3);
  std::atomic<int> passed{0};
  std::vector<std::jthread> others;
  for (int i = 0; i < 2; ++i) {
    others.emplace_back([&] {
      for (std::uint32_t round = 1; round <= 100; ++round) {
        ASSERT_TRUE(gate.arrive({.round = round, .final = round == 100 ? 1U : 0U}));
        ++passed;
      }
    });
  }
  for (std::uint32_t round = 1; round <= 100; ++round) {
    EXPECT_LE(passed.load(), 2 * static_cast<int>(round - 1));
    ASSERT_TRUE(gate.arrive({.round = round, .final = round == 100 ? 1U : 0U}));
  }
  others.clear();
  EXPECT_TRUE(gate.finished());
  EXPECT_FALSE(gate.arrive({.round = 101, .final = 0}));
}

TEST(RoundGate, an_abort_wakes_who_waits) {
  RoundGate gate(2);
  auto waiting = std::async(std::launch::async, [&] { return gate.arrive({.round = 1, .final = 0}); });
  gate.abort();
  const auto arrived = waiting.get();
  ASSERT_FALSE(arrived);
  EXPECT_EQ(arrived.error().code, ECANCELED);
}

TEST(RoundGate, channels_must_agree_on_what_is_final) {
  RoundGate gate(2);
  auto other = std::async(std::launch::async, [&] {
    auto arrived = gate.arrive({.round = 1, .final = 0});
    if (!arrived) gate.abort();
    return arrived;
  });
  auto arrived = gate.arrive({.round = 1, .final = 1});
  if (!arrived) gate.abort();
  const auto others = other.get();
  EXPECT_FALSE(arrived);
  EXPECT_FALSE(others);
}

}  // namespace
}  // namespace gangway::migrate
