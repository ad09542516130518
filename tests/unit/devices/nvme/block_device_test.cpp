// A block device as the image: a loop device, which also counts the flushes that reach it. Needs root and loop devices.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include <fmt/format.h>

#include "unit/devices/nvme/host.h"

namespace gangway::nvme::test {
namespace {

struct Kind {
  std::string_view name;
  Result<std::unique_ptr<Backend>> (*make)(std::span<const int>);
};

// Leads to a file, and is gone when the last descriptor of it is closed.
class LoopDevice {
 public:
  static constexpr int kTries = 100;  // another may take the number that was free
  explicit LoopDevice(const std::filesystem::path& file) {
    const Fd backing(::open(file.c_str(), O_RDWR | O_CLOEXEC));
    const Fd control(::open("/dev/loop-control", O_RDWR | O_CLOEXEC));
    if (!control) return;
    for (int tries = 0; tries < kTries && !device_; ++tries) {
      const int number = ::ioctl(control.get(), LOOP_CTL_GET_FREE);
      if (number < 0) return;
      name_ = fmt::format("loop{}", number);
      Fd device(::open(path().c_str(), O_RDWR | O_CLOEXEC));
      if (!device) return;
      loop_config config{};
      config.fd = static_cast<unsigned>(backing.get());
      config.info.lo_flags = LO_FLAGS_AUTOCLEAR;
      if (::ioctl(device.get(), LOOP_CONFIGURE, &config) == 0) {
        device_ = std::move(device);
      } else if (errno != EBUSY) {
        return;
      }
    }
  }
  explicit operator bool() const { return static_cast<bool>(device_); }
  [[nodiscard]] std::filesystem::path path() const { return "/dev/" + name_; }
  // Flushes that it was asked for: the 16th number of its statistics.
  [[nodiscard]] std::uint64_t flushes() const {
    std::ifstream file("/sys/block/" + name_ + "/stat");
    std::uint64_t number = 0;
    for (int field = 0; field < 16; ++field) file >> number;
    EXPECT_TRUE(file) << "no statistics of " << name_;
    return number;
  }

 private:
  std::string name_;
  Fd device_;
};

class NvmeBlockDevice : public testing::TestWithParam<Kind> {
 protected:
  void SetUp() override {
    if (!loop_) GTEST_SKIP() << "no loop device can be set up; that needs root";
    rig_.emplace(ControllerOptions{.namespaces = {{.path = loop_.path()}}, .backend = GetParam().make});
    ASSERT_EQ(rig_->driver.enable(), kCstsReady);
    ASSERT_EQ(rig_->driver.create_pair(1), Status::Success);
    data_ = rig_->ram.allocate(16384);
  }
  Status run(const Command& command) { return status_of(rig_->driver.run(1, command)); }
  Status run_forced(Command command) {
    command.cdw12 |= kRwForceUnitAccess;
    return run(command);
  }
  void put(std::span<const std::byte> bytes) const {
    std::ranges::copy(bytes, rig_->ram.at(data_, bytes.size()).begin());
  }

