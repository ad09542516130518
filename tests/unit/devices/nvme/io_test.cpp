#include <gtest/gtest.h>

#include <unistd.h>
#include <map>
#include <random>
#include <set>

#include "devices/nvme/identify.h"
#include "unit/devices/nvme/fault_backend.h"
#include "unit/devices/nvme/host.h"

namespace gangway::nvme::test {
namespace {

using Step = ImageRequest::Step;

struct Kind {
  std::string_view name;
  Result<std::unique_ptr<Backend>> (*make)(std::span<const int>);
};

// Namespace 1: 512-byte blocks, 2: 4096-byte blocks, 3: read-only.
class NvmeIo : public testing::TestWithParam<Kind> {
 protected:
  NvmeIo() {
    EXPECT_EQ(rig_.driver.enable(), kCstsReady);
    EXPECT_EQ(rig_.driver.create_pair(1), Status::Success);
    data_ = rig_.ram.allocate(kMaxTransfer + 8192);
  }
  Status run(Command command) { return status_of(rig_.driver.run(1, command)); }
  void put(std::span<const std::byte> bytes, Iova at) const {
    std::ranges::copy(bytes, rig_.ram.at(at, bytes.size()).begin());
  }
  [[nodiscard]] std::vector<std::byte> got(Iova at, std::size_t size) const {
    const auto bytes = rig_.ram.at(at, size);
    return {bytes.begin(), bytes.end()};
  }
  // PRPs of a contiguous buffer, with a list.
  Command large(IoOpcode opcode, std::uint64_t block, std::uint32_t blocks, Iova at) {
    Command command = io_command(opcode, block, blocks, at);
    const Iova list = rig_.ram.allocate(4096);
    for (std::uint64_t page = 0; page < 512; ++page) {
      rig_.ram.put(list + page * 8, (at.value & ~0xfffULL) + (page + 1) * 4096);
    }
    command.prp2 = list.value;
    return command;
  }

  // What the backend was asked for since the last call.
  [[nodiscard]] std::vector<Faults::Asked> asked() const { return faults_->take_asked(); }

