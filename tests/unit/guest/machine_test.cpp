// The guest on real NVMe controllers, served over sockets, in one process: booted, verified, migrated.
#include "guest/machine.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <future>
#include <thread>

#include <gangway/endpoint.h>
#include <gangway/server.h>

#include "devices/nvme/controller.h"
#include "migrate/destination.h"
#include "migrate/source.h"

namespace gangway::guest {
namespace {

// A controller on an image, behind a socket.
class ServedDisk {
 public:
  ServedDisk(std::filesystem::path image, std::filesystem::path socket) : socket_(std::move(socket)) {
    auto controller = gangway::nvme::Controller::create({.namespaces = {{.path = std::move(image)}}});
    EXPECT_TRUE(controller.has_value()) << controller.error().message;
    auto endpoint = Endpoint::create(std::move(*controller));
    EXPECT_TRUE(endpoint.has_value()) << endpoint.error().message;
    endpoint_ = std::move(*endpoint);
    auto server = Server::listen(socket_, *endpoint_);
    EXPECT_TRUE(server.has_value()) << server.error().message;
    server_ = std::move(*server);
    const auto started = server_->start();
    EXPECT_TRUE(started.has_value()) << started.error().message;
  }
  [[nodiscard]] std::string target() const { return "vfio-user:" + socket_.string(); }
  void stop() { server_->stop(); }

 private:
  std::filesystem::path socket_;
  std::unique_ptr<Endpoint> endpoint_;
  std::unique_ptr<Server> server_;
};

class Machine : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "gangway-machine-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    directory_ = pattern;
    const Fd image(::open((directory_ / "disk.img").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    ASSERT_TRUE(image);
    ASSERT_EQ(::ftruncate(image.get(), 16 << 20), 0);
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  std::unique_ptr<ServedDisk> serve(const std::string& name) {
    return std::make_unique<ServedDisk>(directory_ / "disk.img", directory_ / name);
  }
  static std::unique_ptr<GuestMachine> make_machine(const ServedDisk& disk) {
    auto handle = open_device(disk.target());
    EXPECT_TRUE(handle.has_value()) << handle.error().message;
    std::vector<GuestMachine::Device> devices;
    devices.push_back({.id = "nvme0", .handle = std::move(*handle)});
    auto machine = GuestMachine::create({.size = 32U << 20}, std::move(devices));
    EXPECT_TRUE(machine.has_value()) << machine.error().message;
    return std::move(*machine);
  }
  static BootOptions boot_options() {
    return {.seed = 42, .depth = 16, .block_size = 8192, .dirty_span = 4U << 20, .dirty_rate = 64U << 20};
  }
  // Until so many more commands completed, or something went wrong.
  static void let_work(const GuestMachine& machine, std::uint64_t commands) {
    const std::uint64_t goal = machine.totals().commands() + commands;
    while (machine.totals().commands() < goal && machine.findings().failure().empty()) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));  // leaves the cores to those who work
    }
    EXPECT_EQ(machine.findings().failure(), "");
  }
  static void expect_right(GuestMachine& machine) {
    EXPECT_TRUE(machine.finish()) << machine.findings().first_bad() << machine.findings().failure();
    const Totals totals = machine.totals();
    EXPECT_GT(totals.blocks_verified(), 0U);
    EXPECT_EQ(totals.blocks_bad(), 0U);
    EXPECT_EQ(totals.errors(), 0U);
    EXPECT_GT(totals.memory.verified, 0U);
    EXPECT_EQ(totals.memory.bad, 0U);
  }
  // Both ends of a migration, over a UNIX socket.
  struct Moved {
    Result<migrate::SourceReport> source;
    Result<migrate::DestinationReport> destination;
  };
  Moved move(GuestMachine& from, GuestMachine& to) {
    auto listener = migrate::Listener::bind("unix:" + (directory_ / "migration").string());
    EXPECT_TRUE(listener.has_value()) << listener.error().message;
    auto arrival = std::async(std::launch::async, [&] { return listener->migrate_in(to); });
    auto departure = migrate::migrate_out(from, listener->address(), {});
    return {std::move(departure), arrival.get()};
  }

  std::filesystem::path directory_;
};

TEST_F(Machine, verified_work_finds_everything_right) {
  const auto disk = serve("a");
  const auto machine = make_machine(*disk);
  const auto booted = machine->boot(boot_options());
  ASSERT_TRUE(booted.has_value()) << booted.error().message;
  let_work(*machine, 2000);
  expect_right(*machine);
  const DiskTotals totals = machine->totals().disks.front();
  EXPECT_EQ(totals.blocks, (16U << 20) / 8192);  // the whole disk
  EXPECT_GT(totals.counters.reads, 0U);
  EXPECT_GT(totals.counters.writes, 0U);
  EXPECT_GT(totals.counters.flushes, 0U);
  EXPECT_GT(totals.interrupts, 0U);
}

