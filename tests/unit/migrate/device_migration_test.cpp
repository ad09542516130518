// Devices served over real sockets move with their machine, in the order that the contract allows.
#include <algorithm>
#include <chrono>
#include <memory>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/bytes.h"
#include "migrate_pair.h"
#include "test_host.h"

namespace gangway::migrate {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

struct DeviceMigration : testing::Test {
  void make(const std::vector<MigrationFlags>& flags) {
    from = std::make_unique<Host>(flags);
    to = std::make_unique<Host>(flags);
    from->machine.fill(1, 3);
    from->start();
    to->wait();
  }
  Outcome move(const SourceOptions& options = {.max_downtime = 20ms, .max_rounds = 4}) {
    return migrate_pair(from->machine, to->machine, listener, options);
  }
  // The memory is compared while the destination's devices are held, since they write on.
  void expect_moved(const Outcome& outcome) {
    ASSERT_TRUE(outcome.source) << text(outcome.source) << " / " << text(outcome.destination);
    ASSERT_TRUE(outcome.destination) << text(outcome.destination);
    EXPECT_TRUE(to->machine.running());
    EXPECT_FALSE(from->machine.running());
    for (const auto& device : to->devices) EXPECT_EQ(device->state(), DeviceState::Running);
  }
  void expect_runs_here(const Outcome& outcome) {
    EXPECT_FALSE(outcome.source) << "it migrated";
    EXPECT_FALSE(outcome.destination) << "it migrated";
    EXPECT_TRUE(from->machine.running()) << "the source does not run";
    EXPECT_FALSE(to->machine.running()) << "the destination runs";
    EXPECT_FALSE(from->machine.tracker().started()) << "writes are still tracked";
    for (const auto& device : from->devices) {
      EXPECT_EQ(device->state(), DeviceState::Running);
      EXPECT_FALSE(device->endpoint().log().started()) << "DMA is still logged";
      const std::uint64_t count = device->count();
      while (device->count() == count) std::this_thread::yield();  // its state is alive: it goes on counting
    }
  }

