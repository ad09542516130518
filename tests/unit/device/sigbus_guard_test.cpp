#include "device/sigbus_guard.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include <gangway/dma.h>

#include "unit/device/matchers.h"
#include "unit/device/memory_file.h"

namespace gangway {
namespace {

using test::IsOk;
using test::MemoryFile;

constexpr std::uint64_t kPage = 4096;

// Counted without a call that may map something.
std::size_t mappings_of_this_process() {
  const Fd maps(::open("/proc/self/maps", O_RDONLY | O_CLOEXEC));
  static std::array<char, 1U << 16> text;
  std::size_t lines = 0;
  for (ssize_t got = 0; (got = ::read(maps.get(), text.data(), text.size())) > 0;) {
    lines += static_cast<std::size_t>(std::count(text.data(), text.data() + got, '\n'));
  }
  return lines;
}

// A guarded file that has lost its end.
class ShrunkFile {
 public:
  ShrunkFile() : guard_(SigbusGuard::watch(memory_.bytes(), failed_)) {
    if (!guard_ || ::ftruncate(memory_.get(), 4 * kPage) != 0) ::_exit(2);
  }
  bool fault_is_repaired() {
    const std::byte read = static_cast<volatile std::byte*>(memory_.bytes().data())[8 * kPage];
    return failed_ && read == std::byte{0};
  }

 private:
  MemoryFile memory_{16 * kPage};
  std::atomic<bool> failed_{false};
  Result<SigbusGuard> guard_;
};

class SigbusGuardTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_THAT(
        space_.map(
            {.range = {Iova{0}, 16 * kPage}, .permissions = {.read = true, .write = true}, .file = memory_.file()}),
        IsOk());
  }
  void shrink_to(std::uint64_t pages) { ASSERT_EQ(::ftruncate(memory_.get(), static_cast<off_t>(pages * kPage)), 0); }

  MemoryFile memory_{16 * kPage};
  DmaLog log_;
  DmaSpace space_{log_};
};

TEST_F(SigbusGuardTest, a_shrunk_file_reads_as_zero_and_marks_the_space) {
  std::memset(memory_.bytes().data(), 7, memory_.bytes().size());
  std::vector<std::byte> out(16 * kPage);
  ASSERT_THAT(space_.read(Iova{0}, out), IsOk());
  EXPECT_FALSE(space_.failed());
  shrink_to(4);
  ASSERT_THAT(space_.read(Iova{0}, std::span(out).first(4 * kPage)), IsOk());
  EXPECT_FALSE(space_.failed()) << "what is left is there";
  EXPECT_EQ(out[4 * kPage - 1], std::byte{7});
  ASSERT_THAT(space_.read(Iova{4 * kPage}, std::span(out).subspan(4 * kPage)), IsOk());
  EXPECT_TRUE(space_.failed());
  EXPECT_EQ(out[4 * kPage], std::byte{0});
  EXPECT_EQ(out.back(), std::byte{0});
  EXPECT_EQ(memory_.bytes()[4 * kPage - 1], std::byte{7}) << "the file is the client's";
}

// Or a client could have twice the mappings that it may have.
TEST_F(SigbusGuardTest, a_repair_takes_no_further_mapping) {
  std::vector<std::byte> out(16 * kPage);
  ASSERT_THAT(space_.read(Iova{0}, out), IsOk());
  // What a sanitizer maps for a thread's first signal is not the repair's.
  ASSERT_TRUE(ShrunkFile().fault_is_repaired());
  const std::size_t before = mappings_of_this_process();
  shrink_to(4);
  ASSERT_THAT(space_.read(Iova{4 * kPage}, std::span(out).first(1)), IsOk());
  EXPECT_TRUE(space_.failed());
  EXPECT_LE(mappings_of_this_process(), before);
}

TEST_F(SigbusGuardTest, a_shrunk_file_takes_writes) {
  shrink_to(0);
  const std::array<std::byte, 3> in{std::byte{1}, std::byte{2}, std::byte{3}};
  ASSERT_THAT(space_.write(Iova{9 * kPage}, in), IsOk());
  ASSERT_THAT(space_.write(Iova{3 * kPage}, in), IsOk());
  EXPECT_TRUE(space_.failed());
  const auto pin = space_.pin(Iova{0}, 16 * kPage, DmaAccess::Write);
  ASSERT_THAT(pin, IsOk());
  std::memset(pin->bytes().data(), 9, pin->bytes().size());
  EXPECT_EQ(pin->bytes()[0], std::byte{9});
}

TEST_F(SigbusGuardTest, the_next_client_finds_nothing_failed) {
  shrink_to(0);
  std::array<std::byte, 1> byte{};
  ASSERT_THAT(space_.read(Iova{0}, byte), IsOk());
  ASSERT_TRUE(space_.failed());
  space_.unmap_all();
  EXPECT_FALSE(space_.failed());
}

TEST_F(SigbusGuardTest, other_spaces_are_not_concerned) {
  DmaSpace other(log_);
  const MemoryFile memory(kPage);
  ASSERT_THAT(other.map({.range = {Iova{0}, kPage}, .permissions = {.read = true}, .file = memory.file()}), IsOk());
  shrink_to(0);
  std::array<std::byte, 1> byte{};
  ASSERT_THAT(space_.read(Iova{0}, byte), IsOk());
  EXPECT_TRUE(space_.failed());
  EXPECT_FALSE(other.failed());
}

void fault_outside_any_mapping() {
  std::array<std::byte, 1> unrelated{};
  std::atomic<bool> failed{false};
  const auto guard = SigbusGuard::watch(unrelated, failed);  // installs the handler
  const MemoryFile memory(kPage);
  std::ignore = ::ftruncate(memory.get(), 0);
  static_cast<volatile std::byte*>(memory.bytes().data())[0] = std::byte{1};
}

// A fault elsewhere is not ours to repair.
TEST(SigbusGuardDeathTest, a_fault_elsewhere_still_kills) {
  testing::GTEST_FLAG(death_test_style) = "threadsafe";
  EXPECT_EXIT(fault_outside_any_mapping(), testing::KilledBySignal(SIGBUS), "");
}

// By the system call itself: a sanitizer's own mmap() would look for more memory than there is.
bool take_a_mapping(int protection) {
  return ::syscall(SYS_mmap, nullptr, kPage, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != -1;
}

// Exits with 0 when the fault is repaired.
void fault_where_no_mapping_is_left() {
  ShrunkFile usual;
  ShrunkFile file;
  if (!usual.fault_is_repaired()) ::_exit(3);  // a sanitizer maps something for the first signal of a thread
  // Neighbours that differ, so that the kernel does not join them.
  for (std::size_t i = 0; take_a_mapping(i % 2 == 0 ? PROT_NONE : PROT_READ); ++i) continue;
  ::_exit(file.fault_is_repaired() ? 0 : 1);
}

TEST(SigbusGuardDeathTest, a_fault_is_repaired_where_the_process_may_map_nothing_more) {
  testing::GTEST_FLAG(death_test_style) = "threadsafe";
  EXPECT_EXIT(fault_where_no_mapping_is_left(), testing::ExitedWithCode(0), "");
}

TEST(SigbusGuardTable, slots_are_used_again) {
  std::array<std::byte, 1> byte{};
  std::atomic<bool> failed{false};
  for (std::size_t i = 0; i < SigbusGuard::kMaxRanges + 10; ++i) {
    ASSERT_THAT(SigbusGuard::watch(byte, failed), IsOk()) << i;
  }
  EXPECT_FALSE(failed);
}

}  // namespace
}  // namespace gangway
