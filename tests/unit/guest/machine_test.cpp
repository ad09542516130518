// The guest on real NVMe controllers, served over sockets, in one process: booted, verified, migrated.
#include "guest/machine.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <future>
#include <thread>

#include <gangway/endpoint.h>
#include <gangway/server.h>

#include "devices/nvme/controller.h"
#include "devices/serial/card.h"
#include "guest/guest.h"
#include "guest/program.h"
#include "guest/program_state.h"
#include "migrate/destination.h"
#include "migrate/source.h"

namespace gangway::guest {
namespace {

std::unique_ptr<Device> make_controller(std::filesystem::path image) {
  auto controller = gangway::nvme::Controller::create({.namespaces = {{.path = std::move(image)}}});
  EXPECT_TRUE(controller.has_value()) << controller.error().message;
  return std::move(*controller);
}

// A device behind a socket.
class ServedDevice {
 public:
  ServedDevice(std::unique_ptr<Device> device, std::filesystem::path socket) : socket_(std::move(socket)) {
    auto endpoint = Endpoint::create(std::move(device));
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

  std::unique_ptr<ServedDevice> serve(const std::string& name) {
    return std::make_unique<ServedDevice>(make_controller(directory_ / "disk.img"), directory_ / name);
  }
  std::unique_ptr<ServedDevice> serve_card(const std::string& name) {
    return std::make_unique<ServedDevice>(std::make_unique<serial::Card>(), directory_ / name);
  }
  static std::unique_ptr<GuestMachine> make_machine(const ServedDevice& disk) {
    return make_machine({{"nvme0", disk.target()}});
  }
  static std::unique_ptr<GuestMachine> make_machine(const std::vector<std::pair<std::string, std::string>>& targets) {
    std::vector<GuestMachine::Device> devices;
    for (const auto& [id, target] : targets) {
      auto handle = open_device(target);
      EXPECT_TRUE(handle.has_value()) << handle.error().message;
      devices.push_back({.id = id, .handle = std::move(*handle)});
    }
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
    EXPECT_EQ(totals.memory_pages, 1024U);
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
  const ServedDevice* from_disk = first_disk.get();
  const ServedDevice* to_disk = second_disk.get();
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

// The card's scratch register is nobody's but the driver's, of which there is none.
TEST_F(Machine, a_device_that_is_no_disk_moves_along_with_its_state) {
  constexpr std::uint32_t kBar0 = to_number(RegionIndex::Bar0);
  constexpr std::uint64_t kScratch = 7;
  const auto first_disk = serve("a");
  const auto first_card = serve_card("card-a");
  const auto second_disk = serve("b");
  const auto second_card = serve_card("card-b");
  // The card comes first, so that disks and devices are numbered differently.
  const auto here = make_machine({{"serial0", first_card->target()}, {"nvme0", first_disk->target()}});
  const auto booted = here->boot(boot_options());
  ASSERT_TRUE(booted.has_value()) << booted.error().message;
  ASSERT_EQ(here->connected().size(), 2U);
  EXPECT_FALSE(here->connected()[0].driven);
  EXPECT_EQ(here->connected()[0].class_code, 0x070002U);
  EXPECT_TRUE(here->connected()[1].driven);
  const std::byte written{0xa5};
  ASSERT_TRUE(here->devices()[0].handle->write(kBar0, kScratch, std::span(&written, 1)).has_value());
  let_work(*here, 500);
  EXPECT_GT(here->totals().disks.front().interrupts, 0U) << "those of the disk";

  const auto there = make_machine({{"serial0", second_card->target()}, {"nvme0", second_disk->target()}});
  const auto moved = move(*here, *there);
  ASSERT_TRUE(moved.source.has_value()) << moved.source.error().message;
  ASSERT_TRUE(moved.destination.has_value()) << moved.destination.error().message;
  std::byte arrived{};
  ASSERT_TRUE(there->devices()[0].handle->read(kBar0, kScratch, std::span(&arrived, 1)).has_value());
  EXPECT_EQ(arrived, written);
  let_work(*there, 500);
  expect_right(*there);
}

TEST_F(Machine, what_may_be_written_is_said_of_each_disk_and_of_nothing_else) {
  const auto disk = serve("a");
  const auto card = serve_card("card");
  const auto machine = make_machine({{"nvme0", disk->target()}, {"serial0", card->target()}});
  BootOptions options = boot_options();
  options.whole_disks = false;
  auto booted = machine->boot(options);
  ASSERT_FALSE(booted.has_value());
  EXPECT_EQ(booted.error().code, EROFS);
  EXPECT_EQ(booted.error().message, "nvme0: nothing says what of the disk may be written");
  options.disks = {{{0, 1U << 20}}, {{0, 4096}}};
  booted = machine->boot(options);
  ASSERT_FALSE(booted.has_value());
  EXPECT_EQ(booted.error().message,
            "serial0: no stretch of it can be written: it is no NVMe controller (class 0x070002)");
  options.disks.pop_back();
  booted = machine->boot(options);
  ASSERT_TRUE(booted.has_value()) << booted.error().message;
  let_work(*machine, 200);
  expect_right(*machine);
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

// What a page of the workload's state may have become on the way, and what is said of it.
struct Damage {
  const char* name;
  void (*change)(DiskState&, std::span<Slot>, std::span<BlockState>);
  const char* said;
};

TEST_F(Machine, a_workload_that_contradicts_itself_is_refused) {
  const auto disk = serve("a");
  const auto machine = make_machine(*disk);
  ASSERT_TRUE(machine->boot(boot_options()).has_value());
  let_work(*machine, 2000);
  ASSERT_TRUE(machine->pause().has_value());
  const auto saved = machine->save_cpus();
  ASSERT_TRUE(saved.has_value()) << saved.error().message;

  const auto config = load_config(machine->ram());
  ASSERT_TRUE(config.has_value()) << config.error().message;
  const DiskLayout layout = lay_out(*config, machine->ram())->disks.front();
  DiskState& state = *machine->ram().object<DiskState>(layout.state);
  const auto slots = machine->ram().objects<Slot>(layout.queues.front().slots, config->depth);
  const auto table = machine->ram().objects<BlockState>(layout.table, config->disks[0].blocks);
  const std::vector<Slot> good_slots(slots.begin(), slots.end());
  const std::vector<BlockState> good_table(table.begin(), table.end());
  const DiskState good_state = state;
  ASSERT_TRUE(machine->load_cpus(*saved).has_value()) << "what is whole is refused";

  static constexpr Damage kDamages[] = {
      {"a write that nobody makes",
       [](DiskState&, std::span<Slot>, std::span<BlockState> table) {
         BlockState& block = *std::ranges::find(table, 0U, &BlockState::writing);
         block.acknowledged = block.issued++;
         block.writing = 1;
       },
       "writes in flight, the queues have"},
      {"two writes at once", [](DiskState&, std::span<Slot>, std::span<BlockState> table) { table[0].writing = 2; },
       "block 0 has generation"},
      {"generations without end",
       [](DiskState&, std::span<Slot>, std::span<BlockState> table) { table[1].issued = ~0U; },
       "block 1 has generation"},
      {"acknowledged before it was issued",
       [](DiskState&, std::span<Slot>, std::span<BlockState> table) { table[2].acknowledged = table[2].issued + 1; },
       "block 2 has generation"},
      {"a write of a block that has none",
       [](DiskState& state, std::span<Slot> slots, std::span<BlockState> table) {
         for (Slot& slot : slots) slot = {};
         for (BlockState& block : table) block.writing = 0;
         slots[0] = {.use = SlotUse::Write, .generation = table[3].issued, .block = 3};
         state.in_flight = {1};
       },
       "a write of block 3 in flight"},
      {"a read of what was never written",
       [](DiskState& state, std::span<Slot> slots, std::span<BlockState> table) {
         for (Slot& slot : slots) slot = {};
         for (BlockState& block : table) block.writing = 0;
         slots[0] = {.use = SlotUse::Read, .generation = table[3].issued + 1, .block = 3};
         state.in_flight = {1};
       },
       "a read of block 3 in flight"},
      {"a block that is not there",
       [](DiskState&, std::span<Slot> slots, std::span<BlockState> table) {
         slots[0].use = SlotUse::Read;
         slots[0].block = table.size();
       },
       "names block"},
      {"commands that nobody counted",
       [](DiskState& state, std::span<Slot>, std::span<BlockState>) { ++state.in_flight[0]; }, "are counted"},
      {"no flush ever", [](DiskState& state, std::span<Slot>, std::span<BlockState>) { state.until_flush = ~0ULL; },
       "until the next flush"},
  };
  for (const Damage& damage : kDamages) {
    damage.change(state, slots, table);
    const auto loaded = machine->load_cpus(*saved);
    ASSERT_FALSE(loaded.has_value()) << damage.name;
    EXPECT_EQ(loaded.error().code, EBADMSG) << damage.name;
    EXPECT_NE(loaded.error().message.find(damage.said), std::string::npos)
        << damage.name << ": " << loaded.error().message;
    std::ranges::copy(good_slots, slots.begin());
    std::ranges::copy(good_table, table.begin());
    state = good_state;
  }
  ASSERT_TRUE(machine->load_cpus(*saved).has_value());
  ASSERT_TRUE(machine->resume().has_value());
  expect_right(*machine);
}

// A destination whose devices run and whose CPUs do not: the source cannot know how far it came.
class HalfRunning : public migrate::Machine {
 public:
  explicit HalfRunning(GuestMachine& machine) : machine_(machine) {}
  [[nodiscard]] std::span<const migrate::MemoryBlock> memory() const override { return machine_.memory(); }
  [[nodiscard]] migrate::DirtyTracker& dirty_tracker() override { return machine_.dirty_tracker(); }
  [[nodiscard]] std::span<const migrate::MachineDevice> devices() const override { return machine_.devices(); }
  Result<void> pause() override { return machine_.pause(); }
  Result<void> resume() override { return fail(EIO, "its CPUs do not start"); }
  Result<std::vector<std::byte>> save_cpus() override { return machine_.save_cpus(); }
  Result<void> load_cpus(std::span<const std::byte> state) override { return machine_.load_cpus(state); }
  Result<void> prepare_device(std::size_t index) override { return machine_.prepare_device(index); }

 private:
  GuestMachine& machine_;
};

class InDoubt : public Machine {
 protected:
  void SetUp() override {
    Machine::SetUp();
    first_ = serve("a");
    second_ = serve("b");
    auto guest = Guest::create({.memory = {.size = 32U << 20},
                                .tracking = {},
                                .devices = {{.id = "nvme0", .target = first_->target()}},
                                .boot = boot_options(),
                                .incoming = {}});
    ASSERT_TRUE(guest.has_value()) << guest.error().message;
    guest_ = std::move(*guest);
    EXPECT_EQ(guest_->resume().error().code, EBUSY) << "it runs already";

    const auto there = make_machine(*second_);
    HalfRunning destination(*there);
    auto listener = migrate::Listener::bind("unix:" + (directory_ / "migration").string());
    ASSERT_TRUE(listener.has_value()) << listener.error().message;
    auto arrival = std::async(std::launch::async, [&] { return listener->migrate_in(destination); });
    ASSERT_TRUE(guest_->migrate({.to = listener->address()}).has_value());
    std::size_t seen = 0;
    for (auto events = guest_->wait_events(seen); !events.empty(); events = guest_->wait_events(seen)) {
      seen += events.size();
    }
    EXPECT_FALSE(arrival.get().has_value());
    ASSERT_EQ(guest_->status()["state"], "unknown") << guest_->status().dump();
  }

  std::unique_ptr<ServedDevice> first_;
  std::unique_ptr<ServedDevice> second_;
  std::unique_ptr<Guest> guest_;
};

TEST_F(InDoubt, a_guest_that_is_stopped_is_not_verified) {
  const auto stopped = guest_->stop();
  ASSERT_TRUE(stopped.has_value()) << stopped.error().message;
  EXPECT_EQ((*stopped)["verified"], false) << stopped->dump();
  EXPECT_FALSE(guest_->succeeded());
}

TEST_F(InDoubt, a_guest_is_resumed_by_who_knows) {
  const auto resumed = guest_->resume();
  ASSERT_TRUE(resumed.has_value()) << resumed.error().message;
  EXPECT_EQ((*resumed)["state"], "running") << resumed->dump();
  EXPECT_EQ(guest_->resume().error().code, EBUSY);
  const std::uint64_t before = guest_->status().value("io", std::uint64_t{0});
  while (guest_->status().value("io", std::uint64_t{0}) < before + 200 && guest_->failure().empty()) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));  // leaves the cores to those who work
  }
  const auto stopped = guest_->stop();
  ASSERT_TRUE(stopped.has_value()) << stopped.error().message;
  EXPECT_EQ((*stopped)["verified"], true) << stopped->dump();
  EXPECT_TRUE(guest_->succeeded());
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