  std::shared_ptr<Faults> faults_ = std::make_shared<Faults>();
  TemporaryImage big_blocks_{4U << 20};
  TemporaryImage read_only_{1U << 20};
  Rig rig_{ControllerOptions{.namespaces = {{},
                                            {.path = big_blocks_.path(), .block_size = 4096},
                                            {.path = read_only_.path(), .read_only = true}},
                             .backend = with_faults(faults_, GetParam().make)}};
  Iova data_;
};

TEST_P(NvmeIo, what_is_written_is_read_back) {
  const auto bytes = pattern(8192, 7);
  put(bytes, data_);
  EXPECT_EQ(run(io_command(IoOpcode::Write, 10, 16, data_)), Status::Success);
  EXPECT_EQ(rig_.image->read(10 * 512, 8192), bytes);
  rig_.ram.fill(data_, 8192, std::byte{0});
  EXPECT_EQ(run(io_command(IoOpcode::Read, 10, 16, data_)), Status::Success);
  EXPECT_EQ(got(data_, 8192), bytes);
}

TEST_P(NvmeIo, blocks_of_4096_bytes) {
  const auto bytes = pattern(8192, 8);
  put(bytes, data_);
  EXPECT_EQ(run(io_command(IoOpcode::Write, 3, 2, data_, 2)), Status::Success);
  EXPECT_EQ(big_blocks_.read(3 * 4096, 8192), bytes);
}

TEST_P(NvmeIo, the_largest_transfer_goes_through_a_list_from_an_odd_place) {
  const Iova at = data_ + 0x104;
  const auto bytes = pattern(kMaxTransfer, 9);
  put(bytes, at);
  EXPECT_EQ(run(large(IoOpcode::Write, 100, kMaxTransfer / 512, at)), Status::Success);
  EXPECT_EQ(rig_.image->read(100 * 512, kMaxTransfer), bytes);
  rig_.ram.fill(at, kMaxTransfer, std::byte{0});
  EXPECT_EQ(run(large(IoOpcode::Read, 100, kMaxTransfer / 512, at)), Status::Success);
  EXPECT_EQ(got(at, kMaxTransfer), bytes);
  EXPECT_EQ(run(large(IoOpcode::Read, 0, kMaxTransfer / 512 + 1, at)), Status::InvalidField) << "beyond MDTS";
}

TEST_P(NvmeIo, pages_may_lie_anywhere) {
  const auto bytes = pattern(3 * 4096, 10);
  const Iova list = rig_.ram.allocate(4096);
  rig_.ram.put(list, std::array<std::uint64_t, 2>{data_.value + 0x2000, data_.value + 0x9000});
  Command command = io_command(IoOpcode::Write, 0, 24, data_ + 0x6000);
  command.prp2 = list.value;
  put(std::span(bytes).first(4096), data_ + 0x6000);
  put(std::span(bytes).subspan(4096, 4096), data_ + 0x2000);
  put(std::span(bytes).subspan(8192), data_ + 0x9000);
  EXPECT_EQ(run(command), Status::Success);
  EXPECT_EQ(rig_.image->read(0, bytes.size()), bytes);
}

// That these steps reach stable storage is told by block_device_test.cpp.
TEST_P(NvmeIo, forced_and_uncached_writes_are_durable_and_others_are_not) {
  const auto bytes = pattern(512, 11);
  put(bytes, data_);
  EXPECT_EQ(run(io_command(IoOpcode::Write, 4, 1, data_)), Status::Success);
  EXPECT_EQ(asked(), (std::vector<Faults::Asked>{{Step::Write, 0}}));
  Command command = io_command(IoOpcode::Write, 5, 1, data_);
  command.cdw12 |= kRwForceUnitAccess;
  EXPECT_EQ(run(command), Status::Success);
  EXPECT_EQ(asked(), (std::vector<Faults::Asked>{{Step::WriteDurably, 0}}));
  EXPECT_EQ(rig_.image->read(5 * 512, 512), bytes);
  command = io_command(IoOpcode::WriteZeroes, 5, 1, {});
  EXPECT_EQ(run(command), Status::Success);
  EXPECT_EQ(asked(), (std::vector<Faults::Asked>{{Step::ZeroRange, 0}}));
  command.cdw12 |= kRwForceUnitAccess;
  EXPECT_EQ(run(command), Status::Success);
  EXPECT_EQ(asked(), (std::vector<Faults::Asked>{{Step::ZeroRange, 0}, {Step::Sync, 0}}));

  EXPECT_EQ(status_of(rig_.driver.admin(admin_command(AdminOpcode::SetFeatures, 6, 0))), Status::Success);
  EXPECT_EQ(run(io_command(IoOpcode::Write, 6, 1, data_)), Status::Success);
  EXPECT_EQ(asked(), (std::vector<Faults::Asked>{{Step::WriteDurably, 0}}));
  EXPECT_EQ(rig_.image->read(6 * 512, 512), bytes);
  EXPECT_EQ(run(io_command(IoOpcode::WriteZeroes, 5, 1, {}, 2)), Status::Success);
  EXPECT_EQ(asked(), (std::vector<Faults::Asked>{{Step::ZeroRange, 1}, {Step::Sync, 1}}));
  rig_.ram.put(data_, DatasetRange{.blocks = 8, .start = 0});
  command = io_command(IoOpcode::DatasetManagement, 0, 1, data_);
  command.cdw11 = kDatasetDeallocate;
  EXPECT_EQ(run(command), Status::Success);
  EXPECT_EQ(asked(), (std::vector<Faults::Asked>{{Step::PunchHole, 0}, {Step::Sync, 0}}));
}

// NVM Express 1.4, 6.6 and 6.9: what a forced read returns is on stable storage.
TEST_P(NvmeIo, what_a_forced_read_or_compare_has_seen_is_durable) {
  const auto bytes = pattern(4096, 17);
  for (const std::uint32_t nsid : {1U, 3U}) {
    const std::uint32_t file = nsid - 1;
    (nsid == 1 ? *rig_.image : read_only_).write(0, bytes);
    for (const IoOpcode opcode : {IoOpcode::Read, IoOpcode::Compare}) {
      Command command = io_command(opcode, 0, 8, data_, nsid);
      EXPECT_EQ(run(command), Status::Success);
      EXPECT_EQ(asked(), (std::vector<Faults::Asked>{{Step::Read, file}})) << static_cast<int>(opcode);
      command.cdw12 |= kRwForceUnitAccess;
      EXPECT_EQ(run(command), Status::Success);
      EXPECT_EQ(asked(), (std::vector<Faults::Asked>{{Step::Read, file}, {Step::Sync, file}}))
          << static_cast<int>(opcode);
      EXPECT_EQ(got(data_, 4096), bytes);
    }
  }
}

TEST_P(NvmeIo, a_forced_read_that_cannot_be_made_durable_fails) {
  faults_->sync_error = EIO;
  Command command = io_command(IoOpcode::Read, 0, 8, data_);
  EXPECT_EQ(run(command), Status::Success);
  command.cdw12 |= kRwForceUnitAccess;
  EXPECT_EQ(run(command), Status::WriteFault);
  command.opcode = static_cast<std::uint8_t>(IoOpcode::Compare);
  EXPECT_EQ(run(command), Status::WriteFault);
  faults_->sync_error = 0;
  EXPECT_EQ(run(command), Status::Success);
}

TEST_P(NvmeIo, flush_of_one_and_of_all) {
  EXPECT_EQ(run({.opcode = 0, .nsid = 1}), Status::Success);
  EXPECT_EQ(run({.opcode = 0, .nsid = 3}), Status::Success);
  EXPECT_EQ(run({.opcode = 0, .nsid = kBroadcastNamespace}), Status::Success);
  EXPECT_EQ(run({.opcode = 0, .nsid = 0}), Status::InvalidNamespace);
  EXPECT_EQ(run({.opcode = 0, .nsid = 4}), Status::InvalidNamespace);
}

TEST_P(NvmeIo, write_zeroes_leaves_zeros) {
  rig_.image->write(0, pattern(1U << 20, 12));
  EXPECT_EQ(run(io_command(IoOpcode::WriteZeroes, 8, 1000, {})), Status::Success);
  EXPECT_EQ(rig_.image->read(8 * 512, 512'000), std::vector<std::byte>(512'000));
  EXPECT_NE(rig_.image->read(7 * 512, 512), std::vector<std::byte>(512));
  Command forced = io_command(IoOpcode::WriteZeroes, 0, 8, {});
  forced.cdw12 |= kRwForceUnitAccess | kWriteZeroesDeallocate;
  EXPECT_EQ(run(forced), Status::Success);
  EXPECT_EQ(rig_.image->read(0, 4096), std::vector<std::byte>(4096));
}

TEST_P(NvmeIo, deallocated_blocks_read_zeros_and_take_no_space) {
  rig_.image->write(0, pattern(2U << 20, 13));
  const std::uint64_t before = rig_.image->allocated();
  const std::array ranges{DatasetRange{.blocks = 1024, .start = 0}, DatasetRange{.blocks = 0, .start = 5},
                          DatasetRange{.blocks = 512, .start = 2048}};
  rig_.ram.put(data_, ranges);
  Command command = io_command(IoOpcode::DatasetManagement, ranges.size() - 1, 1, data_);
  command.cdw11 = kDatasetDeallocate;
  EXPECT_EQ(run(command), Status::Success);
  EXPECT_EQ(rig_.image->read(0, 1024 * 512), std::vector<std::byte>(1024 * 512));
  EXPECT_EQ(rig_.image->read(2048 * 512, 512 * 512), std::vector<std::byte>(512 * 512));
  EXPECT_NE(rig_.image->read(1024 * 512, 512), std::vector<std::byte>(512));
  EXPECT_LT(rig_.image->allocated(), before);
}

TEST_P(NvmeIo, a_bad_range_deallocates_nothing) {
  const auto bytes = pattern(65536, 14);
  rig_.image->write(0, bytes);
  rig_.ram.put(data_, std::array{DatasetRange{.blocks = 16, .start = 0}, DatasetRange{.blocks = 2, .start = ~0ULL}});
  Command command = io_command(IoOpcode::DatasetManagement, 1, 1, data_);
  command.cdw11 = kDatasetDeallocate;
  EXPECT_EQ(run(command), Status::LbaOutOfRange);
  EXPECT_EQ(rig_.image->read(0, bytes.size()), bytes);
  rig_.ram.put(data_, DatasetRange{.blocks = 16, .start = 0});
  command.cdw10 = 0;
  command.cdw11 = 3;  // integral dataset for read and write: hints
  EXPECT_EQ(run(command), Status::Success);
  EXPECT_EQ(rig_.image->read(0, bytes.size()), bytes);
}

TEST_P(NvmeIo, compare_tells_equal_from_different) {
  const auto bytes = pattern(4096, 15);
  rig_.image->write(4096, bytes);
  put(bytes, data_);
  EXPECT_EQ(run(io_command(IoOpcode::Compare, 8, 8, data_)), Status::Success);
  rig_.ram.put(data_ + 4000, std::uint8_t{static_cast<std::uint8_t>(~static_cast<unsigned>(bytes[4000]))});
  EXPECT_EQ(run(io_command(IoOpcode::Compare, 8, 8, data_)), Status::CompareFailure);
}

TEST_P(NvmeIo, ranges_beyond_the_end_are_refused) {
  const std::uint64_t blocks = (8U << 20) / 512;
  for (const IoOpcode opcode : {IoOpcode::Read, IoOpcode::Write, IoOpcode::Compare, IoOpcode::WriteZeroes}) {
    EXPECT_EQ(run(io_command(opcode, blocks - 1, 1, data_)), Status::Success) << static_cast<int>(opcode);
    EXPECT_EQ(run(io_command(opcode, blocks, 1, data_)), Status::LbaOutOfRange) << static_cast<int>(opcode);
    EXPECT_EQ(run(io_command(opcode, blocks - 1, 2, data_)), Status::LbaOutOfRange) << static_cast<int>(opcode);
    EXPECT_EQ(run(io_command(opcode, ~0ULL, 1, data_)), Status::LbaOutOfRange) << static_cast<int>(opcode);
    EXPECT_EQ(run(io_command(opcode, ~0ULL - 7, 16, data_)), Status::LbaOutOfRange) << static_cast<int>(opcode);
  }
}

TEST_P(NvmeIo, absent_namespaces_and_unknown_commands_are_refused) {
  for (const IoOpcode opcode :
       {IoOpcode::Read, IoOpcode::Write, IoOpcode::Compare, IoOpcode::WriteZeroes, IoOpcode::DatasetManagement}) {
    for (const std::uint32_t nsid : {0U, 4U, 0xffff'fffeU, kBroadcastNamespace}) {
      EXPECT_EQ(run(io_command(opcode, 0, 1, data_, nsid)), Status::InvalidNamespace) << static_cast<int>(opcode);
    }
  }
  for (const int opcode : {0x03, 0x04, 0x06, 0x07, 0x0c, 0x0d, 0x0e, 0x11, 0x15, 0x80, 0xff}) {
    EXPECT_EQ(run({.opcode = static_cast<std::uint8_t>(opcode), .nsid = 1}), Status::InvalidOpcode) << opcode;
  }
}

TEST_P(NvmeIo, a_read_only_namespace_is_not_written) {
  for (const IoOpcode opcode : {IoOpcode::Write, IoOpcode::WriteZeroes, IoOpcode::DatasetManagement}) {
    EXPECT_EQ(run(io_command(opcode, 0, 1, data_, 3)), Status::NamespaceWriteProtected) << static_cast<int>(opcode);
  }
  EXPECT_EQ(run(io_command(IoOpcode::Read, 0, 1, data_, 3)), Status::Success);
}

TEST_P(NvmeIo, bad_data_pointers_are_refused) {
  Command command = io_command(IoOpcode::Read, 0, 8, data_);
  command.prp1 += 1;
  EXPECT_EQ(run(command), Status::InvalidPrpOffset);
  command.prp1 = 0x3000;
  EXPECT_EQ(run(command), Status::DataTransferError) << "outside of memory";
  command = io_command(IoOpcode::Write, 0, 16, data_);
  command.prp2 = data_.value + 0x1200;
  EXPECT_EQ(run(command), Status::InvalidPrpOffset);
  command.prp2 = HostRam::kBase + rig_.ram.size();
  EXPECT_EQ(run(command), Status::DataTransferError) << "just behind memory";
  command = io_command(IoOpcode::Read, 0, 24, data_);
  command.prp2 = 0x5000;
  EXPECT_EQ(run(command), Status::DataTransferError) << "the list is outside of memory";
  command = io_command(IoOpcode::Read, 0, 1, data_);
  command.flags = 0x40;
  EXPECT_EQ(run(command), Status::InvalidField) << "an SGL";
}

TEST_P(NvmeIo, a_buffer_across_two_mappings_is_bounced) {
  const std::uint64_t page = 64ULL << 30;
  for (const std::uint64_t half : {0ULL, 4096ULL}) {
    ASSERT_TRUE(rig_.endpoint->dma().map({.range = {{page + half}, 4096},
                                          .permissions = {.read = true, .write = true},
                                          .file = Fd(::dup(rig_.ram.fd())),
                                          .offset = half == 0 ? 8U << 20 : 12U << 20}));
  }
  const auto bytes = pattern(8192, 16);
  rig_.image->write(0, bytes);
  EXPECT_EQ(run(io_command(IoOpcode::Read, 0, 16, {page})), Status::Success);
  EXPECT_EQ(got({HostRam::kBase + (8U << 20)}, 4096), std::vector(bytes.begin(), bytes.begin() + 4096));
  EXPECT_EQ(got({HostRam::kBase + (12U << 20)}, 4096), std::vector(bytes.begin() + 4096, bytes.end()));
  EXPECT_EQ(run(io_command(IoOpcode::Write, 100, 16, {page})), Status::Success);
  EXPECT_EQ(rig_.image->read(100 * 512, 8192), bytes);
}

TEST_P(NvmeIo, a_page_the_device_wrote_is_in_the_log) {
  ASSERT_TRUE(rig_.endpoint->log().start_all(0));
  EXPECT_EQ(run(io_command(IoOpcode::Read, 0, 8, data_)), Status::Success);
  const auto report = rig_.endpoint->log().report({{data_.value}, 8192}, 4096, 1024);
  ASSERT_TRUE(report);
  std::uint64_t bitmap = 0;
  report->merge_into(std::span(&bitmap, 1));
  EXPECT_EQ(bitmap, 1U) << "the page read to, and not its neighbour";
}

TEST_P(NvmeIo, a_shrunk_image_is_a_read_error) {
  rig_.image->truncate(4096);
  EXPECT_EQ(run(io_command(IoOpcode::Read, 100, 1, data_)), Status::UnrecoveredReadError);
  EXPECT_EQ(run(io_command(IoOpcode::Read, 0, 1, data_)), Status::Success);
}

TEST_P(NvmeIo, data_stays_whole_at_depth) {
  constexpr std::uint16_t kQueues = 3;
  constexpr std::size_t kDepth = 60;
  for (std::uint16_t id = 2; id <= kQueues; ++id) ASSERT_EQ(rig_.driver.create_pair(id, 64, id), Status::Success);
  struct Slot {
    Iova data;
    std::uint64_t block = 0;
    bool writes = false;
  };
  struct Stamp {
    std::uint64_t block = 0;
    std::uint64_t generation = 0;
  };
  std::array<std::map<std::uint16_t, Slot>, kQueues + 1> running;
  std::map<std::uint64_t, std::uint64_t> generations;
  std::set<std::uint64_t> busy;
  std::vector<Iova> free;
  for (std::size_t slot = 0; slot < kDepth * kQueues; ++slot) free.push_back(rig_.ram.allocate(4096));
  std::mt19937_64 random(1);
  std::uint64_t generation = 0;
  std::size_t started = 0;
  std::size_t done = 0;
  constexpr std::size_t kTotal = 6000;
  while (done < kTotal) {
    for (std::uint16_t queue = 1; queue <= kQueues; ++queue) {
      bool placed = false;
      while (running[queue].size() < kDepth && started < kTotal) {
        Slot slot{.data = free.back(), .block = random() % 1500, .writes = random() % 2 == 0};
        if (!busy.insert(slot.block).second) continue;
        free.pop_back();
        if (slot.writes) rig_.ram.put(slot.data, Stamp{slot.block, ++generation});
        const auto opcode = slot.writes ? IoOpcode::Write : IoOpcode::Read;
        running[queue][rig_.driver.place(queue, io_command(opcode, slot.block * 8, 8, slot.data))] = slot;
        ++started;
        placed = true;
      }
      if (placed) rig_.driver.ring(queue);
      while (const auto completion = rig_.driver.poll(queue)) {
        ASSERT_EQ(status_of(*completion), Status::Success);
        const auto found = running[queue].find(completion->cid);
        ASSERT_NE(found, running[queue].end()) << "a completion of nothing";
        const Slot slot = found->second;
        const auto stamp = rig_.ram.get<Stamp>(slot.data);
        if (slot.writes) generations[slot.block] = stamp.generation;
        if (!slot.writes && generations.contains(slot.block)) {
          ASSERT_EQ(stamp.block, slot.block);
          ASSERT_EQ(stamp.generation, generations[slot.block]);
        }
        running[queue].erase(found);
        busy.erase(slot.block);
        free.push_back(slot.data);
        ++done;
      }
    }
  }
}

TEST_P(NvmeIo, counters_count_what_was_done) {
  for (int count = 0; count < 3; ++count) ASSERT_EQ(run(io_command(IoOpcode::Read, 0, 8, data_)), Status::Success);
  ASSERT_EQ(run(io_command(IoOpcode::Write, 0, 8, data_)), Status::Success);
  Command command = admin_command(AdminOpcode::GetLogPage, 127U << 16 | 2U);
  command.prp1 = data_.value;
  ASSERT_EQ(status_of(rig_.driver.admin(command)), Status::Success);
  const auto smart = rig_.ram.get<SmartLog>(data_);
  EXPECT_EQ(smart.host_reads.low, 3U);
  EXPECT_EQ(smart.host_writes.low, 1U);
  EXPECT_EQ(smart.data_units_read.low, 1U) << "thousands of 512 bytes, rounded up";
}

INSTANTIATE_TEST_SUITE_P(Both, NvmeIo,
                         testing::Values(Kind{"uring", make_uring_backend}, Kind{"threads", make_thread_pool_backend}),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace gangway::nvme::test
