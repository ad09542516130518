#include <gtest/gtest.h>

#include <random>
#include <thread>

#include "devices/nvme/async_events.h"
#include "nvme_state.pb.h"
#include "unit/devices/nvme/fault_backend.h"
#include "unit/devices/nvme/host.h"

namespace gangway::nvme::test {
namespace {

template <class Done>
void eventually(Done done) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (!done()) {
    ASSERT_LT(std::chrono::steady_clock::now(), deadline) << "it never came";
    std::this_thread::yield();
  }
}

// Where a rig's guest goes: a second controller on the same image, with the same memory.
std::unique_ptr<Endpoint> destination(const Rig& rig, ControllerOptions options = {}) {
  auto endpoint = serve(*rig.image, std::move(options));
  EXPECT_TRUE(endpoint) << endpoint.error().message;
  rig.ram.map_into((*endpoint)->dma());
  return std::move(*endpoint);
}

TEST(NvmeMigration, queues_go_on_where_they_were) {
  Rig rig;
  ASSERT_EQ(rig.driver.enable(), kCstsReady);
  ASSERT_EQ(rig.driver.create_pair(1), Status::Success);
  ASSERT_EQ(rig.driver.create_pair(7, 16, 5), Status::Success);
  for (int count = 0; count < 100; ++count) {
    ASSERT_EQ(status_of(rig.driver.run(1, {.opcode = 0, .nsid = 1})), Status::Success);
    ASSERT_EQ(status_of(rig.driver.run(7, {.opcode = 0, .nsid = 1})), Status::Success);
  }
  ASSERT_EQ(status_of(rig.driver.admin(admin_command(AdminOpcode::SetFeatures, 6, 0))), Status::Success);
  auto other = destination(rig);
  const auto stream = save(*rig.endpoint);
  ASSERT_TRUE(load(*other, stream));
  to_state(*other, DeviceState::Running);
  rig.driver.move_to(*other);
  EXPECT_EQ(rig.driver.read32(kRegisterCsts), kCstsReady);
  EXPECT_EQ(rig.driver.read32(kRegisterCc), Driver::kEnable);
  EXPECT_EQ(rig.driver.admin(admin_command(AdminOpcode::GetFeatures, 6)).result, 0U);
  for (int count = 0; count < 100; ++count) {
    ASSERT_EQ(status_of(rig.driver.run(1, {.opcode = 0, .nsid = 1})), Status::Success);
    ASSERT_EQ(status_of(rig.driver.run(7, {.opcode = 0, .nsid = 1})), Status::Success);
  }
}

TEST(NvmeMigration, commands_waiting_in_a_queue_are_carried_out_at_the_destination) {
  Rig rig;
  ASSERT_EQ(rig.driver.enable(), kCstsReady);
  ASSERT_EQ(rig.driver.create_pair(1), Status::Success);
  to_state(*rig.endpoint, DeviceState::RunningP2p);
  const Iova data = rig.ram.allocate(512 * 40);
  for (std::uint32_t count = 0; count < 40; ++count) {
    const Iova at = data + count * 512;
    rig.ram.fill(at, 512, std::byte{static_cast<unsigned char>(count + 1)});
    rig.driver.place(1, io_command(IoOpcode::Write, count, 1, at));
  }
  rig.driver.ring(1);  // P2P: taken, and carried out by who runs next
  auto other = destination(rig);
  const auto stream = save(*rig.endpoint);
  EXPECT_FALSE(rig.driver.poll(1)) << "a stopped controller completes nothing";
  ASSERT_TRUE(load(*other, stream));
  rig.driver.move_to(*other);
  to_state(*other, DeviceState::Running);
  for (int count = 0; count < 40; ++count) {
    const auto completion = rig.driver.wait(1);
    ASSERT_TRUE(completion);
    EXPECT_EQ(status_of(*completion), Status::Success);
  }
  EXPECT_EQ(rig.image->read(39 * 512, 512), std::vector<std::byte>(512, std::byte{40}));
}

TEST(NvmeMigration, event_requests_and_events_survive) {
  Rig rig;
  ASSERT_EQ(rig.driver.enable(), kCstsReady);
  const std::uint16_t first = rig.driver.submit(0, admin_command(AdminOpcode::AsyncEventRequest));
  const std::uint16_t second = rig.driver.submit(0, admin_command(AdminOpcode::AsyncEventRequest));
  ASSERT_EQ(status_of(rig.driver.admin(admin_command(AdminOpcode::GetFeatures, 1))), Status::Success);
  to_state(*rig.endpoint, DeviceState::RunningP2p);
  ASSERT_TRUE(rig.driver.write32(0x1000 + 5 * 8, 1));  // an event in the making
  auto other = destination(rig);
  const auto stream = save(*rig.endpoint);
  ASSERT_TRUE(load(*other, stream));
  rig.driver.move_to(*other);
  to_state(*other, DeviceState::Running);
  const auto event = rig.driver.wait(0);
  ASSERT_TRUE(event);
  EXPECT_EQ(event->cid, first);
  EXPECT_EQ(event->result, 0x01'00'00U);
  const Iova data = rig.ram.allocate(4096);
  Command log = admin_command(AdminOpcode::GetLogPage, 127U << 16 | 1U);
  log.prp1 = data.value;
  ASSERT_EQ(status_of(rig.driver.admin(log)), Status::Success);
  ASSERT_TRUE(rig.driver.write32(0x1000, 999));
  EXPECT_EQ(rig.driver.wait(0)->cid, second);
}

TEST(NvmeMigration, stopping_drains_what_is_in_flight) {
  auto faults = std::make_shared<Faults>();
  Rig rig(ControllerOptions{.backend = with_faults(faults)});
  ASSERT_EQ(rig.driver.enable(), kCstsReady);
  ASSERT_EQ(rig.driver.create_pair(1), Status::Success);
  const Iova data = rig.ram.allocate(4096 * 20);
  faults->hold = true;
  for (std::uint64_t count = 0; count < 20; ++count) {
    rig.driver.submit(1, io_command(IoOpcode::Read, count * 8, 8, data + count * 4096));
  }
  eventually([&] { return faults->held == 20; });
  std::jthread release([&] { faults->hold = false; });
  to_state(*rig.endpoint, DeviceState::Stop);
  for (int count = 0; count < 20; ++count) {
    const auto completion = rig.driver.poll(1, false);
    ASSERT_TRUE(completion) << "completed before the state was reached";
    EXPECT_EQ(status_of(*completion), Status::Success);
  }
}

TEST(NvmeMigration, the_lock_passes_with_it) {
  Rig rig;
  ASSERT_EQ(rig.driver.enable(), kCstsReady);
  auto other = destination(rig);
  to_state(*rig.endpoint, DeviceState::RunningP2p);
  auto third = Namespace::open({.path = rig.image->path()});
  EXPECT_FALSE(third->lock()) << "P2P still holds it";
  const auto stream = save(*rig.endpoint);
  ASSERT_TRUE(load(*other, stream));
  EXPECT_TRUE(third->lock()) << "stopped, nobody holds it";
  const auto busy = other->migration()->set_state(static_cast<std::uint32_t>(DeviceState::Running));
  ASSERT_FALSE(busy);
  EXPECT_EQ(busy.error().code, EBUSY);
  third->unlock();
  to_state(*other, DeviceState::Running);
  EXPECT_FALSE(third->lock()) << "the destination holds it";
  EXPECT_FALSE(rig.endpoint->migration()->set_state(static_cast<std::uint32_t>(DeviceState::Running)))
      << "the source cannot run beside it";
}

TEST(NvmeMigration, a_cancelled_migration_goes_on_at_the_source) {
  Rig rig;
  ASSERT_EQ(rig.driver.enable(), kCstsReady);
  ASSERT_EQ(rig.driver.create_pair(1), Status::Success);
  for (int round = 0; round < 5; ++round) {
    save(*rig.endpoint);
    to_state(*rig.endpoint, DeviceState::Running);
    ASSERT_EQ(status_of(rig.driver.run(1, {.opcode = 0, .nsid = 1})), Status::Success);
  }
}

TEST(NvmeMigration, what_is_asked_in_p2p_waits_for_the_start) {
  Rig rig;
  rig.driver.enable();
  rig.driver.disable();
  to_state(*rig.endpoint, DeviceState::RunningP2p);
  ASSERT_TRUE(rig.driver.write32(kRegisterCc, Driver::kEnable));
  EXPECT_EQ(rig.driver.read32(kRegisterCsts), 0U);
  to_state(*rig.endpoint, DeviceState::Running);
  EXPECT_TRUE(rig.driver.wait_status(kCstsReady, kCstsReady));
}

TEST(NvmeMigration, a_controller_disabled_in_p2p_migrates) {
  Rig rig;
  ASSERT_EQ(rig.driver.enable(), kCstsReady);
  ASSERT_EQ(rig.driver.create_pair(1), Status::Success);
  to_state(*rig.endpoint, DeviceState::RunningP2p);
  ASSERT_TRUE(rig.driver.write32(kRegisterCc, Driver::kEnable & ~1U));
  auto other = destination(rig);
  const auto loaded = load(*other, save(*rig.endpoint));
  ASSERT_TRUE(loaded) << loaded.error().message;
  to_state(*other, DeviceState::Running);
  rig.driver.move_to(*other);
  EXPECT_EQ(rig.driver.read32(kRegisterCsts), 0U);
  EXPECT_EQ(rig.driver.enable(), kCstsReady);
  EXPECT_EQ(rig.driver.create_pair(1), Status::Success);
}

TEST(NvmeMigration, a_controller_enabled_anew_in_p2p_has_its_new_queues_at_the_destination) {
  for (const bool moves : {true, false}) {
    Rig rig;
    ASSERT_EQ(rig.driver.enable(), kCstsReady);
    ASSERT_EQ(rig.driver.create_pair(1), Status::Success);
    to_state(*rig.endpoint, DeviceState::RunningP2p);
    ASSERT_TRUE(rig.driver.write32(kRegisterCc, Driver::kEnable & ~1U));
    rig.driver.enable(16);
    auto other = destination(rig);
    const auto stream = save(*rig.endpoint);
    if (moves) {
      const auto loaded = load(*other, stream);
      ASSERT_TRUE(loaded) << loaded.error().message;
      rig.driver.move_to(*other);
    }
    to_state(moves ? *other : *rig.endpoint, DeviceState::Running);
    EXPECT_TRUE(rig.driver.wait_status(~0U, kCstsReady));
    EXPECT_EQ(rig.driver.create_pair(1), Status::Success) << "the queues of before are gone";
    EXPECT_EQ(status_of(rig.driver.run(1, {.opcode = 0, .nsid = 1})), Status::Success);
  }
}

TEST(NvmeMigration, a_shutdown_asked_for_in_p2p_is_carried_out) {
  Rig rig;
  ASSERT_EQ(rig.driver.enable(), kCstsReady);
  to_state(*rig.endpoint, DeviceState::RunningP2p);
  ASSERT_TRUE(rig.driver.write32(kRegisterCc, Driver::kEnable | 1U << 14));
  auto other = destination(rig);
  const auto loaded = load(*other, save(*rig.endpoint));
  ASSERT_TRUE(loaded) << loaded.error().message;
  to_state(*other, DeviceState::Running);
  rig.driver.move_to(*other);
  EXPECT_TRUE(rig.driver.wait_status(~0U, kCstsReady | kCstsShutdownComplete));
}

TEST(NvmeMigration, the_page_size_is_the_one_it_was_enabled_with) {
  Rig rig;
  ASSERT_EQ(rig.driver.enable(), kCstsReady);
  ASSERT_EQ(rig.driver.create_pair(1), Status::Success);
  ASSERT_TRUE(rig.driver.write32(kRegisterCc, Driver::kEnable | 4U << 7));
  auto other = destination(rig);
  ASSERT_TRUE(load(*other, save(*rig.endpoint)));
  to_state(*other, DeviceState::Running);
  rig.driver.move_to(*other);
  const Iova data = rig.ram.allocate(3 * 4096);
  const auto bytes = pattern(8192, 3);
  rig.image->write(0, bytes);
  Command command = io_command(IoOpcode::Read, 0, 16, data);
  command.prp2 = data.value + 8192;  // not the next page: with pages of 64 KiB it would not be looked at
  ASSERT_EQ(status_of(rig.driver.run(1, command)), Status::Success);
  const auto second = rig.ram.at(data + 8192, 4096);
  EXPECT_TRUE(std::ranges::equal(second, std::span(bytes).subspan(4096)));
}

TEST(NvmeMigration, a_controller_that_was_never_enabled_migrates) {
  Rig rig;
  auto other = destination(rig);
  ASSERT_TRUE(load(*other, save(*rig.endpoint)));
  to_state(*other, DeviceState::Running);
  rig.driver.move_to(*other);
  EXPECT_EQ(rig.driver.enable(), kCstsReady);
}

TEST(NvmeMigration, shadow_doorbells_go_along) {
  Rig rig;
  ASSERT_EQ(rig.driver.enable(), kCstsReady);
  ASSERT_EQ(rig.driver.create_pair(1), Status::Success);
  const Iova doorbells = rig.ram.allocate(4096);
  const Iova events = rig.ram.allocate(4096);
  Command command = admin_command(AdminOpcode::DoorbellBufferConfig);
  command.prp1 = doorbells.value;
  command.prp2 = events.value;
  ASSERT_EQ(status_of(rig.driver.admin(command)), Status::Success);
  auto other = destination(rig);
  const auto stream = save(*rig.endpoint);
  rig.driver.place(1, {.opcode = 0, .nsid = 1});
  rig.ram.put(doorbells + 8, std::uint32_t{1});  // no ring: the host's memory alone knows
  ASSERT_TRUE(load(*other, stream));
  rig.driver.move_to(*other);
  to_state(*other, DeviceState::Running);
  std::optional<Completion> completion;
  eventually([&] { return (completion = rig.driver.poll(1, false)).has_value(); });
  EXPECT_EQ(status_of(*completion), Status::Success);
}

TEST(NvmeMigration, under_load_nothing_is_lost_from_controller_to_controller) {
  Rig rig;
  ASSERT_EQ(rig.driver.enable(), kCstsReady);
  ASSERT_EQ(rig.driver.create_pair(1), Status::Success);
  const Iova data = rig.ram.allocate(512 * 60);
  std::vector<std::unique_ptr<Endpoint>> used;
  Endpoint* current = rig.endpoint.get();
  std::size_t done = 0;
  std::size_t in_flight = 0;
  for (int move = 0; move < 10; ++move) {
    while (in_flight < 50) {
      const std::uint64_t slot = (done + in_flight) % 60;
      rig.driver.submit(1, io_command(IoOpcode::Write, slot, 1, data + slot * 512));
      ++in_flight;
    }
    auto next = destination(rig);
    const auto stream = save(*current);
    ASSERT_TRUE(load(*next, stream));
    to_state(*next, DeviceState::Running);
    used.push_back(std::move(next));
    current = used.back().get();
    rig.driver.move_to(*current);
    for (; in_flight != 0; --in_flight, ++done) {
      const auto completion = rig.driver.wait(1);
      ASSERT_TRUE(completion);
      ASSERT_EQ(status_of(*completion), Status::Success);
    }
  }
}

// DAT-IDENTITY
TEST(NvmeMigration, another_controller_is_refused_by_the_first_bytes_of_pre_copy) {
  Rig rig(ControllerOptions{.serial = "one"});
  ASSERT_EQ(rig.driver.enable(), kCstsReady);
  to_state(*rig.endpoint, DeviceState::PreCopy);
  std::array<std::byte, 4096> bytes{};
  const auto read = rig.endpoint->migration()->read(bytes);
  ASSERT_TRUE(read);
  ASSERT_EQ(read->end, StreamEnd::Temporary);
  const TemporaryImage larger(9U << 20);
  struct Case {
    std::string serial;
    const TemporaryImage& image;
    bool refused;
  };
  for (const auto& [serial, image, refused] :
       {Case{"one", *rig.image, false}, Case{"two", *rig.image, true}, Case{"one", larger, true}}) {
    auto other = serve(image, ControllerOptions{.serial = serial});
    ASSERT_TRUE(other);
    to_state(**other, DeviceState::Resuming);
    const auto written = (*other)->migration()->write(std::span(bytes).first(read->size));
    EXPECT_EQ(!written, refused) << serial;
    if (!written) {
      EXPECT_EQ(written.error().clause, "DAT-IDENTITY");
    }
  }
}

// --- streams that are whole and yet wrong ---

class NvmeState : public testing::Test {
 protected:
  NvmeState() {
    EXPECT_EQ(rig_.driver.enable(), kCstsReady);
    EXPECT_EQ(rig_.driver.create_pair(1), Status::Success);
    rig_.driver.submit(0, admin_command(AdminOpcode::AsyncEventRequest));
    EXPECT_EQ(status_of(rig_.driver.admin(admin_command(AdminOpcode::GetFeatures, 1))), Status::Success);
    to_state(*rig_.endpoint, DeviceState::Stop);
    StateWriter writer;
    auto& controller = dynamic_cast<Controller&>(rig_.endpoint->device());
    EXPECT_TRUE(controller.save(writer));
    const auto& bytes = writer.sections().at(0).bytes;
    EXPECT_TRUE(saved_.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())));
    auto other = Controller::create({.namespaces = {{.path = rig_.image->path()}}});
    EXPECT_TRUE(other);
    other_ = std::move(*other);
    other_->attach({dma_, interrupts_});
    other_->reset();
  }
  // The refusal of a changed state; empty when it was taken.
  template <class Change>
  std::string refusal(Change change) {
    state::Controller changed = saved_;
    change(changed);
    const std::string bytes = changed.SerializeAsString();
    const auto span = std::as_bytes(std::span(bytes));
    StateReader reader(1);
    reader.add("controller", {span.begin(), span.end()});
    const auto loaded = other_->load(reader);
    other_->reset();
    return loaded ? "" : loaded.error().message;
  }

  Rig rig_;
  state::Controller saved_;
  DmaLog log_;
  DmaSpace dma_{log_};
  Interrupts interrupts_{{1, 0, 17, 0, 0}};
  std::unique_ptr<Controller> other_;
};

