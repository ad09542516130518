#include <gangway/dma.h>

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <future>
#include <thread>
#include <vector>

#include "unit/device/matchers.h"
#include "unit/device/memory_file.h"

namespace gangway {
namespace {

using test::FailsWith;
using test::IsOk;
using test::MemoryFile;

constexpr std::uint64_t kPage = 4096;
constexpr DmaPermissions kReadWrite{.read = true, .write = true};

class DmaSpaceTest : public testing::Test {
 protected:
  Result<void> map(std::uint64_t iova, const MemoryFile& file, DmaPermissions permissions = kReadWrite,
                   std::uint64_t offset = 0) {
    return space_.map({.range = {Iova{iova}, file.bytes().size() - offset},
                       .permissions = permissions,
                       .file = file.file(),
                       .offset = offset});
  }
  Result<void> map_file(Fd file, std::uint64_t size, std::uint64_t offset = 0,
                        DmaPermissions permissions = kReadWrite) {
    return space_.map(
        {.range = {Iova{0}, size}, .permissions = permissions, .file = std::move(file), .offset = offset});
  }
  std::uint64_t dirty_pages(IovaRange range) {
    return log_.report(range, kPage, std::size_t{1} << 30).value().dirty_pages();
  }

  DmaLog log_;
  DmaSpace space_{log_};
};

TEST_F(DmaSpaceTest, copies_both_ways) {
  const MemoryFile memory(4 * kPage);
  ASSERT_THAT(map(0x10000, memory), IsOk());
  const std::array<std::byte, 3> in{std::byte{1}, std::byte{2}, std::byte{3}};
  ASSERT_THAT(space_.write(Iova{0x10000 + kPage - 1}, in), IsOk());
  EXPECT_TRUE(std::ranges::equal(memory.bytes().subspan(kPage - 1, 3), in));
  std::array<std::byte, 3> out{};
  ASSERT_THAT(space_.read(Iova{0x10000 + kPage - 1}, out), IsOk());
  EXPECT_EQ(out, in);
}

TEST_F(DmaSpaceTest, maps_from_an_offset) {
  const MemoryFile memory(4 * kPage);
  ASSERT_THAT(map(0, memory, kReadWrite, 2 * kPage), IsOk());
  const std::array<std::byte, 1> in{std::byte{7}};
  ASSERT_THAT(space_.write(Iova{0}, in), IsOk());
  EXPECT_EQ(memory.bytes()[2 * kPage], std::byte{7});
}

TEST_F(DmaSpaceTest, an_access_may_cross_mappings_and_a_pin_may_not) {
  const MemoryFile first(kPage);
  const MemoryFile second(kPage);
  ASSERT_THAT(map(0, first), IsOk());
  ASSERT_THAT(map(kPage, second), IsOk());
  const std::vector<std::byte> in(2 * kPage, std::byte{9});
  ASSERT_THAT(space_.write(Iova{0}, in), IsOk());
  EXPECT_TRUE(std::ranges::equal(second.bytes(), std::span(in).first(kPage)));
  EXPECT_THAT(space_.pin(Iova{kPage - 1}, 2, DmaAccess::Read), FailsWith(ENOTSUP));
  EXPECT_THAT(space_.pin(Iova{kPage - 1}, 1, DmaAccess::Read), IsOk());
}

TEST_F(DmaSpaceTest, checks_bounds_and_permissions) {
  const MemoryFile memory(kPage);
  ASSERT_THAT(map(0x1000, memory, {.read = true}), IsOk());
  ASSERT_THAT(map(0x3000, memory, {.write = true}), IsOk());
  ASSERT_THAT(map(0x5000, memory, {}), IsOk());
  std::array<std::byte, 8> bytes{};
  EXPECT_THAT(space_.read(Iova{0x1000}, bytes), IsOk());
  EXPECT_THAT(space_.write(Iova{0x1000}, bytes), FailsWith(EFAULT));
  EXPECT_THAT(space_.read(Iova{0x3000}, bytes), FailsWith(EFAULT));
  EXPECT_THAT(space_.write(Iova{0x3000}, bytes), IsOk());
  EXPECT_THAT(space_.read(Iova{0x5000}, bytes), FailsWith(EFAULT)) << "mapped without permissions";
  EXPECT_THAT(space_.read(Iova{0x1ffc}, bytes), FailsWith(EFAULT)) << "crosses the end";
  EXPECT_THAT(space_.read(Iova{0xffc}, bytes), FailsWith(EFAULT)) << "begins before";
  EXPECT_THAT(space_.read(Iova{~std::uint64_t{0} - 3}, bytes), FailsWith(EFAULT)) << "wraps";
  EXPECT_THAT(space_.pin(Iova{0x1000}, 8, DmaAccess::Write), FailsWith(EFAULT));
  EXPECT_THAT(space_.pin(Iova{0x1000}, 0, DmaAccess::Read), FailsWith(EFAULT));
  EXPECT_THAT(space_.pin(Iova{0x1000}, ~std::size_t{0}, DmaAccess::Read), FailsWith(EFAULT));
}

TEST_F(DmaSpaceTest, refuses_bad_ranges) {
  const auto map_range = [&](std::uint64_t start, std::uint64_t size) {
    return space_.map({.range = {Iova{start}, size}, .permissions = kReadWrite});
  };
  EXPECT_THAT(map_range(0, 0), FailsWith(EINVAL));
  EXPECT_THAT(map_range(1, kPage), FailsWith(EINVAL));
  EXPECT_THAT(map_range(0, kPage + 1), FailsWith(EINVAL));
  EXPECT_THAT(map_range(~std::uint64_t{0} - kPage + 1, 2 * kPage), FailsWith(EINVAL));
  EXPECT_THAT(map_range(~std::uint64_t{0} - kPage + 1, kPage), IsOk()) << "the last page does not wrap";
  EXPECT_THAT(map_range(8 * kPage, 4 * kPage), IsOk());
  for (const std::uint64_t start : {5U, 8U, 9U, 11U}) {
    EXPECT_THAT(map_range(start * kPage, 4 * kPage), FailsWith(EEXIST)) << start;
  }
  EXPECT_THAT(map_range(9 * kPage, kPage), FailsWith(EEXIST));
  EXPECT_THAT(map_range(0, 64 * kPage), FailsWith(EEXIST));
  EXPECT_THAT(map_range(4 * kPage, 4 * kPage), IsOk());
  EXPECT_THAT(map_range(12 * kPage, 4 * kPage), IsOk());
  EXPECT_EQ(space_.map_count(), 4U);
}

TEST_F(DmaSpaceTest, refuses_descriptors_without_memory) {
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  const Fd keep(ends[1]);
  EXPECT_THAT(map_file(Fd(ends[0]), kPage), FailsWith(EINVAL));
  EXPECT_THAT(map_file(Fd(::open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC)), kPage), FailsWith(EINVAL));
  EXPECT_THAT(map_file(Fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)), kPage), FailsWith(EINVAL));
  EXPECT_THAT(map_file(Fd(::open("/dev/zero", O_RDWR | O_CLOEXEC)), kPage), FailsWith(EINVAL));
  EXPECT_THAT(map_file(Fd(::open("/proc/self/exe", O_PATH | O_CLOEXEC)), kPage), FailsWith(EINVAL));
  EXPECT_EQ(space_.map_count(), 0U);
}