TEST_F(Machine, work_keeps_to_the_extents_it_was_given) {
  const auto disk = serve("a");
  const auto machine = make_machine(*disk);
  BootOptions options = boot_options();
  options.disks = {{{1U << 20, 64U << 10}, {4U << 20, 128U << 10}}};
  const auto booted = machine->boot(options);
  ASSERT_TRUE(booted.has_value()) << booted.error().message;
  let_work(*machine, 1000);
  expect_right(*machine);
  const Fd image(::open((directory_ / "disk.img").c_str(), O_RDONLY | O_CLOEXEC));
  std::vector<char> bytes(16 << 20);
  ASSERT_EQ(::pread(image.get(), bytes.data(), bytes.size(), 0), 16 << 20);
  for (std::size_t at = 0; at < bytes.size(); at += 4096) {
    const bool inside =
        (at >= 1U << 20 && at < (1U << 20) + (64U << 10)) || (at >= 4U << 20 && at < (4U << 20) + (128U << 10));
    ASSERT_EQ(bytes[at] != 0, inside) << "at " << at;
  }
}

TEST_F(Machine, a_block_changed_behind_its_back_is_found) {
  const auto disk = serve("a");
  const auto machine = make_machine(*disk);
  BootOptions options = boot_options();
  options.write_percent = 1;
  options.disks = {{{0, 2U << 20}}};
  const auto booted = machine->boot(options);
  ASSERT_TRUE(booted.has_value()) << booted.error().message;
  // Until every block was written once, and hardly any is written again.
  let_work(*machine, 4'000);
  const Fd image(::open((directory_ / "disk.img").c_str(), O_WRONLY | O_CLOEXEC));
  for (off_t at = 5000; at < 2 << 20; at += 64 << 10) ASSERT_EQ(::pwrite(image.get(), "wrong", 5, at), 5);
  EXPECT_FALSE(machine->finish());
  EXPECT_GT(machine->totals().blocks_bad(), 0U);
  EXPECT_NE(machine->findings().first_bad().find("checksum wrong"), std::string::npos)
      << machine->findings().first_bad();
}

TEST_F(Machine, a_disk_smaller_than_its_extents_is_refused) {
  const auto disk = serve("a");
  const auto machine = make_machine(*disk);
  BootOptions options = boot_options();
  options.disks = {{{0, 32U << 20}}};
  const auto booted = machine->boot(options);
  ASSERT_FALSE(booted.has_value());
  EXPECT_EQ(booted.error().message, "nvme0: the stretch of 0x2000000 bytes at 0x0 crosses the end (size 0x1000000)");
}

TEST_F(Machine, a_device_that_goes_away_is_reported) {
  const auto disk = serve("a");
  const auto machine = make_machine(*disk);
  ASSERT_TRUE(machine->boot(boot_options()).has_value());
  let_work(*machine, 100);
  disk->stop();
  EXPECT_FALSE(machine->finish());
  EXPECT_TRUE(machine->findings().failure().starts_with("nvme0: ")) << machine->findings().failure();
}

TEST_F(Machine, it_migrates_under_load_there_and_back) {
  const auto first_disk = serve("a");
  const auto second_disk = serve("b");
  auto here = make_machine(*first_disk);
  ASSERT_TRUE(here->boot(boot_options()).has_value());
  const ServedDisk* from_disk = first_disk.get();
  const ServedDisk* to_disk = second_disk.get();
  for (int hop = 0; hop < 4; ++hop) {
    let_work(*here, 500);
    auto there = make_machine(*to_disk);
    const auto moved = move(*here, *there);
    ASSERT_TRUE(moved.source.has_value()) << moved.source.error().message;
    ASSERT_TRUE(moved.destination.has_value()) << moved.destination.error().message;
    EXPECT_GE(there->totals().commands(), here->totals().commands());
    here = std::move(there);
    std::swap(from_disk, to_disk);
  }
  let_work(*here, 500);
  expect_right(*here);
}

TEST_F(Machine, a_destination_that_refuses_leaves_the_source_running) {
  const auto first_disk = serve("a");
  const auto second_disk = serve("b");
  const auto here = make_machine(*first_disk);
  ASSERT_TRUE(here->boot(boot_options()).has_value());
  let_work(*here, 100);
  // Another amount of memory.
  auto handle = open_device(second_disk->target());
  ASSERT_TRUE(handle.has_value()) << handle.error().message;
  std::vector<GuestMachine::Device> devices;
  devices.push_back({.id = "nvme0", .handle = std::move(*handle)});
  const auto there = GuestMachine::create({.size = 64U << 20}, std::move(devices));
  ASSERT_TRUE(there.has_value()) << there.error().message;
  const auto moved = move(*here, **there);
  ASSERT_FALSE(moved.source.has_value());
  EXPECT_FALSE(moved.destination.has_value());
  let_work(*here, 500);
  expect_right(*here);
}

TEST_F(Machine, memory_that_holds_no_program_is_refused_as_such) {
  const auto disk = serve("a");
  const auto machine = make_machine(*disk);
  std::vector<std::byte> cpus(16);
  EXPECT_FALSE(machine->load_cpus(cpus).has_value());
  const auto other_disk = serve("b");
  const auto other = make_machine(*other_disk);
  ASSERT_TRUE(other->boot(boot_options()).has_value());
  ASSERT_TRUE(other->pause().has_value());
  const auto saved = other->save_cpus();
  ASSERT_TRUE(saved.has_value()) << saved.error().message;
  const auto loaded = machine->load_cpus(*saved);
  ASSERT_FALSE(loaded.has_value());
  EXPECT_EQ(loaded.error().message, "the program in memory: the memory holds no program");
}

}  // namespace
}  // namespace gangway::guest