TEST_F(NvmeState, unchanged_is_taken) {
  EXPECT_EQ(refusal([](auto&) {}), "");
}

TEST_F(NvmeState, another_controllers_state_is_refused) {
  EXPECT_NE(refusal([](auto& s) { s.mutable_identity()->set_serial("other"); }), "");
  EXPECT_NE(refusal([](auto& s) { s.mutable_identity()->set_model("other"); }), "");
  EXPECT_NE(refusal([](auto& s) { s.mutable_identity()->set_io_queue_pairs(4); }), "");
  EXPECT_NE(refusal([](auto& s) { s.mutable_identity()->add_namespaces(); }), "");
  EXPECT_NE(refusal([](auto& s) { s.mutable_identity()->mutable_namespaces(0)->set_blocks(7); }), "");
  EXPECT_NE(refusal([](auto& s) { s.mutable_identity()->mutable_namespaces(0)->set_block_size(4096); }), "");
  EXPECT_NE(refusal([](auto& s) { s.mutable_identity()->mutable_namespaces(0)->set_read_only(true); }), "");
  EXPECT_NE(refusal([](auto& s) { s.Clear(); }), "");
}

TEST_F(NvmeState, a_refusal_quotes_only_what_prints) {
  for (const std::string& refused : {refusal([](auto& s) { s.mutable_identity()->set_serial("a\n\x1b[2J"); }),
                                     refusal([](auto& s) { s.mutable_identity()->set_model("a\n\x1b[2J"); })}) {
    EXPECT_NE(refused.find("a??[2J"), std::string::npos) << refused;
  }
}