TEST_F(DmaSpaceTest, refuses_files_shorter_than_the_mapping) {
  const MemoryFile memory(2 * kPage);
  EXPECT_THAT(map_file(memory.file(), 3 * kPage), FailsWith(EINVAL));
  EXPECT_THAT(map_file(memory.file(), 2 * kPage, kPage), FailsWith(EINVAL));
  EXPECT_THAT(map_file(memory.file(), kPage, ~std::uint64_t{0} - kPage + 1), FailsWith(EINVAL));
  EXPECT_THAT(map_file(memory.file(), kPage, 512), FailsWith(EINVAL));
  EXPECT_THAT(map_file(memory.file(), kPage, kPage), IsOk());
}

TEST_F(DmaSpaceTest, grants_no_more_than_the_descriptor_does) {
  const MemoryFile memory(kPage);
  const std::string path = "/proc/self/fd/" + std::to_string(memory.get());
  const auto open = [&](int mode) { return Fd(::open(path.c_str(), mode | O_CLOEXEC)); };
  EXPECT_THAT(map_file(open(O_RDONLY), kPage), FailsWith(EACCES));
  EXPECT_THAT(map_file(open(O_WRONLY), kPage), FailsWith(EACCES));
  ASSERT_EQ(::fcntl(memory.get(), F_ADD_SEALS, F_SEAL_FUTURE_WRITE), 0);
  EXPECT_THAT(map_file(memory.file(), kPage), FailsWith(EACCES));
  EXPECT_THAT(map_file(open(O_RDONLY), kPage, 0, {.read = true}), IsOk());
}

