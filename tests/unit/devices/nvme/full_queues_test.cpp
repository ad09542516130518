// Every queue full at once: more commands than the controller carries out at a time.
#include <gtest/gtest.h>

#include <array>
#include <chrono>
#include <memory>
#include <set>
#include <thread>

#include "unit/devices/nvme/fault_backend.h"
#include "unit/devices/nvme/host.h"

namespace gangway::nvme::test {
namespace {

constexpr std::uint16_t kQueues = kMaxIoQueues;
constexpr std::uint16_t kEntries = 1024;
constexpr std::size_t kDepth = kEntries - 1;  // one entry stays free, or full would look empty
constexpr std::size_t kCommands = kQueues * kDepth;
constexpr std::uint64_t kBlock = 512;
static_assert(kCommands > kMaxRequests);

struct Kind {
  std::string_view name;
  Result<std::unique_ptr<Backend>> (*make)(std::span<const int>);
};

class NvmeFullQueues : public testing::TestWithParam<Kind> {
 protected:
  NvmeFullQueues() {
    EXPECT_EQ(rig_.driver.enable(), kCstsReady);
    for (std::uint16_t id = 1; id <= kQueues; ++id) {
      EXPECT_EQ(rig_.driver.create_pair(id, kEntries, id), Status::Success);
    }
    data_ = rig_.ram.allocate(kCommands * kBlock);
  }

  // A command of one block for every free entry, all placed before any doorbell is rung, and held back until the
  // controller has taken as many as it carries out at once.
  void fill_all(IoOpcode opcode) {
    faults_->hold = true;
    for (std::size_t block = 0; block < kCommands; ++block) {
      const auto queue = static_cast<std::uint16_t>((block % kQueues) + 1);
      const auto cid = rig_.driver.place(queue, io_command(opcode, block, 1, data_ + block * kBlock));
      expected_.at(queue).insert(cid);
    }
    for (std::uint16_t queue = 1; queue <= kQueues; ++queue) rig_.driver.ring(queue);
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (faults_->held < kMaxRequests) {
      ASSERT_LT(std::chrono::steady_clock::now(), deadline) << faults_->held << " requests at the backend";
      std::this_thread::yield();
    }
    EXPECT_EQ(faults_->held, kMaxRequests);
    faults_->hold = false;
  }
  void take_all() {
    for (std::uint16_t queue = 1; queue <= kQueues; ++queue) {
      while (!expected_.at(queue).empty()) {
        const auto completion = rig_.driver.wait(queue);
        ASSERT_TRUE(completion) << expected_.at(queue).size() << " commands of queue " << queue << " never ended";
        ASSERT_EQ(status_of(*completion), Status::Success);
        ASSERT_EQ(expected_.at(queue).erase(completion->cid), 1U) << "completed twice, or never asked for";
      }
      EXPECT_FALSE(rig_.driver.poll(queue)) << "one completion too many";
    }
  }

  std::shared_ptr<Faults> faults_ = std::make_shared<Faults>();
  Rig rig_{ControllerOptions{.backend = with_faults(faults_, GetParam().make)}, kCommands* kBlock};
  std::array<std::set<std::uint16_t>, kQueues + 1> expected_;
  Iova data_;
};

TEST_P(NvmeFullQueues, lose_and_mix_up_nothing) {
  const auto bytes = pattern(kCommands * kBlock, 21);
  const auto memory = rig_.ram.at(data_, bytes.size());
  std::ranges::copy(bytes, memory.begin());
  ASSERT_NO_FATAL_FAILURE(fill_all(IoOpcode::Write));
  ASSERT_NO_FATAL_FAILURE(take_all());
  EXPECT_TRUE(rig_.image->read(0, bytes.size()) == bytes);
  std::ranges::fill(memory, std::byte{0});
  ASSERT_NO_FATAL_FAILURE(fill_all(IoOpcode::Read));
  ASSERT_NO_FATAL_FAILURE(take_all());
  EXPECT_TRUE(std::ranges::equal(memory, bytes));
}

INSTANTIATE_TEST_SUITE_P(Both, NvmeFullQueues,
                         testing::Values(Kind{"uring", make_uring_backend}, Kind{"threads", make_thread_pool_backend}),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace gangway::nvme::test