TEST_F(NvmeState, impossible_registers_are_refused) {
  EXPECT_NE(refusal([](auto& s) { s.mutable_registers()->set_cc(0xff00'0000); }), "");
  EXPECT_NE(refusal([](auto& s) { s.mutable_registers()->set_cc(0); }), "") << "ready and not enabled";
  EXPECT_NE(refusal([](auto& s) { s.mutable_registers()->set_csts(0xff); }), "");
  EXPECT_NE(refusal([](auto& s) { s.mutable_registers()->set_csts(kCstsReady | kCstsShutdownOccurring); }), "");
  EXPECT_NE(refusal([](auto& s) { s.mutable_registers()->set_csts(kCstsReady | kCstsFatal | kCstsShutdownMask); }), "");
  EXPECT_NE(refusal([](auto& s) { s.mutable_registers()->set_csts(0); }), "") << "queues and not ready";
  EXPECT_NE(refusal([](auto& s) { s.mutable_registers()->set_asq(1); }), "");
  EXPECT_NE(refusal([](auto& s) { s.mutable_registers()->set_aqa(0xf000'0000); }), "");
}

TEST_F(NvmeState, impossible_queues_are_refused) {
  const auto sq = [this](auto change) {
    return refusal([&](state::Controller& s) { change(*s.mutable_submission_queues(1)); });
  };
  const auto cq = [this](auto change) {
    return refusal([&](state::Controller& s) { change(*s.mutable_completion_queues(1)); });
  };
  for (const auto& refused :
       {sq([](auto& q) { q.set_id(99); }), sq([](auto& q) { q.set_id(0); }), sq([](auto& q) { q.set_size(1); }),
        sq([](auto& q) { q.set_size(100'000); }), sq([](auto& q) { q.set_head(64); }),
        sq([](auto& q) { q.set_tail(0xffff'ffff); }), sq([](auto& q) { q.set_base(12); }),
        sq([](auto& q) { q.set_base(0xffff'ffff'ffff'f000); }), sq([](auto& q) { q.set_completion_queue(0); }),
        sq([](auto& q) { q.set_completion_queue(5); }), sq([](auto& q) { q.set_priority(4); }),
        cq([](auto& q) { q.set_id(0x10001); }), cq([](auto& q) { q.set_size(0); }), cq([](auto& q) { q.set_head(99); }),
        cq([](auto& q) { q.set_tail(64); }), cq([](auto& q) { q.set_base(0x800); }),
        cq([](auto& q) { q.set_vector(17); })}) {
    EXPECT_NE(refused, "");
  }
  EXPECT_NE(refusal([](auto& s) { s.clear_submission_queues(); }), "") << "ready without an admin queue";
  EXPECT_NE(refusal([](auto& s) { *s.add_submission_queues() = s.submission_queues(1); }), "") << "twice";
  EXPECT_NE(refusal([](auto& s) { *s.add_completion_queues() = s.completion_queues(1); }), "") << "twice";
  EXPECT_NE(refusal([](auto& s) { s.add_doorbells(1); }), "");
  EXPECT_NE(refusal([](auto& s) { s.mutable_shadow_doorbells()->set_doorbells(3); }), "");
}

TEST_F(NvmeState, impossible_features_events_and_logs_are_refused) {
  EXPECT_NE(refusal([](auto& s) { s.mutable_features()->set_number_of_queues(99); }), "");
  EXPECT_NE(refusal([](auto& s) { s.mutable_features()->set_volatile_write_cache(2); }), "");
  EXPECT_NE(refusal([](auto& s) { s.mutable_features()->clear_error_recovery(); }), "");
  EXPECT_NE(refusal([](auto& s) { s.mutable_features()->set_over_temperature(0x10000); }), "");
  EXPECT_NE(refusal([](auto& s) { s.mutable_features()->set_uncoalesced_vectors(1U << 20); }), "");
  EXPECT_NE(refusal([](auto& s) { s.mutable_async_events()->add_requests(0x10000); }), "");
  EXPECT_NE(refusal([](auto& s) {
              for (std::uint32_t cid = 0; cid < 9; ++cid) s.mutable_async_events()->add_requests(cid);
            }),
            "");
  EXPECT_NE(refusal([](auto& s) { s.mutable_async_events()->add_pending()->set_type(5); }), "");
  EXPECT_NE(refusal([](auto& s) { s.add_error_log("short"); }), "");
  EXPECT_NE(refusal([](auto& s) {
              for (int count = 0; count < 40; ++count) s.add_error_log(std::string(64, 'x'));
            }),
            "");
}

TEST_F(NvmeState, no_damaged_byte_crashes) {
  const std::string whole = saved_.SerializeAsString();
  std::mt19937 random(3);
  for (int round = 0; round < 3000; ++round) {
    std::string bytes = whole;
    for (int flips = 0; flips < 1 + round % 3; ++flips) {
      bytes[random() % bytes.size()] = static_cast<char>(random());
    }
    if (round % 7 == 0) bytes.resize(random() % bytes.size());
    const auto span = std::as_bytes(std::span(bytes));
    StateReader reader(1);
    reader.add("controller", {span.begin(), span.end()});
    (void)other_->load(reader);
    other_->reset();
  }
}

}  // namespace
}  // namespace gangway::nvme::test