TEST_F(DmaSpaceTest, huge_pages_map_or_are_refused) {
  constexpr std::uint64_t kHuge = std::uint64_t{2} << 20;
  const Fd huge(::memfd_create("huge", MFD_CLOEXEC | MFD_HUGETLB));
  if (!huge || ::ftruncate(huge.get(), kHuge) != 0) GTEST_SKIP() << "no huge pages here";
  // A part of a huge page: mapped as a whole one. With no huge page free the kernel refuses, and so do we.
  const auto mapped = map_file(huge.duplicate().value(), kPage, kPage);
  if (mapped) {
    EXPECT_THAT(space_.unmap({Iova{0}, kPage}), IsOk());
  } else {
    EXPECT_EQ(mapped.error().code, ENOMEM);
  }
  EXPECT_EQ(space_.map_count(), 0U);
}

TEST_F(DmaSpaceTest, keeps_its_limit) {
  DmaSpace small(log_, 2);
  const auto map_page = [&](std::uint64_t page) {
    return small.map({.range = {Iova{page * kPage}, kPage}, .permissions = kReadWrite});
  };
  EXPECT_THAT(map_page(0), IsOk());
  EXPECT_THAT(map_page(1), IsOk());
  EXPECT_THAT(map_page(2), FailsWith(ENOSPC));
  EXPECT_THAT(small.unmap({Iova{0}, kPage}), IsOk());
  EXPECT_THAT(map_page(2), IsOk());
  EXPECT_EQ(small.ranges(), (std::vector<IovaRange>{{Iova{kPage}, kPage}, {Iova{2 * kPage}, kPage}}));
}

TEST_F(DmaSpaceTest, unmaps_exact_ranges_only) {
  const MemoryFile memory(4 * kPage);
  ASSERT_THAT(map(0, memory), IsOk());
  EXPECT_THAT(space_.unmap({Iova{0}, kPage}), FailsWith(ENOENT));
  EXPECT_THAT(space_.unmap({Iova{kPage}, kPage}), FailsWith(ENOENT));
  EXPECT_THAT(space_.unmap({Iova{0}, 8 * kPage}), FailsWith(ENOENT));
  std::array<std::byte, 1> byte{};
  EXPECT_THAT(space_.read(Iova{0}, byte), IsOk());
  EXPECT_THAT(space_.unmap({Iova{0}, 4 * kPage}), IsOk());
  EXPECT_THAT(space_.read(Iova{0}, byte), FailsWith(EFAULT));
  EXPECT_THAT(map(0, memory), IsOk()) << "QEMU maps anew what it unmapped";
}

TEST_F(DmaSpaceTest, unmapping_waits_for_pins) {
  const MemoryFile memory(kPage);
  ASSERT_THAT(map(0, memory), IsOk());
  auto pin = space_.pin(Iova{0}, kPage, DmaAccess::Write);
  ASSERT_THAT(pin, IsOk());
  std::atomic<bool> released{false};
  auto unmapped = std::async(std::launch::async, [&] {
    const auto result = space_.unmap({Iova{0}, kPage});
    EXPECT_TRUE(released) << "returned while the memory was pinned";
    return result;
  });
  while (space_.map_count() != 0) std::this_thread::yield();
  EXPECT_THAT(space_.pin(Iova{0}, 1, DmaAccess::Read), FailsWith(EFAULT));
  pin->bytes()[0] = std::byte{5};  // still there
  released = true;
  pin->release();
  EXPECT_THAT(unmapped.get(), IsOk());
  EXPECT_EQ(memory.bytes()[0], std::byte{5});
}

