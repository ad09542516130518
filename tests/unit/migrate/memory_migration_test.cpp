// A machine's memory arrives as it is when the machine stops, whatever wrote to it meanwhile.
#include <chrono>
#include <cstring>

#include <gtest/gtest.h>

#include "migrate_pair.h"
#include "test_machine.h"

namespace gangway::migrate {
namespace {

using namespace std::chrono_literals;

struct Pair {
  explicit Pair(const std::vector<BlockSpec>& blocks = {{"ram0", 0, 256}}, std::string_view where = "tcp:127.0.0.1:0")
      : from(blocks), to(blocks), listener(Listener::bind(where).value()) {
    to.set_running(false);
  }
  TestMachine from;
  TestMachine to;
  Listener listener;
};

void expect_moved(const Outcome& outcome, const Pair& pair) {
  ASSERT_TRUE(outcome.source) << text(outcome.source) << " / " << text(outcome.destination);
  ASSERT_TRUE(outcome.destination) << text(outcome.destination);
  EXPECT_EQ(difference(pair.from, pair.to), "");
  EXPECT_FALSE(pair.from.running()) << "the source runs on after the destination took over";
  EXPECT_TRUE(pair.to.running()) << "the destination does not run";
  EXPECT_EQ(pair.to.cpus, pair.from.cpus);
}

TEST(MemoryMigration, idle_memory_arrives) {
  Pair pair;
  pair.from.fill(1, 3);
  pair.from.cpus = "registers";
  expect_moved(migrate_pair(pair.from, pair.to, pair.listener), pair);
}

// A device's state change, CPUs, a large memory to map: none of them says anything while it lasts.
TEST(MemoryMigration, a_step_that_takes_longer_than_the_peer_waits_is_waited_for) {
  constexpr auto kStall = 400ms;
  const auto take_long = [&]() -> Result<void> {
    std::this_thread::sleep_for(2 * kStall);
    return {};
  };
  Pair pair;
  pair.from.fill(1, 3);
  pair.from.on_save_cpus = take_long;
  pair.to.on_load_cpus = take_long;
  pair.to.on_resume = take_long;
  expect_moved(migrate_pair(pair.from, pair.to, pair.listener, {.stall = kStall}, {.stall = kStall}), pair);
}

TEST(MemoryMigration, works_over_a_unix_socket) {
  const std::string path = testing::TempDir() + "gangway-migrate-" + std::to_string(::getpid()) + ".sock";
  Pair pair({{"ram0", 0, 64}}, "unix:" + path);
  pair.from.fill(2);
  expect_moved(migrate_pair(pair.from, pair.to, pair.listener), pair);
}

TEST(MemoryMigration, a_block_may_end_within_a_word_of_the_bitmap) {
  Pair pair({{"low", 0, 67}, {"high", 0x100000000, 1}, {"big", 0x200000000, 3001}});
  pair.from.fill(3, 5);
  expect_moved(migrate_pair(pair.from, pair.to, pair.listener), pair);
}

TEST(MemoryMigration, a_machine_without_memory_moves) {
  Pair pair(std::vector<BlockSpec>{});
  expect_moved(migrate_pair(pair.from, pair.to, pair.listener), pair);
}

TEST(MemoryMigration, untouched_memory_stays_unallocated_without_prefault) {
  Pair pair({{"ram0", 0, 4096}});
  const std::byte one{1};
  pair.from.write(0, 1000 * kPageSize, std::span(&one, 1));
  const Outcome outcome = migrate_pair(pair.from, pair.to, pair.listener, {}, {.prefault = false});
  expect_moved(outcome, pair);
  EXPECT_EQ(outcome.source->memory_bytes, kPageSize);
  EXPECT_EQ(outcome.destination->memory_bytes, kPageSize);
}

TEST(MemoryMigration, what_the_destination_held_before_is_gone) {
  Pair pair;
  pair.from.fill(4, 2);
  pair.to.fill(5);
  expect_moved(migrate_pair(pair.from, pair.to, pair.listener), pair);
}

TEST(MemoryMigration, a_page_that_becomes_zero_arrives_as_zero) {
  Pair pair;
  pair.from.fill(6);
  const std::vector<std::byte> zeros(kPageSize);
  pair.from.tracker().on_collect = [&](int n) {
    if (n == 1) pair.from.write(0, 7 * kPageSize, zeros);
  };
  expect_moved(migrate_pair(pair.from, pair.to, pair.listener), pair);
}

TEST(MemoryMigration, pages_written_in_every_round_arrive) {
  Pair pair;
  pair.from.fill(7);
  int last = 0;
  pair.from.tracker().on_collect = [&](int n) {
    last = n;
    for (std::uint64_t page = 0; page < 256; page += 3) {
      pair.from.write(0, page * kPageSize + 8, std::as_bytes(std::span(&n, 1)));
    }
  };
  const Outcome outcome = migrate_pair(pair.from, pair.to, pair.listener, {.max_downtime = 0ms, .max_rounds = 6});
  expect_moved(outcome, pair);
  EXPECT_EQ(outcome.source->rounds, 7);
  EXPECT_EQ(outcome.destination->rounds, 7);
  EXPECT_FALSE(outcome.source->converged);
  int arrived = 0;
  std::memcpy(&arrived, pair.to.bytes(0).data() + 8, sizeof arrived);
  EXPECT_EQ(arrived, last);
}

struct Writers : testing::TestWithParam<std::tuple<unsigned, bool>> {};

TEST_P(Writers, memory_arrives_under_concurrent_writes) {
  const auto [channels, checksums] = GetParam();
  Pair pair({{"ram0", 0, 3000}, {"ram1", 0x100000000, 5000}});
  pair.from.fill(8, 4);
  pair.from.run_writer(9);
  const Outcome outcome =
      migrate_pair(pair.from, pair.to, pair.listener,
                   {.max_downtime = 0ms, .max_rounds = 8, .channels = channels, .page_checksums = checksums});
  expect_moved(outcome, pair);
}
INSTANTIATE_TEST_SUITE_P(Channels, Writers, testing::Combine(testing::Values(1, 2, 3, 8), testing::Bool()));

TEST(MemoryMigration, a_machine_that_arrived_can_leave_again) {
  Pair pair;
  pair.from.fill(10, 3);
  expect_moved(migrate_pair(pair.from, pair.to, pair.listener), pair);
  pair.from.fill(11);
  const Outcome back = migrate_pair(pair.to, pair.from, pair.listener);
  ASSERT_TRUE(back.source) << text(back.source);
  EXPECT_EQ(difference(pair.from, pair.to), "");
}

TEST(MemoryMigration, no_rounds_means_everything_while_it_stands_still) {
  Pair pair;
  pair.from.fill(12);
  const Outcome outcome = migrate_pair(pair.from, pair.to, pair.listener, {.max_rounds = 0});
  expect_moved(outcome, pair);
  EXPECT_EQ(outcome.source->rounds, 1);
}

TEST(MemoryMigration, the_phases_add_up_to_the_total) {
  Pair pair;
  pair.from.fill(13);
  const Outcome outcome = migrate_pair(pair.from, pair.to, pair.listener);
  ASSERT_TRUE(outcome.source) << text(outcome.source);
  std::chrono::nanoseconds sum{0};
  std::vector<std::string> names;
  for (const Phase& phase : outcome.source->phases) {
    sum += phase.took;
    names.push_back(phase.name);
  }
  EXPECT_EQ(sum, outcome.source->total);
  EXPECT_LE(outcome.source->downtime, outcome.source->total);
  const std::vector<std::string> expected{"connect",
                                          "setup",
                                          "pre-copy",
                                          "switchover: pause",
                                          "switchover: stop devices",
                                          "switchover: memory",
                                          "switchover: devices",
                                          "switchover: load",
                                          "switchover: run",
                                          "clean up"};
  EXPECT_EQ(names, expected);
}

}  // namespace
}  // namespace gangway::migrate
