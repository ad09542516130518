// A connection that is cut at any byte leaves the machine running in at most one place, and in one unless the cut fell
// between the order to run and its answer.
#include <chrono>
#include <random>
#include <set>
#include <stop_token>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/bytes.h"
#include "cutting_proxy.h"
#include "migrate/message.h"
#include "migrate_pair.h"
#include "test_host.h"

namespace gangway::migrate {
namespace {

using namespace std::chrono_literals;

const std::vector<MigrationFlags> kFlags{{.p2p = true, .pre_copy = true}};

struct Cut : testing::Test {
  Cut() {
    from.machine.fill(1, 3);
    from.start();
    from.devices[0]->set(16, 0);  // no DMA: what passes is the same each time, so that a cut means the same place
    to.wait();
  }

  Outcome move(CutOptions cut, std::chrono::milliseconds stall = 10s) {
    proxy = std::make_unique<CuttingProxy>(listener.address(), cut);
    // A destination that nobody greeted waits for the next source.
    const bool greets = cut.after_to_destination >= sizeof(Hello) && cut.after_to_source != 0;
    std::stop_source stop;
    Outcome outcome;
    std::jthread destination(
        [&] { outcome.destination = listener.migrate_in(to.machine, {.cancel = stop.get_token(), .stall = stall}); });
    outcome.source = migrate_out(from.machine, proxy->address(), {.stall = stall});
    if (!greets) stop.request_stop();
    destination.join();
    proxy->join();
    return outcome;
  }

  // What holds after any end. True if the machine is here.
  bool expect_one_owner(const Outcome& outcome, std::string_view where) {
    EXPECT_FALSE(from.machine.running() && to.machine.running()) << where << ": it runs twice";
    if (outcome.source) {
      EXPECT_TRUE(to.machine.running()) << where;
      return false;
    }
    if (outcome.source.error().code == EINPROGRESS) {
      EXPECT_FALSE(from.machine.running()) << where;
      return false;
    }
    EXPECT_TRUE(from.machine.running()) << where << ": " << text(outcome.source);
    EXPECT_FALSE(to.machine.running()) << where;
    EXPECT_EQ(from.devices[0]->state(), DeviceState::Running) << where;
    EXPECT_FALSE(from.machine.tracker().started()) << where;
    EXPECT_FALSE(from.devices[0]->endpoint().log().started()) << where;
    return true;
  }

  // After an unknown outcome somebody who knows decides; here it is the test.
  void settle(const Outcome& outcome) {
    if (outcome.source) return swap_back();
    if (outcome.source.error().code != EINPROGRESS) return;
    if (to.machine.running()) return swap_back();
    ASSERT_TRUE(from.devices[0]->handle().set_state(DeviceState::Running));
    ASSERT_TRUE(from.machine.resume());
  }
  void swap_back() {
    ASSERT_TRUE(to.machine.pause());
    ASSERT_TRUE(to.devices[0]->handle().set_state(DeviceState::Stop));
    ASSERT_TRUE(from.devices[0]->handle().set_state(DeviceState::Running));
    ASSERT_TRUE(from.machine.resume());
  }

  void expect_moves() {
    const Outcome outcome = migrate_pair(from.machine, to.machine, listener);
    ASSERT_TRUE(outcome.source) << text(outcome.source) << " / " << text(outcome.destination);
    ASSERT_TRUE(outcome.destination) << text(outcome.destination);
    EXPECT_EQ(difference(from.machine, to.machine), "");
    EXPECT_TRUE(to.machine.running());
    swap_back();
  }

