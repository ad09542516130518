// What the system itself refuses, through the real backends, and what the host sees of it.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>

#include <filesystem>
#include <fstream>

#include "unit/devices/nvme/host.h"

namespace gangway::nvme::test {
namespace {

constexpr std::uint64_t kMiB = 1U << 20;

struct Kind {
  std::string_view name;
  Result<std::unique_ptr<Backend>> (*make)(std::span<const int>);
};

// The largest offset that this process may write at, until the end of the scope.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(std::uint64_t bytes) : before_handler_(::signal(SIGXFSZ, SIG_IGN)) {
    EXPECT_EQ(::getrlimit(RLIMIT_FSIZE, &before_), 0);
    const rlimit limit{.rlim_cur = bytes, .rlim_max = before_.rlim_max};
    EXPECT_EQ(::setrlimit(RLIMIT_FSIZE, &limit), 0);
  }
  ~FileSizeLimit() {
    EXPECT_EQ(::setrlimit(RLIMIT_FSIZE, &before_), 0);
    ::signal(SIGXFSZ, before_handler_);
  }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;

 private:
  rlimit before_{};
  sighandler_t before_handler_;
};

// A file system of one MiB in memory with a sparse image of eight. Needs root.
class SmallFileSystem {
 public:
  SmallFileSystem() {
    std::string name = (std::filesystem::temp_directory_path() / "gangway-small-XXXXXX").string();
    EXPECT_NE(::mkdtemp(name.data()), nullptr);
    directory_ = name;
    mounted_ = ::mount("gangway", name.c_str(), "tmpfs", 0, "size=1m") == 0;
    if (!mounted_) return;
    std::ofstream(image()).close();
    std::filesystem::resize_file(image(), 8 * kMiB);
  }
  ~SmallFileSystem() {
    if (mounted_) {
      EXPECT_EQ(::umount2(directory_.c_str(), MNT_DETACH), 0);
    }
    std::error_code ignored;
    std::filesystem::remove(directory_, ignored);
  }
  SmallFileSystem(const SmallFileSystem&) = delete;
  SmallFileSystem& operator=(const SmallFileSystem&) = delete;
  [[nodiscard]] bool mounted() const { return mounted_; }
  [[nodiscard]] std::filesystem::path image() const { return directory_ / "image"; }

 private:
  std::filesystem::path directory_;
  bool mounted_ = false;
};

class NvmeImageErrors : public testing::TestWithParam<Kind> {
 protected:
  static Completion write_block(Driver& driver, std::uint64_t block, Iova data, bool forced) {
    Command command = io_command(IoOpcode::Write, block, 8, data);
    if (forced) command.cdw12 |= kRwForceUnitAccess;
    return driver.run(1, command);
  }
  static void start(Rig& rig) {
    ASSERT_EQ(rig.driver.enable(), kCstsReady);
    ASSERT_EQ(rig.driver.create_pair(1), Status::Success);
  }
};

TEST_P(NvmeImageErrors, a_write_beyond_the_file_size_limit_exceeds_the_capacity) {
  Rig rig(ControllerOptions{.backend = GetParam().make});
  ASSERT_NO_FATAL_FAILURE(start(rig));
  const Iova data = rig.ram.allocate(8192);
  const auto bytes = pattern(4096, 31);
  std::ranges::copy(bytes, rig.ram.at(data, 4096).begin());
  constexpr std::uint64_t kLimitBlock = kMiB / 512;
  for (const bool forced : {false, true}) {
    SCOPED_TRACE(forced ? "forced" : "cached");
    {
      const FileSizeLimit limit(kMiB);
      EXPECT_EQ(status_of(write_block(rig.driver, kLimitBlock - 8, data, forced)), Status::Success) << "just below";
      const Completion refused = write_block(rig.driver, kLimitBlock, data, forced);
      EXPECT_EQ(status_of(refused), Status::CapacityExceeded);
      EXPECT_NE(refused.status >> 1 & kStatusDoNotRetry, 0) << "it would fail again";
      EXPECT_EQ(status_of(write_block(rig.driver, kLimitBlock - 4, data, forced)), Status::CapacityExceeded)
          << "half of it fits";
      EXPECT_EQ(rig.image->read(kMiB, 4096), std::vector<std::byte>(4096));
    }
    EXPECT_EQ(status_of(write_block(rig.driver, kLimitBlock, data, forced)), Status::Success) << "the limit is gone";
    EXPECT_EQ(rig.image->read(kMiB, 4096), bytes);
    rig.image->write(kMiB, std::vector<std::byte>(4096));
  }
}

TEST_P(NvmeImageErrors, a_full_file_system_exceeds_the_capacity_and_keeps_what_was_written) {
  const SmallFileSystem small;
  if (!small.mounted()) GTEST_SKIP() << "mounting a tmpfs needs root";
  Rig rig(ControllerOptions{.namespaces = {{.path = small.image()}}, .backend = GetParam().make});
  ASSERT_NO_FATAL_FAILURE(start(rig));
  const Iova data = rig.ram.allocate(8192);
  const auto bytes = pattern(4096, 32);
  std::ranges::copy(bytes, rig.ram.at(data, 4096).begin());
  std::uint64_t written = 0;
  Completion completion;
  for (; written < 8 * kMiB / 4096; ++written) {
    completion = write_block(rig.driver, written * 8, data, false);
    if (status_of(completion) != Status::Success) break;
  }
  EXPECT_EQ(status_of(completion), Status::CapacityExceeded);
  EXPECT_GE(written, kMiB / 4096 / 2);
  EXPECT_LE(written, kMiB / 4096);
  rig.ram.fill(data, 4096, std::byte{0});
  for (std::uint64_t unit = 0; unit < written; ++unit) {
    ASSERT_EQ(status_of(rig.driver.run(1, io_command(IoOpcode::Read, unit * 8, 8, data))), Status::Success);
    ASSERT_TRUE(std::ranges::equal(rig.ram.at(data, 4096), bytes)) << "unit " << unit;
  }
  // Room is made, and the host may go on.
  ASSERT_EQ(status_of(rig.driver.run(1,
                                     [] {
                                       Command zeroes = io_command(IoOpcode::WriteZeroes, 0, 64, {});
                                       zeroes.cdw12 |= kWriteZeroesDeallocate;
                                       return zeroes;
                                     }())),
            Status::Success);
  EXPECT_EQ(status_of(write_block(rig.driver, written * 8, data, true)), Status::Success);
}

INSTANTIATE_TEST_SUITE_P(Both, NvmeImageErrors,
                         testing::Values(Kind{"uring", make_uring_backend}, Kind{"threads", make_thread_pool_backend}),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace gangway::nvme::test
