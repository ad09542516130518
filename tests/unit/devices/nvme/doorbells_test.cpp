// Doorbells that cost no message: mapped by the client, and shadowed in the host's memory.
#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include <atomic>

#include "devices/nvme/core.h"
#include "devices/nvme/doorbells.h"
#include "unit/devices/nvme/host.h"

namespace gangway::nvme::test {
namespace {

class MappedPage {
 public:
  explicit MappedPage(const RegionInfo& region)
      : words_(static_cast<std::uint32_t*>(
            ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, region.file,
                   static_cast<off_t>(region.file_offset + region.mappable.at(0).offset)))) {
    EXPECT_NE(words_, MAP_FAILED);
  }
  ~MappedPage() { ::munmap(words_, 4096); }
  MappedPage(const MappedPage&) = delete;
  MappedPage& operator=(const MappedPage&) = delete;
  void store(std::size_t word, std::uint32_t value) const { std::atomic_ref(words_[word]).store(value); }

 private:
  std::uint32_t* words_;
};

TEST(NvmeDoorbells, by_default_none_may_be_mapped) {
  Rig rig;
  EXPECT_TRUE(rig.endpoint->region(0)->mappable.empty());
  EXPECT_TRUE(rig.endpoint->io_eventfds(0).empty());
}

TEST(NvmeDoorbells, a_store_in_the_mapping_is_noticed_awake_or_asleep) {
  Rig rig(ControllerOptions{.mapped_doorbells = true, .spin = std::chrono::microseconds(0)});
  const auto region = rig.endpoint->region(0);
  ASSERT_EQ(region->mappable.size(), 1U);
  EXPECT_EQ(region->mappable[0].offset, 0x1000U);
  const MappedPage page(*region);
  ASSERT_EQ(rig.driver.enable(), kCstsReady);
  ASSERT_EQ(rig.driver.create_pair(1), Status::Success);
  for (int round = 0; round < 200; ++round) {
    rig.driver.place(1, {.opcode = 0, .nsid = 1});
    page.store(sq_tail_word(1), rig.driver.pair(1).tail);
    std::optional<Completion> completion;
    while (!(completion = rig.driver.poll(1, false))) std::this_thread::yield();
    EXPECT_EQ(status_of(*completion), Status::Success);
    page.store(cq_head_word(1), rig.driver.pair(1).head);
  }
}

TEST(NvmeDoorbells, the_ring_eventfd_covers_every_doorbell) {
  Rig rig(ControllerOptions{.io_queue_pairs = 2, .mapped_doorbells = true});
  const auto rings = rig.endpoint->io_eventfds(0);
  ASSERT_EQ(rings.size(), 6U);
  const MappedPage page(*rig.endpoint->region(0));
  ASSERT_EQ(rig.driver.enable(), kCstsReady);
  const std::uint16_t cid = rig.driver.place(0, admin_command(AdminOpcode::GetFeatures, 1));
  page.store(sq_tail_word(0), rig.driver.pair(0).tail);
  const std::uint64_t one = 1;
  ASSERT_EQ(::write(rings[0].eventfd->get(), &one, sizeof(one)), 8);
  const auto completion = rig.driver.wait(0);
  ASSERT_TRUE(completion);
  EXPECT_EQ(completion->cid, cid);
}

TEST(NvmeDoorbells, scribbling_on_the_mapping_harms_only_the_scribbler) {
  Rig rig(ControllerOptions{.mapped_doorbells = true});
  const MappedPage page(*rig.endpoint->region(0));
  ASSERT_EQ(rig.driver.enable(), kCstsReady);
  for (std::uint32_t word = 2; word < 1024; ++word) page.store(word, 0xdead'0000 + word);
  EXPECT_EQ(status_of(rig.driver.admin(admin_command(AdminOpcode::GetFeatures, 1))), Status::Success);
}

// A core without its thread: what happens between two steps of it is the test's to choose.
class NvmeCore : public testing::Test {
 protected:
  void SetUp() override {
    std::vector<Namespace> namespaces;
    namespaces.push_back(*Namespace::open({.path = image_.path()}));
    const int file = namespaces[0].fd();
    auto backend = make_thread_pool_backend(std::span(&file, 1));
    ASSERT_TRUE(backend);
    backend_ = std::move(*backend);
    state_.reset(new ControllerState{.identity = {.serial = "serial", .model = "model"},
                                     .namespaces = std::move(namespaces),
                                     .doorbells = *Doorbells::create(0x4000)});
    state_->memory.attach(dma_);
    state_->queues.attach(dma_);
    state_->lines.attach(interrupts_);
    ram_.map_into(dma_);
    admin_sq_ = ram_.allocate(4096);
    admin_cq_ = ram_.allocate(4096);
    state_->registers.aqa = 15U << 16 | 15U;
    state_->registers.asq = admin_sq_.value;
    state_->registers.acq = admin_cq_.value;
    state_->registers.configure({Driver::kEnable});
    core_.emplace(*state_, *backend_);
    ASSERT_TRUE(core_->start());
    ASSERT_TRUE(state_->registers.ready());
  }
  void TearDown() override {
    if (core_) core_->reset();
  }
  void submit(Iova queue, std::uint16_t id, std::uint16_t index, const Command& command) {
    ram_.put(queue + index * sizeof(Command), command);
    state_->doorbells.store(sq_tail_word(id), index + 1U);
  }

  TemporaryImage image_{1U << 20};
  std::unique_ptr<Backend> backend_;
  DmaLog log_;
  DmaSpace dma_{log_};
  Interrupts interrupts_{{1, 0, kVectors, 0, 0}};
  HostRam ram_;
  Iova admin_sq_;
  Iova admin_cq_;
  std::unique_ptr<ControllerState> state_;
  std::optional<Core> core_;
};

TEST_F(NvmeCore, delivers_an_event_noticed_before_sleeping) {
  Command request = admin_command(AdminOpcode::AsyncEventRequest);
  request.cid = 7;
  submit(admin_sq_, 0, 0, request);
  while (core_->poll()) {
  }
  state_->doorbells.store(sq_tail_word(5), 3);  // of no queue
  ASSERT_TRUE(core_->arm());
  EXPECT_TRUE(core_->poll());
  EXPECT_EQ(ram_.get<Completion>(admin_cq_).cid, 7);
  EXPECT_FALSE(core_->arm());
}

TEST_F(NvmeCore, counts_as_outstanding_what_was_submitted_and_not_taken) {
  const Iova sq = ram_.allocate(4096);
  const Iova cq = ram_.allocate(4096);
  Command create_cq = admin_command(AdminOpcode::CreateCompletionQueue, 15U << 16 | 1U, 1);
  create_cq.prp1 = cq.value;
  Command create_sq = admin_command(AdminOpcode::CreateSubmissionQueue, 15U << 16 | 1U, 1U << 16 | 1U);
  create_sq.prp1 = sq.value;
  submit(admin_sq_, 0, 0, create_cq);
  submit(admin_sq_, 0, 1, create_sq);
  while (core_->poll()) {
  }
  EXPECT_EQ(core_->outstanding(), 0U) << "of admin commands nothing counts";

  const Command flush{.opcode = 0, .nsid = 1};
  submit(sq, 1, 0, flush);
  submit(sq, 1, 1, flush);
  for (int polls = 0; ram_.get<Completion>(cq + sizeof(Completion)).status == 0; ++polls) {
    (void)core_->poll();
    if (polls != 0) {
      ASSERT_EQ(core_->outstanding(), 2U) << "in flight or in the queue";
    }
  }
  for (const std::uint32_t taken : {1U, 2U}) {
    state_->doorbells.store(cq_head_word(1), taken);
    (void)core_->poll();
    EXPECT_EQ(core_->outstanding(), 2 - taken);
  }
}

// A driver that keeps its doorbells in memory and rings only when asked to, as operating systems do.
class ShadowDriver {
 public:
  ShadowDriver(Rig& rig, std::uint16_t queue)
      : rig_(rig), queue_(queue), doorbells_(rig.ram.allocate(4096)), events_(rig.ram.allocate(4096)) {
    rig.ram.fill(doorbells_, 4096, std::byte{0});
    rig.ram.fill(events_, 4096, std::byte{0});
  }
  Status configure() {
    Command command = admin_command(AdminOpcode::DoorbellBufferConfig);
    command.prp1 = doorbells_.value;
    command.prp2 = events_.value;
    return status_of(rig_.driver.admin(command));
  }
  Completion run(Command command) {
    rig_.driver.place(queue_, command);
    update(sq_tail_word(queue_), rig_.driver.pair(queue_).tail);
    std::optional<Completion> completion;
    while (!(completion = rig_.driver.poll(queue_, false))) std::this_thread::yield();
    update(cq_head_word(queue_), rig_.driver.pair(queue_).head);
    return *completion;
  }
  [[nodiscard]] std::size_t rings() const { return rings_; }

 private:
  std::uint32_t& word(Iova page, std::size_t index) const {
    return *reinterpret_cast<std::uint32_t*>(rig_.ram.at(page + (index * 4), 4).data());
  }
  void update(std::size_t index, std::uint16_t value) {
    std::atomic_ref shadow(word(doorbells_, index));
    const auto old = static_cast<std::uint16_t>(shadow.load());
    shadow.store(value);
    const auto event = static_cast<std::uint16_t>(std::atomic_ref(word(events_, index)).load());
    if (static_cast<std::uint16_t>(value - event - 1) < static_cast<std::uint16_t>(value - old)) {
      ++rings_;
      EXPECT_TRUE(rig_.driver.write32(0x1000 + (index * 4), value));
    }
  }
  Rig& rig_;
  std::uint16_t queue_;
  Iova doorbells_;
  Iova events_;
  std::size_t rings_ = 0;
};

TEST(NvmeShadowDoorbells, no_submission_is_missed_and_few_are_rung) {
  for (const int spin : {0, 1'000'000}) {
    Rig rig(ControllerOptions{.spin = std::chrono::microseconds(spin)});
    ASSERT_EQ(rig.driver.enable(), kCstsReady);
    ASSERT_EQ(rig.driver.create_pair(1, 16), Status::Success);
    ShadowDriver shadow(rig, 1);
    ASSERT_EQ(shadow.configure(), Status::Success);
    constexpr std::size_t kRounds = 500;
    for (std::size_t round = 0; round < kRounds; ++round) {
      ASSERT_EQ(status_of(shadow.run({.opcode = 0, .nsid = 1})), Status::Success);
    }
    if (spin != 0 && ::get_nprocs() > 1) {
      EXPECT_LT(shadow.rings(), kRounds) << "a controller that is awake needs no ring";
    }
  }
}

TEST(NvmeShadowDoorbells, completions_taken_need_no_ring_where_interrupts_are_messages) {
  Rig rig(ControllerOptions{.spin = std::chrono::microseconds(0)});
  Fd message(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  IrqSet request{.type = IrqType::Msix, .data = IrqSet::Data::Eventfd, .count = 1};
  request.eventfds.push_back(std::move(message));
  ASSERT_TRUE(rig.endpoint->interrupts().set(std::move(request)));
  ASSERT_EQ(rig.driver.enable(), kCstsReady);
  constexpr std::size_t kEntries = 16;
  ASSERT_EQ(rig.driver.create_pair(1, kEntries), Status::Success);
  ShadowDriver shadow(rig, 1);
  ASSERT_EQ(shadow.configure(), Status::Success);
  constexpr std::size_t kRounds = 500;
  for (std::size_t round = 0; round < kRounds; ++round) {
    ASSERT_EQ(status_of(shadow.run({.opcode = 0, .nsid = 1})), Status::Success);
  }
  // A ring for each submission at most, and one for a head whenever it passes the index that it began with.
  EXPECT_LE(shadow.rings(), kRounds + (kRounds / kEntries) + 1);
}

TEST(NvmeShadowDoorbells, pages_that_are_misaligned_or_not_there_are_refused) {
  Rig rig;
  ASSERT_EQ(rig.driver.enable(), kCstsReady);
  Command command = admin_command(AdminOpcode::DoorbellBufferConfig);
  command.prp1 = HostRam::kBase + 0x100;
  command.prp2 = HostRam::kBase;
  EXPECT_EQ(status_of(rig.driver.admin(command)), Status::InvalidPrpOffset);
  command.prp1 = 0x1000;
  EXPECT_EQ(status_of(rig.driver.admin(command)), Status::InvalidField);
  command.prp1 = HostRam::kBase;
  command.prp2 = 0x1000;
  EXPECT_EQ(status_of(rig.driver.admin(command)), Status::InvalidField) << "the event indices are not there";
  EXPECT_EQ(rig.driver.create_pair(1), Status::Success) << "by register, as before";
  EXPECT_EQ(status_of(rig.driver.run(1, {.opcode = 0, .nsid = 1})), Status::Success);
  EXPECT_EQ(rig.driver.read32(kRegisterCsts), kCstsReady);
}

TEST(NvmeShadowDoorbells, pages_that_are_refused_leave_those_in_use) {
  Rig rig;
  ASSERT_EQ(rig.driver.enable(), kCstsReady);
  ASSERT_EQ(rig.driver.create_pair(1, 16), Status::Success);
  ShadowDriver shadow(rig, 1);
  ASSERT_EQ(shadow.configure(), Status::Success);
  Command command = admin_command(AdminOpcode::DoorbellBufferConfig);
  command.prp1 = HostRam::kBase;
  command.prp2 = 0x1000;
  ASSERT_EQ(status_of(rig.driver.admin(command)), Status::InvalidField);
  for (int round = 0; round < 100; ++round) {
    ASSERT_EQ(status_of(shadow.run({.opcode = 0, .nsid = 1})), Status::Success);
  }
}

}  // namespace
}  // namespace gangway::nvme::test