  Host from{kFlags};
  Host to{kFlags};
  Listener listener = Listener::bind("tcp:127.0.0.1:0").value();
  std::unique_ptr<CuttingProxy> proxy;
};

// Where the messages of a recorded stream begin and end.
std::set<std::uint64_t> boundaries(const std::vector<std::byte>& stream) {
  std::set<std::uint64_t> at{0, 8, sizeof(Hello)};
  for (std::uint64_t offset = sizeof(Hello); offset < stream.size();) {
    const auto header = *load_at<MessageHeader>(stream, offset);
    at.insert({offset, offset + 1, offset + sizeof header, offset + sizeof header + header.length});
    std::uint64_t next = offset + sizeof header + header.length;
    if (header.type == MessageType::Pages) {
      const std::uint32_t runs = *load_at<std::uint32_t>(stream, offset + sizeof header + 4);
      for (std::uint32_t i = 0; i < runs; ++i) {
        const std::uint64_t run = offset + sizeof header + 8 + i * 16ULL;
        if (*load_at<std::uint32_t>(stream, run + 12) == 0)
          next += *load_at<std::uint32_t>(stream, run + 8) * kPageSize;
      }
    }
    at.insert({next - 1, next});
    offset = next;
  }
  at.erase(at.upper_bound(stream.size()), at.end());
  return at;
}

TEST_F(Cut, at_every_boundary_of_what_the_source_sends) {
  const Outcome whole = move({});
  ASSERT_TRUE(whole.source) << text(whole.source);
  settle(whole);
  const std::vector<std::byte> stream = proxy->to_destination();
  for (const std::uint64_t at : boundaries(stream)) {
    if (at == stream.size()) continue;
    const Outcome outcome = move({.after_to_destination = at});
    const std::string where = "cut after " + std::to_string(at) + " of " + std::to_string(stream.size());
    const bool here = expect_one_owner(outcome, where);
    if (at < stream.size() - sizeof(MessageHeader)) {
      EXPECT_TRUE(here) << where << ": " << text(outcome.source);
    }
    ASSERT_FALSE(outcome.destination) << where;
    settle(outcome);
    if (HasFailure()) return;
  }
  expect_moves();
}

TEST_F(Cut, at_every_byte_of_what_the_destination_answers) {
  const Outcome whole = move({});
  ASSERT_TRUE(whole.source) << text(whole.source);
  settle(whole);
  const std::uint64_t size = proxy->to_source().size();
  for (std::uint64_t at = 0; at < size; at += at < sizeof(Hello) ? 8 : 5) {
    const Outcome outcome = move({.after_to_source = at});
    expect_one_owner(outcome, "cut after " + std::to_string(at) + " of " + std::to_string(size));
    settle(outcome);
    if (HasFailure()) return;
  }
  expect_moves();
}

TEST_F(Cut, at_random_bytes) {
  const Outcome whole = move({});
  ASSERT_TRUE(whole.source) << text(whole.source);
  settle(whole);
  const std::uint64_t size = proxy->to_destination().size();
  std::mt19937_64 random(42);
  for (int i = 0; i < 25; ++i) {
    const std::uint64_t at = random() % (size - sizeof(MessageHeader));  // before COMMIT
    const Outcome outcome = move({.after_to_destination = at});
    EXPECT_TRUE(expect_one_owner(outcome, "cut after " + std::to_string(at)));
    if (i % 8 == 0) expect_moves();
    if (HasFailure()) return;
  }
}

TEST_F(Cut, a_peer_that_stalls_is_given_up) {
  const Outcome whole = move({});
  ASSERT_TRUE(whole.source) << text(whole.source);
  settle(whole);
  const std::uint64_t size = proxy->to_destination().size();
  for (const std::uint64_t at : {std::uint64_t{20}, size / 3, size - 100}) {
    const Outcome outcome = move({.after_to_destination = at, .stall = true}, 100ms);
    EXPECT_TRUE(expect_one_owner(outcome, "stalled after " + std::to_string(at)));
    EXPECT_THAT(text(outcome.source), testing::AnyOf(testing::HasSubstr("no progress within the time limit"),
                                                     testing::HasSubstr("closed the connection")));
    ASSERT_FALSE(outcome.destination);
  }
  expect_moves();
}

}  // namespace
}  // namespace gangway::migrate