  TemporaryImage file_{8U << 20};
  LoopDevice loop_{file_.path()};
  std::optional<Rig> rig_;
  Iova data_;
};

TEST_P(NvmeBlockDevice, has_its_size_and_keeps_what_is_written) {
  Command identify = admin_command(AdminOpcode::Identify, 0);
  identify.nsid = 1;
  identify.prp1 = data_.value;
  ASSERT_EQ(status_of(rig_->driver.admin(identify)), Status::Success);
  EXPECT_EQ(rig_->ram.get<std::uint64_t>(data_), (8U << 20) / 512) << "NSZE";
  const auto bytes = pattern(8192, 41);
  put(bytes);
  EXPECT_EQ(run(io_command(IoOpcode::Write, 10, 16, data_)), Status::Success);
  EXPECT_EQ(run({.opcode = 0, .nsid = 1}), Status::Success);
  EXPECT_EQ(file_.read(10 * 512, 8192), bytes) << "flushed, it is in the file below";
  rig_->ram.fill(data_, 8192, std::byte{0});
  EXPECT_EQ(run(io_command(IoOpcode::Read, 10, 16, data_)), Status::Success);
  EXPECT_TRUE(std::ranges::equal(rig_->ram.at(data_, 8192), bytes));
  EXPECT_EQ(run(io_command(IoOpcode::Read, (8U << 20) / 512, 1, data_)), Status::LbaOutOfRange);
}

TEST_P(NvmeBlockDevice, clears_aligned_and_misaligned_ranges) {
  const auto bytes = pattern(16384, 42);
  put(bytes);
  Command write = io_command(IoOpcode::Write, 0, 32, data_);
  const Iova list = rig_->ram.allocate(4096);
  rig_->ram.put(list, std::array{data_.value + 0x1000, data_.value + 0x2000, data_.value + 0x3000});
  write.prp2 = list.value;
  ASSERT_EQ(run(write), Status::Success);
  EXPECT_EQ(run(io_command(IoOpcode::WriteZeroes, 3, 1, {})), Status::Success);
  Command deallocate = io_command(IoOpcode::WriteZeroes, 8, 8, {});
  deallocate.cdw12 |= kWriteZeroesDeallocate;
  EXPECT_EQ(run(deallocate), Status::Success);
  EXPECT_EQ(run({.opcode = 0, .nsid = 1}), Status::Success);
  auto expected = bytes;
  std::fill_n(expected.begin() + 3 * 512, 512, std::byte{0});
  std::fill_n(expected.begin() + 8 * 512, 4096, std::byte{0});
  EXPECT_EQ(file_.read(0, expected.size()), expected);
}

TEST_P(NvmeBlockDevice, flushes_and_forced_accesses_reach_the_device_and_others_need_not) {
  put(pattern(4096, 43));
  ASSERT_EQ(run({.opcode = 0, .nsid = 1}), Status::Success);
  std::uint64_t before = loop_.flushes();
  const auto flushed = [&] {
    const std::uint64_t now = loop_.flushes();
    return now - std::exchange(before, now);
  };
  EXPECT_EQ(run(io_command(IoOpcode::Write, 0, 8, data_)), Status::Success);
  EXPECT_EQ(run(io_command(IoOpcode::Read, 0, 8, data_)), Status::Success);
  EXPECT_EQ(flushed(), 0U);
  EXPECT_EQ(run({.opcode = 0, .nsid = 1}), Status::Success);
  EXPECT_EQ(flushed(), 1U) << "flush";
  EXPECT_EQ(run_forced(io_command(IoOpcode::Write, 0, 8, data_)), Status::Success);
  EXPECT_GE(flushed(), 1U) << "a forced write";
  EXPECT_EQ(run(io_command(IoOpcode::Write, 0, 8, data_)), Status::Success);
  EXPECT_EQ(run_forced(io_command(IoOpcode::Read, 0, 8, data_)), Status::Success);
  EXPECT_GE(flushed(), 1U) << "a forced read";
  EXPECT_EQ(run_forced(io_command(IoOpcode::Compare, 0, 8, data_)), Status::Success);
  EXPECT_GE(flushed(), 1U) << "a forced compare";
  EXPECT_EQ(status_of(rig_->driver.admin(admin_command(AdminOpcode::SetFeatures, 6, 0))), Status::Success);
  EXPECT_EQ(run(io_command(IoOpcode::Write, 0, 8, data_)), Status::Success);
  EXPECT_GE(flushed(), 1U) << "a write without the write cache";
}

INSTANTIATE_TEST_SUITE_P(Both, NvmeBlockDevice,
                         testing::Values(Kind{"uring", make_uring_backend}, Kind{"threads", make_thread_pool_backend}),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace gangway::nvme::test
