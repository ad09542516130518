#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <thread>

#include "devices/nvme/async_events.h"
#include "devices/nvme/log_pages.h"
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

// --- registers ---

TEST(NvmeRegisters, a_fresh_controller_has_its_power_on_values) {
  Rig rig;
  const std::uint64_t cap = rig.driver.read64(kRegisterCap);
  EXPECT_EQ(cap & 0xffff, 1023U) << "MQES";
  EXPECT_EQ(cap >> 16 & 1, 1U) << "CQR";
  EXPECT_EQ(cap >> 32 & 0xf, 0U) << "DSTRD";
  EXPECT_EQ(cap >> 37 & 0xff, 1U) << "CSS";
  EXPECT_EQ(cap >> 48 & 0xf, 0U) << "MPSMIN";
  EXPECT_EQ(rig.driver.read32(kRegisterVs), 0x10400U);
  EXPECT_EQ(rig.driver.read32(kRegisterCc), 0U);
  EXPECT_EQ(rig.driver.read32(kRegisterCsts), 0U);
}

TEST(NvmeRegisters, are_read_in_any_size_and_written_in_words) {
  Rig rig;
  std::array<std::byte, 11> bytes{};
  ASSERT_TRUE(rig.endpoint->read(0, 5, bytes));
  EXPECT_EQ(bytes[3 + 2], std::byte{0x01}) << "the version's second word, from offset 0xa";
  ASSERT_TRUE(rig.endpoint->read(0, 0x3ffd, std::span(bytes).first(3)));
  ASSERT_TRUE(rig.driver.write64(kRegisterAsq, 0x1234'5678'9abc'def0));
  EXPECT_EQ(rig.driver.read64(kRegisterAsq), 0x1234'5678'9abc'd000U) << "reserved bits read 0";
  EXPECT_EQ(rig.endpoint->write(0, 2, std::span(bytes).first(4)).error().code, EINVAL);
  EXPECT_EQ(rig.endpoint->write(0, 0, std::span(bytes).first(1)).error().code, EINVAL);
  EXPECT_EQ(rig.endpoint->write(0, 0, std::span(bytes).first(3)).error().code, EINVAL);
  ASSERT_TRUE(rig.driver.write32(kRegisterCap, 0)) << "read-only: no effect";
  EXPECT_NE(rig.driver.read32(kRegisterCap), 0U);
  ASSERT_TRUE(rig.driver.write32(0x800, 1)) << "reserved: no effect";
}

TEST(NvmeRegisters, bad_configurations_are_fatal_until_cleared) {
  Rig rig;
  EXPECT_EQ(rig.driver.enable(32, Driver::kEnable | 1U << 4), kCstsFatal) << "a command set that is not there";
  EXPECT_EQ(rig.driver.disable(), 0U);
  EXPECT_EQ(rig.driver.enable(32, Driver::kEnable | 1U << 11), kCstsFatal) << "weighted round robin";
  EXPECT_EQ(rig.driver.disable(), 0U);
  EXPECT_EQ(rig.driver.enable(32, Driver::kEnable | 5U << 7), kCstsFatal) << "pages of 128 KiB";
  EXPECT_EQ(rig.driver.disable(), 0U);
  ASSERT_TRUE(rig.driver.write32(kRegisterAqa, 0));
  ASSERT_TRUE(rig.driver.write32(kRegisterCc, Driver::kEnable));
  EXPECT_TRUE(rig.driver.wait_status(~0U, kCstsFatal)) << "an admin queue of one entry";
  EXPECT_EQ(rig.driver.disable(), 0U);
  EXPECT_EQ(rig.driver.enable(), kCstsReady);
}

TEST(NvmeRegisters, what_it_was_enabled_with_stays_until_it_is_disabled) {
  Rig rig;
  ASSERT_EQ(rig.driver.enable(), kCstsReady);
  constexpr std::uint32_t kOther = Driver::kEnable | 4U << 7 | 1U << 4 | 1U << 11;
  ASSERT_TRUE(rig.driver.write32(kRegisterCc, kOther));
  EXPECT_EQ(rig.driver.read32(kRegisterCc), Driver::kEnable);
  ASSERT_TRUE(rig.driver.write32(kRegisterCc, kOther & ~1U));
  EXPECT_EQ(rig.driver.read32(kRegisterCc), kOther & ~1U);
}

TEST(NvmeRegisters, larger_host_pages_are_taken) {
  Rig rig;
  ASSERT_EQ(rig.driver.enable(32, Driver::kEnable | 4U << 7), kCstsReady);
  const Iova data = rig.ram.allocate(65536, 65536);
  Command command = admin_command(AdminOpcode::Identify, 1);
  command.prp1 = data.value + 60000;  // in one page of 64 KiB
  EXPECT_EQ(status_of(rig.driver.admin(command)), Status::Success);
}

// --- enabled and disabled ---

TEST(NvmeLifecycle, is_enabled_again_and_again) {
  Rig rig({}, 1U << 20);
  for (int round = 0; round < 20; ++round) {
    ASSERT_EQ(rig.driver.enable(), kCstsReady);
    ASSERT_EQ(rig.driver.create_pair(1), Status::Success);
    ASSERT_EQ(status_of(rig.driver.run(1, {.opcode = 0, .nsid = 1})), Status::Success);
    ASSERT_EQ(rig.driver.disable(), 0U);
  }
}

TEST(NvmeLifecycle, disabling_forgets_features_and_queues) {
  Rig rig;
  ASSERT_EQ(rig.driver.enable(), kCstsReady);
  ASSERT_EQ(rig.driver.create_pair(1), Status::Success);
  rig.driver.admin(admin_command(AdminOpcode::SetFeatures, 6, 0));
  rig.driver.disable();
  ASSERT_EQ(rig.driver.enable(), kCstsReady);
  EXPECT_EQ(rig.driver.admin(admin_command(AdminOpcode::GetFeatures, 6)).result, 1U);
  EXPECT_EQ(rig.driver.create_pair(1), Status::Success);
}

TEST(NvmeLifecycle, an_image_in_use_elsewhere_is_fatal) {
  Rig one;
  ASSERT_EQ(one.driver.enable(), kCstsReady);
  auto endpoint = serve(*one.image);
  ASSERT_TRUE(endpoint);
  HostRam ram;
  ram.map_into((*endpoint)->dma());
  Driver two(**endpoint, ram);
  EXPECT_EQ(two.enable(), kCstsFatal);
  one.driver.disable();
  EXPECT_EQ(two.disable(), 0U);
  EXPECT_EQ(two.enable(), kCstsReady) << "the lock went with the disabling";
  ASSERT_TRUE(one.endpoint->reset());
  EXPECT_EQ(one.driver.enable(), kCstsFatal);
}

TEST(NvmeLifecycle, a_reset_brings_power_on_values) {
  Rig rig;
  ASSERT_EQ(rig.driver.enable(), kCstsReady);
  ASSERT_EQ(rig.driver.create_pair(1), Status::Success);
  rig.driver.submit(0, admin_command(AdminOpcode::AsyncEventRequest));
  ASSERT_TRUE(rig.endpoint->reset());
  EXPECT_EQ(rig.driver.read32(kRegisterCc), 0U);
  EXPECT_EQ(rig.driver.read32(kRegisterCsts), 0U);
  EXPECT_EQ(rig.driver.read64(kRegisterAsq), 0U);
  ASSERT_EQ(rig.driver.enable(), kCstsReady);
  ASSERT_EQ(rig.driver.create_pair(1), Status::Success);
}

TEST(NvmeLifecycle, shutdown_flushes_and_says_so) {
  Rig rig;
  ASSERT_EQ(rig.driver.enable(), kCstsReady);
  ASSERT_TRUE(rig.driver.write32(kRegisterCc, Driver::kEnable | 1U << 14));
  EXPECT_TRUE(rig.driver.wait_status(kCstsShutdownMask, kCstsShutdownComplete));
  EXPECT_EQ(rig.driver.disable() & kCstsReady, 0U);
  EXPECT_EQ(rig.driver.enable(), kCstsReady);
  EXPECT_EQ(rig.driver.read32(kRegisterCsts), kCstsReady);
}

TEST(NvmeLifecycle, disabling_drops_what_is_in_flight) {
  auto faults = std::make_shared<Faults>();
  Rig rig(ControllerOptions{.backend = with_faults(faults)});
  ASSERT_EQ(rig.driver.enable(), kCstsReady);
  ASSERT_EQ(rig.driver.create_pair(1), Status::Success);
  const Iova data = rig.ram.allocate(4096);
  faults->hold = true;
  for (int count = 0; count < 10; ++count) rig.driver.submit(1, io_command(IoOpcode::Read, 0, 8, data));
  eventually([&] { return faults->held == 10; });
  ASSERT_TRUE(rig.driver.write32(kRegisterCc, 0));
  EXPECT_EQ(rig.driver.read32(kRegisterCsts), kCstsReady) << "not before the host's memory is let go";
  ASSERT_TRUE(rig.driver.write32(kRegisterCc, Driver::kEnable)) << "too early, and taken up later";
  faults->hold = false;
  ASSERT_TRUE(rig.driver.write32(kRegisterCc, 0));  // wakes
  EXPECT_TRUE(rig.driver.wait_status(kCstsReady, 0));
  EXPECT_FALSE(rig.driver.poll(1)) << "no completion of an aborted session";
  EXPECT_EQ(rig.driver.enable(), kCstsReady);
}

TEST(NvmeLifecycle, a_queue_deleted_with_work_in_flight_completes_it_first) {
  auto faults = std::make_shared<Faults>();
  Rig rig(ControllerOptions{.backend = with_faults(faults)});
  ASSERT_EQ(rig.driver.enable(), kCstsReady);
  ASSERT_EQ(rig.driver.create_pair(1), Status::Success);
  const Iova data = rig.ram.allocate(4096);
  faults->hold = true;
  const std::uint16_t read = rig.driver.submit(1, io_command(IoOpcode::Read, 0, 8, data));
  eventually([&] { return faults->held == 1; });
  const std::uint16_t deletion = rig.driver.submit(0, admin_command(AdminOpcode::DeleteSubmissionQueue, 1));
  const std::uint16_t second = rig.driver.submit(0, admin_command(AdminOpcode::DeleteSubmissionQueue, 1));
  const auto refused = rig.driver.wait(0);
  ASSERT_TRUE(refused);
  EXPECT_EQ(refused->cid, second);
  EXPECT_EQ(status_of(*refused), Status::InvalidQueueId);
  EXPECT_EQ(status_of(rig.driver.admin(admin_command(AdminOpcode::DeleteCompletionQueue, 1))),
            Status::InvalidQueueDeletion);
  faults->hold = false;
  rig.driver.ring(0);
  const auto io = rig.driver.wait(1);
  const auto deleted = rig.driver.wait(0);
  ASSERT_TRUE(io && deleted);
  EXPECT_EQ(io->cid, read);
  EXPECT_EQ(status_of(*io), Status::Success);
  EXPECT_EQ(deleted->cid, deletion);
  EXPECT_EQ(status_of(*deleted), Status::Success);
}

TEST(NvmeLifecycle, unmapping_waits_for_the_transfer_and_a_reset_lets_go) {
  auto faults = std::make_shared<Faults>();
  Rig rig(ControllerOptions{.backend = with_faults(faults)});
  ASSERT_EQ(rig.driver.enable(), kCstsReady);
  ASSERT_EQ(rig.driver.create_pair(1), Status::Success);
  faults->hold = true;
  rig.driver.submit(1, io_command(IoOpcode::Read, 0, 8, rig.ram.allocate(4096)));
  eventually([&] { return faults->held == 1; });
  std::jthread unmapping([&] { EXPECT_TRUE(rig.endpoint->dma().unmap({{HostRam::kBase}, rig.ram.size()})); });
  faults->hold = false;
  ASSERT_TRUE(rig.endpoint->reset());
}

TEST(NvmeLifecycle, queues_outside_of_memory_are_fatal) {
  Rig rig;
  ASSERT_EQ(rig.driver.enable(), kCstsReady);
  ASSERT_TRUE(rig.endpoint->dma().unmap({{HostRam::kBase}, rig.ram.size()}));
  rig.driver.submit(0, admin_command(AdminOpcode::GetFeatures, 1));
  EXPECT_TRUE(rig.driver.wait_status(kCstsFatal, kCstsFatal));
  rig.ram.map_into(rig.endpoint->dma());
  EXPECT_EQ(rig.driver.disable(), 0U);
  EXPECT_EQ(rig.driver.enable(), kCstsReady);
}

TEST(NvmeLifecycle, a_full_completion_queue_holds_commands_back) {
  Rig rig;
  ASSERT_EQ(rig.driver.enable(), kCstsReady);
  QueuePair pair{.id = 1, .size = 4, .sq = rig.ram.allocate(4096), .cq = rig.ram.allocate(4096)};
  ASSERT_EQ(status_of(rig.driver.admin(rig.driver.create_cq_command(1, 4, 1, pair.cq))), Status::Success);
  ASSERT_EQ(status_of(rig.driver.admin(rig.driver.create_sq_command(1, 16, 1, pair.sq))), Status::Success);
  for (std::uint16_t cid = 0; cid < 10; ++cid) {
    rig.ram.put(pair.sq + (cid * sizeof(Command)), Command{.opcode = 0, .cid = cid, .nsid = 1});
  }
  ASSERT_TRUE(rig.driver.write32(0x1008, 10));
  std::uint16_t head = 0;
  bool phase = true;
  for (std::uint16_t count = 0; count < 10; ++count) {
    const Iova at = pair.cq + (head * sizeof(Completion));
    eventually([&] {
      auto& last = *reinterpret_cast<std::uint32_t*>(rig.ram.at(at + 12, 4).data());
      return ((std::atomic_ref(last).load() >> 16 & 1) != 0) == phase;
    });
    EXPECT_EQ(status_of(rig.ram.get<Completion>(at)), Status::Success);
    head = static_cast<std::uint16_t>((head + 1) % 4);
    if (head == 0) phase = !phase;
    ASSERT_TRUE(rig.driver.write32(0x100c, head));
  }
}

// --- events and bad doorbells ---

class NvmeEvents : public testing::Test {
 protected:
  NvmeEvents() {
    EXPECT_EQ(rig_.driver.enable(), kCstsReady);
    EXPECT_EQ(rig_.driver.create_pair(1), Status::Success);
    data_ = rig_.ram.allocate(4096);
  }
  std::uint16_t request() { return rig_.driver.submit(0, admin_command(AdminOpcode::AsyncEventRequest)); }
  void read_log(std::uint8_t page, bool retain = false) {
    Command command = admin_command(AdminOpcode::GetLogPage, 127U << 16 | (retain ? 1U << 15 : 0) | page);
    command.prp1 = data_.value;
    EXPECT_EQ(status_of(rig_.driver.admin(command)), Status::Success);
  }
  Rig rig_;
  Iova data_;
};

constexpr std::uint32_t kBadRegister = 0x01'00'00;
constexpr std::uint32_t kBadValue = 0x01'01'00;

TEST_F(NvmeEvents, a_doorbell_of_no_queue_is_reported) {
  for (const std::uint64_t offset : {0x1000U + 5 * 8U, 0x1004U + 5 * 8U, 0x1000U + 17 * 8U, 0x1ffcU, 0x3ffcU}) {
    const std::uint16_t cid = request();
    ASSERT_TRUE(rig_.driver.write32(offset, 1));
    const auto event = rig_.driver.wait(0);
    ASSERT_TRUE(event);
    EXPECT_EQ(event->cid, cid);
    EXPECT_EQ(event->result, kBadRegister) << offset;
    read_log(kLogError);
  }
}

TEST_F(NvmeEvents, a_doorbell_value_beyond_the_queue_is_reported_and_not_taken) {
  for (const std::uint64_t offset : {0x1008U, 0x100cU}) {
    for (const std::uint32_t value : {64U, 0xffffU, 0x10000U, 0xffff'ffffU}) {
      request();
      ASSERT_TRUE(rig_.driver.write32(offset, value));
      const auto event = rig_.driver.wait(0);
      ASSERT_TRUE(event);
      EXPECT_EQ(event->result, kBadValue) << offset << ' ' << value;
      read_log(kLogError);
    }
  }
  EXPECT_EQ(status_of(rig_.driver.run(1, {.opcode = 0, .nsid = 1})), Status::Success) << "the queue goes on";
}

TEST_F(NvmeEvents, a_head_beyond_what_was_posted_is_reported) {
  request();
  ASSERT_TRUE(rig_.driver.write32(0x100c, 3));
  const auto event = rig_.driver.wait(0);
  ASSERT_TRUE(event);
  EXPECT_EQ(event->result, kBadValue);
}

TEST_F(NvmeEvents, a_type_is_silent_until_its_log_was_read) {
  const std::uint16_t first = request();
  const std::uint16_t second = request();
  ASSERT_TRUE(rig_.driver.write32(0x1008, 999));
  EXPECT_EQ(rig_.driver.wait(0)->cid, first);
  ASSERT_TRUE(rig_.driver.write32(0x1028, 1));
  read_log(kLogError, true);  // retains
  EXPECT_FALSE(rig_.driver.poll(0));
  Command command = admin_command(AdminOpcode::GetLogPage, 127U << 16 | kLogError);
  command.prp1 = data_.value;
  const std::uint16_t log = rig_.driver.submit(0, command);
  EXPECT_EQ(rig_.driver.wait(0)->cid, log);
  const auto event = rig_.driver.wait(0);
  EXPECT_EQ(event->cid, second);
  EXPECT_EQ(event->result, kBadRegister);
}

TEST_F(NvmeEvents, more_requests_than_the_limit_are_refused) {
  for (std::size_t count = 0; count < AsyncEvents::kMaxRequests; ++count) request();
  const std::uint16_t last = request();
  const auto refused = rig_.driver.wait(0);
  ASSERT_TRUE(refused);
  EXPECT_EQ(refused->cid, last);
  EXPECT_EQ(status_of(*refused), Status::AsyncEventLimitExceeded);
}

TEST_F(NvmeEvents, a_threshold_below_the_temperature_is_an_event_when_asked_for) {
  rig_.driver.admin(admin_command(AdminOpcode::SetFeatures, 0x0b, 2));
  request();
  rig_.driver.submit(0, admin_command(AdminOpcode::SetFeatures, 0x04, 300));
  EXPECT_EQ(status_of(*rig_.driver.wait(0)), Status::Success);
  const auto event = rig_.driver.wait(0);
  ASSERT_TRUE(event);
  EXPECT_EQ(event->result, 0x02'01'01U) << "SMART page, temperature, SMART type";
  read_log(kLogSmart);
  EXPECT_EQ(rig_.ram.get<SmartLog>(data_).critical_warning, 2);
}

TEST_F(NvmeEvents, the_error_log_tells_what_happened) {
  request();
  ASSERT_TRUE(rig_.driver.write32(0x1008, 999));
  ASSERT_TRUE(rig_.driver.wait(0)) << "noticed before the doorbell is written again";
  Command command = io_command(IoOpcode::Read, 0, 8, {0x1000});
  EXPECT_EQ(status_of(rig_.driver.run(1, command)), Status::DataTransferError);
  read_log(kLogError);
  const auto entries = rig_.ram.get<std::array<ErrorLogEntry, 2>>(data_);
  EXPECT_EQ(entries[0].error_count, 2U) << "newest first";
  EXPECT_EQ(entries[0].sqid, 1);
  EXPECT_EQ(entries[0].nsid, 1U);
  EXPECT_EQ(entries[0].status >> 1 & 0x7ff, 0x004);
  EXPECT_EQ(entries[1].error_count, 1U);
}

// --- faults of the image ---

TEST(NvmeFaults, errors_of_the_image_become_statuses) {
  auto faults = std::make_shared<Faults>();
  Rig rig(ControllerOptions{.backend = with_faults(faults)});
  ASSERT_EQ(rig.driver.enable(), kCstsReady);
  ASSERT_EQ(rig.driver.create_pair(1), Status::Success);
  const Iova data = rig.ram.allocate(4096);
  struct Case {
    int error;
    IoOpcode opcode;
    Status status;
  };
  for (const Case& one :
       {Case{EIO, IoOpcode::Read, Status::UnrecoveredReadError},
        Case{EIO, IoOpcode::Compare, Status::UnrecoveredReadError}, Case{EIO, IoOpcode::Write, Status::WriteFault},
        Case{EIO, IoOpcode::Flush, Status::WriteFault}, Case{EIO, IoOpcode::WriteZeroes, Status::WriteFault},
        Case{ENOSPC, IoOpcode::Write, Status::CapacityExceeded},
        Case{EDQUOT, IoOpcode::Write, Status::CapacityExceeded},
        Case{ENOSPC, IoOpcode::WriteZeroes, Status::CapacityExceeded},
        Case{EFAULT, IoOpcode::Read, Status::DataTransferError},
        Case{ENOMEM, IoOpcode::Write, Status::InternalError}}) {
    faults->error = one.error;
    const Completion completion = rig.driver.run(1, io_command(one.opcode, 0, 8, data));
    EXPECT_EQ(status_of(completion), one.status) << one.error << ' ' << static_cast<int>(one.opcode);
    EXPECT_TRUE((completion.status >> 14 & 1) != 0) << "the error log tells more";
  }
  faults->error = 0;
  EXPECT_EQ(status_of(rig.driver.run(1, io_command(IoOpcode::Read, 0, 8, data))), Status::Success);
  Command log = admin_command(AdminOpcode::GetLogPage, 127U << 16 | kLogSmart);
  log.prp1 = data.value;
  ASSERT_EQ(status_of(rig.driver.admin(log)), Status::Success);
  EXPECT_EQ(rig.ram.get<SmartLog>(data).media_errors.low, 5U);
  EXPECT_EQ(rig.ram.get<SmartLog>(data).error_log_entries.low, 10U);
}

TEST(NvmeFaults, a_shutdown_whose_flush_fails_is_fatal_and_not_complete) {
  auto faults = std::make_shared<Faults>();
  Rig rig(ControllerOptions{.backend = with_faults(faults)});
  ASSERT_EQ(rig.driver.enable(), kCstsReady);
  faults->error = EIO;
  ASSERT_TRUE(rig.driver.write32(kRegisterCc, Driver::kEnable | 1U << 14));
  EXPECT_TRUE(rig.driver.wait_status(~0U, kCstsReady | kCstsFatal | kCstsShutdownOccurring));
  auto other = serve(*rig.image);
  ASSERT_TRUE(other);
  const auto loaded = load(**other, save(*rig.endpoint));
  EXPECT_TRUE(loaded) << loaded.error().message;
  faults->error = 0;
  to_state(*rig.endpoint, DeviceState::Running);
  EXPECT_EQ(rig.driver.disable() & (kCstsReady | kCstsFatal), 0U);
  EXPECT_EQ(rig.driver.enable(), kCstsReady);
}

// --- interrupts ---

std::uint64_t count_of(int eventfd) {
  std::uint64_t count = 0;
  return ::read(eventfd, &count, sizeof(count)) == sizeof(count) ? count : 0;
}

TEST(NvmeInterrupts, a_completion_interrupts_by_its_queues_vector) {
  Rig rig;
  const Fd admin(::eventfd(0, EFD_NONBLOCK));
  const Fd io(::eventfd(0, EFD_NONBLOCK));
  IrqSet set{.type = IrqType::Msix, .data = IrqSet::Data::Eventfd, .start = 0, .count = 4};
  set.eventfds.emplace_back(::dup(admin.get()));
  set.eventfds.resize(3);
  set.eventfds.emplace_back(::dup(io.get()));
  ASSERT_TRUE(rig.endpoint->interrupts().set(std::move(set)));
  ASSERT_EQ(rig.driver.enable(), kCstsReady);
  ASSERT_EQ(rig.driver.create_pair(1, 64, 3), Status::Success);
  eventually([&] { return count_of(admin.get()) != 0; });
  EXPECT_EQ(count_of(io.get()), 0U);
  rig.driver.run(1, {.opcode = 0, .nsid = 1});
  eventually([&] { return count_of(io.get()) != 0; });
}

TEST(NvmeInterrupts, the_pin_is_a_level_that_the_mask_registers_gate) {
  Rig rig;
  ASSERT_EQ(rig.driver.enable(), kCstsReady);
  Interrupts& interrupts = rig.endpoint->interrupts();
  EXPECT_FALSE(interrupts.intx_asserted());
  rig.driver.submit(0, admin_command(AdminOpcode::GetFeatures, 1));
  eventually([&] { return rig.driver.poll(0, false).has_value(); });
  eventually([&] { return interrupts.intx_asserted(); });
  ASSERT_TRUE(rig.driver.write32(kRegisterIntms, 1));
  EXPECT_FALSE(interrupts.intx_asserted());
  EXPECT_EQ(rig.driver.read32(kRegisterIntms), 1U);
  EXPECT_EQ(rig.driver.read32(kRegisterIntmc), 1U);
  ASSERT_TRUE(rig.driver.write32(kRegisterIntmc, 1));
  EXPECT_TRUE(interrupts.intx_asserted());
  rig.driver.ring_head(0);
  eventually([&] { return !interrupts.intx_asserted(); });
}

}  // namespace
}  // namespace gangway::nvme::test