  std::unique_ptr<Host> from;
  std::unique_ptr<Host> to;
  Listener listener = Listener::bind("tcp:127.0.0.1:0").value();
};

struct DeviceFlags : DeviceMigration, testing::WithParamInterface<MigrationFlags> {};

TEST_P(DeviceFlags, memory_that_devices_write_arrives) {
  make({GetParam(), GetParam()});
  // The destination's devices begin to write as soon as they run: what arrived is looked at before.
  std::string differs = "never compared";
  to->machine.on_load_cpus = [&]() -> Result<void> {
    differs = difference(from->machine, to->machine);
    return {};
  };
  const Outcome outcome = move();
  expect_moved(outcome);
  EXPECT_EQ(differs, "");
  EXPECT_GT(outcome.source->device_bytes, 2U * (256 << 10));
  EXPECT_EQ(outcome.source->device_bytes, outcome.destination->device_bytes);
  for (std::size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(from->devices[i]->state(), DeviceState::Stop);
    EXPECT_GE(to->devices[i]->count(), from->devices[i]->count()) << "the count was lost";
  }
}
INSTANTIATE_TEST_SUITE_P(All, DeviceFlags, testing::ValuesIn(kAllMigrationFlags),
                         [](const auto& info) { return "flags" + std::to_string(info.param.bits()); });

// P2P-ORDER: no device is stopped while another may still reach it.
TEST_F(DeviceMigration, all_devices_stop_initiating_before_any_stops) {
  make({{.p2p = true, .pre_copy = true}, {.p2p = true, .pre_copy = false}, {.p2p = true, .pre_copy = true}});
  expect_moved(move());
  const std::vector<std::string> p2p{"dev0: PRE_COPY_P2P", "dev1: RUNNING_P2P", "dev2: PRE_COPY_P2P"};
  for (const std::string& quiet : p2p) {
    ASSERT_TRUE(from->has(quiet)) << quiet;
    for (int i = 0; i < 3; ++i)
      EXPECT_LT(from->first(quiet), from->first("dev" + std::to_string(i) + ": STOP_COPY")) << quiet;
  }
  for (int i = 0; i < 3; ++i) {
    for (int k = 0; k < 3; ++k) {
      EXPECT_LT(to->first("dev" + std::to_string(i) + ": RUNNING_P2P"),
                to->first("dev" + std::to_string(k) + ": RUNNING"));
    }
  }
}

// RST-NOT-REQUIRED, and the machine prepares a device before that.
TEST_F(DeviceMigration, the_destination_enters_resuming_without_a_reset) {
  make({{.p2p = true, .pre_copy = true}});
  expect_moved(move());
  EXPECT_THAT(*to->log, testing::ElementsAre("dev0: prepared", "dev0: RESUMING", "dev0: STOP", "dev0: RUNNING_P2P",
                                             "dev0: RUNNING"));
}

// LOG-EXACT needs the log before the first copy.
TEST_F(DeviceMigration, writes_are_logged_before_anything_is_copied_and_until_the_device_stopped) {
  make({{.p2p = true, .pre_copy = true}});
  expect_moved(move());
  EXPECT_THAT(*from->log, testing::ElementsAre("dev0: log start", "dev0: PRE_COPY", "dev0: PRE_COPY_P2P",
                                               "dev0: STOP_COPY", "dev0: STOP", "dev0: log stop"));
}

TEST_F(DeviceMigration, a_device_without_a_log_costs_downtime_and_nothing_else) {
  make({{.p2p = true, .pre_copy = true}, {.p2p = true, .pre_copy = true}});
  from->devices[1]->handle().fail_next("log start", 2);
  std::string differs = "never compared";
  to->machine.on_load_cpus = [&]() -> Result<void> {
    differs = difference(from->machine, to->machine);
    return {};
  };
  const Outcome outcome = move();
  expect_moved(outcome);
  EXPECT_EQ(differs, "");
  EXPECT_EQ(outcome.source->rounds, 1) << "rounds that cannot help were sent";
}

// LOG-ERROR
TEST_F(DeviceMigration, a_log_that_fails_makes_all_memory_dirty) {
  make({{.p2p = true, .pre_copy = true}});
  from->devices[0]->handle().fail_next("log report");
  std::string differs = "never compared";
  to->machine.on_load_cpus = [&]() -> Result<void> {
    differs = difference(from->machine, to->machine);
    return {};
  };
  const Outcome outcome = move();
  expect_moved(outcome);
  EXPECT_EQ(differs, "");
  EXPECT_EQ(outcome.source->rounds, 2);
}

TEST_F(DeviceMigration, a_log_left_by_somebody_else_is_taken_over) {
  make({{.p2p = true, .pre_copy = true}});
  const IovaRange range{.start = {0}, .size = kPageSize};
  ASSERT_TRUE(from->devices[0]->handle().dma_logging_start(std::span(&range, 1), kPageSize));
  const Outcome outcome = move();
  expect_moved(outcome);
  EXPECT_GT(outcome.source->rounds, 1) << "the log counted as broken";
}

TEST_F(DeviceMigration, config_space_arrives) {
  make({{.p2p = true, .pre_copy = true}});
  DeviceHandle& device = from->devices[0]->handle();
  const std::uint32_t bar = 0xfe000000;
  const std::uint16_t command = 0x0406;
  const std::uint8_t line = 11;
  ASSERT_TRUE(device.write(7, 0x10, bytes_of(bar)));
  ASSERT_TRUE(device.write(7, 0x3c, bytes_of(line)));
  ASSERT_TRUE(device.write(7, 0x04, bytes_of(command)));
  const auto msix = from->devices[0]->endpoint().device().info().pci.msix;
  ASSERT_TRUE(msix);
  // MSI-X enable in its capability's control word.
  std::vector<std::byte> config(256);
  ASSERT_TRUE(device.read(7, 0, config));
  std::size_t capability = static_cast<std::size_t>(config[0x34]);
  while (capability != 0 && config[capability] != std::byte{0x11})
    capability = static_cast<std::size_t>(config[capability + 1]);
  ASSERT_NE(capability, 0U);
  const std::uint16_t control = 0x8000;
  ASSERT_TRUE(device.write(7, capability + 2, bytes_of(control)));

  expect_moved(move());

  std::vector<std::byte> there(256);
  ASSERT_TRUE(to->devices[0]->handle().read(7, 0, there));
  EXPECT_EQ(load_at<std::uint32_t>(there, 0x10), bar);
  EXPECT_EQ(load_at<std::uint16_t>(there, 0x04), command);
  EXPECT_EQ(there[0x3c], std::byte{line});
  EXPECT_NE(*load_at<std::uint16_t>(there, capability + 2) & control, 0);
  // BARs first, COMMAND last.
  const auto& writes = to->devices[0]->handle().config_writes;
  EXPECT_EQ(writes.front(), 0x10U);
  EXPECT_EQ(writes.back(), 0x04U);
}

TEST_F(DeviceMigration, other_migration_flags_are_refused) {
  from = std::make_unique<Host>(std::vector<MigrationFlags>{{.p2p = true, .pre_copy = true}});
  to = std::make_unique<Host>(std::vector<MigrationFlags>{{.p2p = true, .pre_copy = false}});
  from->start();
  to->wait();
  const Outcome outcome = move();
  expect_runs_here(outcome);
  EXPECT_THAT(text(outcome.source),
              HasSubstr("device 0 is dev0 (migration flags 0x7) at the source and dev0 (migration "
                        "flags 0x3) here"));
  EXPECT_TRUE(to->log->empty()) << "the destination's device was touched";
}

TEST_F(DeviceMigration, another_device_is_refused) {
  from = std::make_unique<Host>(std::vector<MigrationFlags>{{}});
  to = std::make_unique<Host>(std::vector<MigrationFlags>{{}}, ScribeOptions{.pci_device = 0x1234});
  from->start();
  to->wait();
  const Outcome outcome = move();
  expect_runs_here(outcome);
  EXPECT_THAT(text(outcome.source), HasSubstr("vendor and device is 0x5c1b1b36 at the source and 0x12341b36 here"));
}

// DAT-IDENTITY: with PRE_COPY the refusal comes before the machine was stopped.
TEST_F(DeviceMigration, a_device_of_an_older_model_refuses_early) {
  from = std::make_unique<Host>(std::vector<MigrationFlags>{{.p2p = true, .pre_copy = true}},
                                ScribeOptions{.model_version = 2});
  to = std::make_unique<Host>(std::vector<MigrationFlags>{{.p2p = true, .pre_copy = true}});
  from->start();
  to->wait();
  const Outcome outcome = move();
  expect_runs_here(outcome);
  EXPECT_THAT(text(outcome.source), HasSubstr("pre-copy: the destination gave up"));
}

struct Failure {
  const char* name;
  bool at_source;
  std::size_t device;
  const char* what;
  const char* sentence;  // within the source's error
};
struct DeviceFailures : DeviceMigration, testing::WithParamInterface<Failure> {};

TEST_P(DeviceFailures, the_source_runs_on_and_the_next_migration_succeeds) {
  const Failure& failure = GetParam();
  make({{.p2p = true, .pre_copy = true}, {.p2p = true, .pre_copy = true}});
  Host& host = failure.at_source ? *from : *to;
  host.devices[failure.device]->handle().fail_next(failure.what);
  const Outcome outcome = move();
  expect_runs_here(outcome);
  EXPECT_THAT(text(outcome.source), HasSubstr(failure.sentence));
  for (const auto& device : to->devices) EXPECT_EQ(device->state(), DeviceState::Running);

  expect_moved(move());
}
constexpr Failure kFailures[] = {
    {"source_config", true, 1, "config", "setup: device dev1: config space: config fails as told"},
    {"source_pre_copy", true, 1, "PRE_COPY", "setup: device dev1: to PRE_COPY: PRE_COPY fails as told"},
    {"source_read", true, 0, "read_data", "pre-copy: device dev0: read_data fails as told"},
    {"source_p2p", true, 1, "PRE_COPY_P2P", "switchover: stop devices: device dev1: to PRE_COPY_P2P"},
    {"source_stop", true, 1, "STOP_COPY", "switchover: stop devices: device dev1: to STOP_COPY"},
    {"destination_resuming", false, 1, "RESUMING", "the destination gave up: setup: device dev1: to RESUMING"},
    {"destination_write", false, 0, "write_data", "the destination gave up: receive: device dev0: write_data"},
    // While the machine runs: a device says what it thinks of its data before memory is taken.
    {"destination_settle", false, 1, "settle", "pre-copy: the destination gave up: receive: device dev1: settle"},
    {"destination_load", false, 1, "STOP", "the destination gave up: load: device dev1: to STOP"},
    {"destination_p2p", false, 0, "RUNNING_P2P", "the destination gave up: run: device dev0: to RUNNING_P2P"},
};
INSTANTIATE_TEST_SUITE_P(Each, DeviceFailures, testing::ValuesIn(kFailures),
                         [](const auto& info) { return info.param.name; });

// Once a device ran there it may have written its disk: nobody may run it here.
TEST_F(DeviceMigration, after_a_device_ran_there_the_source_stays_paused) {
  make({{.p2p = true, .pre_copy = true}, {.p2p = true, .pre_copy = true}});
  to->devices[1]->handle().fail_next("RUNNING");
  const Outcome outcome = move();
  ASSERT_FALSE(outcome.source);
  EXPECT_EQ(outcome.source.error().code, EINPROGRESS);
  EXPECT_THAT(text(outcome.source), HasSubstr("the machine stays paused here"));
  EXPECT_FALSE(from->machine.running());
  EXPECT_FALSE(to->machine.running());
  for (const auto& device : from->devices) EXPECT_EQ(device->state(), DeviceState::StopCopy);
}

// How the destination's first device does not come to run, and whether the source may run it again.
struct NoRun {
  const char* name;
  bool p2p;
  const char* fails;  // the SET
  bool silent;        // and the device does not say where it is
  bool source_runs_on;
};
struct Unsure : DeviceMigration, testing::WithParamInterface<NoRun> {};

TEST_P(Unsure, the_source_runs_on_only_where_the_device_says_that_it_stands_still) {
  const NoRun& how = GetParam();
  make({{.p2p = how.p2p, .pre_copy = true}});
  to->machine.on_load_cpus = [&]() -> Result<void> {
    to->devices[0]->handle().fail_next(how.fails);
    if (how.silent) to->devices[0]->handle().fail_next("state");
    return {};
  };
  const Outcome outcome = move();
  to->devices[0]->handle().clear_failures();
  ASSERT_FALSE(outcome.source);
  EXPECT_EQ(from->machine.running(), how.source_runs_on) << text(outcome.source);
  EXPECT_EQ(outcome.source.error().code == EINPROGRESS, !how.source_runs_on) << text(outcome.source);
  EXPECT_FALSE(to->machine.running());
}
constexpr NoRun kNoRuns[] = {
    {"refused", false, "RUNNING", false, true},
    {"refused_and_silent", false, "RUNNING", true, false},
    {"carried_out_late", false, "late RUNNING", false, false},
    {"p2p_refused", true, "RUNNING_P2P", false, true},
    {"p2p_refused_and_silent", true, "RUNNING_P2P", true, false},
    {"p2p_carried_out_late", true, "late RUNNING_P2P", false, false},
    {"refused_in_p2p", true, "RUNNING", false, false},  // there it may have done all but P2P DMA
};
INSTANTIATE_TEST_SUITE_P(Each, Unsure, testing::ValuesIn(kNoRuns), [](const auto& info) { return info.param.name; });

// What the owner does who knows that it does not run there.
TEST_F(DeviceMigration, a_machine_in_doubt_is_resumed_by_its_owner) {
  make({{.p2p = true, .pre_copy = true}, {.p2p = true, .pre_copy = true}});
  to->devices[1]->handle().fail_next("RUNNING");
  ASSERT_EQ(move().source.error().code, EINPROGRESS);
  const auto resumed = resume_here(from->machine);
  ASSERT_TRUE(resumed) << resumed.error().message;
  EXPECT_TRUE(from->machine.running());
  for (const auto& device : from->devices) {
    EXPECT_EQ(device->state(), DeviceState::Running);
    const std::uint64_t count = device->count();
    while (device->count() == count) std::this_thread::yield();
  }
  expect_moved(move());
}

TEST_F(DeviceMigration, a_device_that_cannot_be_taken_back_is_reset_and_reported) {
  make({{.p2p = true, .pre_copy = true}});
  from->devices[0]->handle().fail_next("RUNNING");
  to->devices[0]->handle().fail_next("STOP");
  const Outcome outcome = move();
  ASSERT_FALSE(outcome.source);
  EXPECT_TRUE(from->machine.running());
  EXPECT_EQ(from->devices[0]->state(), DeviceState::Running);
  EXPECT_TRUE(from->has("dev0: reset"));
  EXPECT_THAT(text(outcome.source), HasSubstr("and the machine does not run as before: device dev0: to RUNNING"));
}

// FSM-REPEAT
TEST_F(DeviceMigration, moves_there_and_back_and_there) {
  make({{.p2p = true, .pre_copy = true}});
  expect_moved(move());
  std::swap(from, to);
  to->wait();
  expect_moved(move());
  std::swap(from, to);
  to->wait();
  expect_moved(move());
}

}  // namespace
}  // namespace gangway::migrate