TEST_F(DmaSpaceTest, unmaps_all_while_others_pin) {
  const MemoryFile memory(kPage);
  std::atomic<bool> done{false};
  std::vector<std::jthread> devices;
  for (int i = 0; i < 3; ++i) {
    devices.emplace_back([&] {
      while (!done) {
        const auto pin = space_.pin(Iova{0}, kPage, DmaAccess::Read);
        if (pin) {
          EXPECT_EQ(pin->bytes().size(), kPage);
        }
      }
    });
  }
  for (int i = 0; i < 200; ++i) {
    ASSERT_THAT(map(0, memory), IsOk());
    space_.unmap_all();
    ASSERT_EQ(space_.map_count(), 0U);
  }
  done = true;
}

// LOG-EXACT
TEST_F(DmaSpaceTest, logs_what_it_writes_and_not_what_it_reads) {
  const MemoryFile memory(16 * kPage);
  ASSERT_THAT(map(0, memory), IsOk());
  const IovaRange all{Iova{0}, 16 * kPage};
  ASSERT_THAT(log_.start({&all, 1}, 0), IsOk());
  std::array<std::byte, 2> bytes{};
  ASSERT_THAT(space_.read(Iova{0}, bytes), IsOk());
  {
    const auto pin = space_.pin(Iova{0}, 16 * kPage, DmaAccess::Read);
  }
  EXPECT_EQ(dirty_pages(all), 0U);
  ASSERT_THAT(space_.write(Iova{3 * kPage - 1}, bytes), IsOk());
  EXPECT_EQ(dirty_pages(all), 2U);
  auto pin = space_.pin(Iova{kPage}, 4 * kPage, DmaAccess::Write);
  ASSERT_THAT(pin, IsOk());
  EXPECT_EQ(dirty_pages(all), 0U);
  DmaPin moved = std::move(*pin);
  pin->release();
  EXPECT_EQ(dirty_pages(all), 0U);
  moved.release();
  EXPECT_EQ(dirty_pages(all), 4U);
  moved.release();
  EXPECT_EQ(dirty_pages(all), 0U);
}

// LOG-EXACT: across map and unmap
TEST_F(DmaSpaceTest, logs_outlive_the_mapping) {
  const MemoryFile memory(kPage);
  ASSERT_THAT(map(0, memory), IsOk());
  ASSERT_THAT(log_.start_all(0), IsOk());
  ASSERT_THAT(space_.write(Iova{0}, std::array{std::byte{1}}), IsOk());
  ASSERT_THAT(space_.unmap({Iova{0}, kPage}), IsOk());
  EXPECT_EQ(dirty_pages({Iova{0}, kPage}), 1U);
}

class Client : public DmaMessenger {
 public:
  explicit Client(std::span<std::byte> memory) : memory_(memory) {}
  Result<void> dma_read(Iova iova, std::span<std::byte> out) override {
    if (fails) return fail(ETIMEDOUT, "no answer");
    wait();
    if (gave_up) return fail(ECANCELED, "the grace is over");
    std::ranges::copy(memory_.subspan(iova.value, out.size()), out.begin());
    return {};
  }
  Result<void> dma_write(Iova iova, std::span<const std::byte> in) override {
    if (fails) return fail(ETIMEDOUT, "no answer");
    wait();
    if (gave_up) return fail(ECANCELED, "the grace is over");
    std::ranges::copy(in, memory_.subspan(iova.value).begin());
    return {};
  }
  void begin_grace() override {
    in_grace = true;
    if (answers || !blocked) return;
    gave_up = true;
    release();
  }
  void end_grace() override { in_grace = false; }
  void release() {
    blocked = false;
    blocked.notify_all();
  }
  std::atomic<bool> in_grace{false};
  std::atomic<bool> answers{true};  // within the grace, or else what waits is given up
  std::atomic<bool> gave_up{false};
  std::atomic<bool> fails{false};
  std::atomic<bool> blocked{false};
  std::atomic<bool> entered{false};

 private:
  void wait() {
    if (!blocked) return;
    entered = true;
    entered.notify_all();
    blocked.wait(true);
  }
  std::span<std::byte> memory_;
};

TEST_F(DmaSpaceTest, asks_the_client_for_memory_without_a_descriptor) {
  std::vector<std::byte> memory(2 * kPage);
  Client client(memory);
  ASSERT_THAT(space_.map({.range = {Iova{0}, 2 * kPage}, .permissions = kReadWrite}), IsOk());
  ASSERT_THAT(log_.start_all(0), IsOk());
  const std::array<std::byte, 2> in{std::byte{1}, std::byte{2}};
  EXPECT_THAT(space_.write(Iova{0}, in), FailsWith(EFAULT)) << "nobody to ask";
  space_.set_messenger(&client);
  EXPECT_THAT(space_.write(Iova{kPage - 1}, in), IsOk());
  EXPECT_EQ(memory[kPage], std::byte{2});
  EXPECT_EQ(dirty_pages({Iova{0}, 2 * kPage}), 2U);
  std::array<std::byte, 2> out{};
  EXPECT_THAT(space_.read(Iova{kPage - 1}, out), IsOk());
  EXPECT_EQ(out, in);
  EXPECT_THAT(space_.pin(Iova{0}, 1, DmaAccess::Read), FailsWith(ENOTSUP));
  client.fails = true;
  EXPECT_THAT(space_.read(Iova{0}, out), FailsWith(ETIMEDOUT));
  space_.set_messenger(nullptr);
}

TEST_F(DmaSpaceTest, tells_the_messenger_of_a_reset) {
  Client client({});
  EXPECT_EQ(space_.during_reset([] { return 7; }), 7) << "with nobody to tell";
  space_.set_messenger(&client);
  EXPECT_TRUE(space_.during_reset([&] { return client.in_grace.load(); }));
  EXPECT_FALSE(client.in_grace);
  EXPECT_TRUE(space_.during_reset([&] {
    space_.during_reset([] {});
    return client.in_grace.load();
  })) << "one for all";
  EXPECT_FALSE(client.in_grace);
  space_.set_messenger(nullptr);
}

TEST_F(DmaSpaceTest, maps_while_a_client_does_not_answer) {
  std::vector<std::byte> memory(kPage);
  Client client(memory);
  client.blocked = true;
  ASSERT_THAT(space_.map({.range = {Iova{0}, kPage}, .permissions = kReadWrite}), IsOk());
  space_.set_messenger(&client);
  auto read = std::async(std::launch::async, [&] {
    std::array<std::byte, 1> byte{};
    return space_.read(Iova{0}, byte);
  });
  client.entered.wait(false);
  const MemoryFile other(kPage);
  EXPECT_THAT(map(kPage, other), IsOk());
  auto forgotten = std::async(std::launch::async, [&] { space_.set_messenger(nullptr); });
  client.release();
  EXPECT_THAT(read.get(), IsOk());
  forgotten.get();
}

// LOG-EXACT: whoever has unmapped asks what is dirty, and never again.
TEST_F(DmaSpaceTest, unmapping_waits_for_messages_and_their_marks) {
  for (const bool answers : {true, false}) {
    std::vector<std::byte> memory(kPage);
    Client client(memory);
    client.blocked = true;
    client.answers = answers;
    ASSERT_THAT(space_.map({.range = {Iova{0}, kPage}, .permissions = kReadWrite}), IsOk());
    ASSERT_THAT(log_.start_all(0), IsOk());
    space_.set_messenger(&client);
    auto written = std::async(std::launch::async, [&] { return space_.write(Iova{0}, std::array{std::byte{7}}); });
    client.entered.wait(false);
    (void)dirty_pages({Iova{0}, kPage});  // a report before it does not count
    std::atomic<bool> released{false};
    auto unmapped = std::async(std::launch::async, [&] {
      const Result<void> result = space_.unmap({Iova{0}, kPage});
      EXPECT_TRUE(released || !answers) << "returned while a message was under way";
      EXPECT_EQ(dirty_pages({Iova{0}, kPage}), 1U);
      return result;
    });
    while (!client.in_grace && !client.gave_up) std::this_thread::yield();
    released = true;
    if (answers) client.release();
    EXPECT_THAT(unmapped.get(), IsOk());
    if (answers) {
      EXPECT_THAT(written.get(), IsOk());
    } else {
      EXPECT_THAT(written.get(), FailsWith(ECANCELED)) << "a client that serves nothing meanwhile";
    }
    EXPECT_FALSE(client.in_grace);
    space_.set_messenger(nullptr);
    ASSERT_THAT(log_.stop(), IsOk());
  }
}

}  // namespace
}  // namespace gangway
