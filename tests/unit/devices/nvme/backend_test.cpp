#include "devices/nvme/backend.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <thread>

#include "unit/devices/nvme/host.h"

namespace gangway::nvme::test {
namespace {

using Operation = ImageRequest::Operation;
using Step = ImageRequest::Step;

TEST(NvmeImageRequest, a_short_transfer_goes_on_where_it_ended) {
  std::array<std::byte, 100> first{};
  std::array<std::byte, 50> second{};
  const std::array buffers{iovec{first.data(), 100}, iovec{second.data(), 50}};
  ImageRequest request;
  request.prepare_transfer(Operation::Read, 0, 4096, buffers);
  EXPECT_FALSE(request.advance(30));
  EXPECT_EQ(request.offset(), 4126U);
  EXPECT_EQ(request.buffers()[0].iov_base, first.data() + 30);
  EXPECT_EQ(request.buffers()[0].iov_len, 70U);
  EXPECT_FALSE(request.advance(75));
  ASSERT_EQ(request.buffers().size(), 1U);
  EXPECT_EQ(request.buffers()[0].iov_base, second.data() + 5);
  EXPECT_TRUE(request.advance(45));
  EXPECT_EQ(request.error(), 0);
}

TEST(NvmeImageRequest, interruptions_are_repeated_but_not_for_ever) {
  std::array<std::byte, 8> bytes{};
  const iovec buffer{bytes.data(), 8};
  ImageRequest request;
  request.prepare_transfer(Operation::Write, 0, 0, std::span(&buffer, 1));
  int rounds = 0;
  while (!request.advance(rounds % 2 == 0 ? -EINTR : -EAGAIN)) ASSERT_LT(++rounds, 1000);
  EXPECT_EQ(request.error(), EIO);
}

TEST(NvmeImageRequest, zeroing_falls_back_to_writing_zeros) {
  ImageRequest request;
  request.prepare_clear(Operation::Zero, 0, 512, 10U << 20);
  EXPECT_EQ(request.step(), Step::ZeroRange);
  EXPECT_FALSE(request.advance(-EOPNOTSUPP));
  EXPECT_EQ(request.step(), Step::PunchHole);
  bool done = request.advance(-EOPNOTSUPP);
  std::uint64_t written = 0;
  while (!done) {
    ASSERT_EQ(request.step(), Step::Write);
    ASSERT_EQ(request.offset(), 512 + written);
    std::size_t piece = 0;
    for (const iovec& buffer : request.buffers()) piece += buffer.iov_len;
    written += piece;
    done = request.advance(static_cast<std::int64_t>(piece));
  }
  EXPECT_EQ(written, 10U << 20);
  EXPECT_EQ(request.error(), 0);
}

// A block device refuses ranges that are not aligned to its own blocks.
TEST(NvmeImageRequest, clearing_a_misaligned_range_falls_back_to_writing_zeros) {
  for (const Operation operation : {Operation::Zero, Operation::Deallocate}) {
    ImageRequest request;
    request.prepare_clear(operation, 0, 512, 512);
    EXPECT_FALSE(request.advance(-EINVAL));
    EXPECT_FALSE(request.advance(-EINVAL));
    ASSERT_EQ(request.step(), Step::Write);
    EXPECT_EQ(request.offset(), 512U);
    EXPECT_TRUE(request.advance(512));
    EXPECT_EQ(request.error(), 0);
  }
}

TEST(NvmeImageRequest, deallocating_falls_back_to_zeroing) {
  ImageRequest request;
  request.prepare_clear(Operation::Deallocate, 0, 0, 4096);
  EXPECT_EQ(request.step(), Step::PunchHole);
  EXPECT_FALSE(request.advance(-EOPNOTSUPP));
  EXPECT_EQ(request.step(), Step::ZeroRange);
  EXPECT_TRUE(request.advance(0));
  EXPECT_EQ(request.error(), 0);
}

TEST(NvmeImageRequest, an_abandoned_request_does_not_go_on) {
  std::array<std::byte, 8> bytes{};
  const iovec buffer{bytes.data(), 8};
  ImageRequest request;
  request.prepare_transfer(Operation::Write, 0, 0, std::span(&buffer, 1));
  request.abandon();
  EXPECT_TRUE(request.advance(4));
  EXPECT_EQ(request.error(), ECANCELED);
}

struct Kind {
  std::string_view name;
  Result<std::unique_ptr<Backend>> (*make)(std::span<const int>);
};

class NvmeBackend : public testing::TestWithParam<Kind> {
 protected:
  NvmeBackend() : file_(::open(image_.path().c_str(), O_RDWR | O_CLOEXEC)) {
    const int fd = file_.get();
    auto made = GetParam().make(std::span(&fd, 1));
    EXPECT_TRUE(made) << made.error().message;
    backend_ = std::move(*made);
  }
  void enter() { ASSERT_TRUE(backend_->enter_thread()); }

  int run(ImageRequest& request) {
    backend_->start(request);
    backend_->submit();
    ImageRequest* finished = nullptr;
    while (backend_->collect(std::span(&finished, 1)) == 0) backend_->wait(std::nullopt);
    EXPECT_EQ(finished, &request);
    return request.error();
  }
  int transfer(Operation operation, std::uint64_t offset, std::span<std::byte> bytes) {
    const iovec buffer{bytes.data(), bytes.size()};
    ImageRequest request;
    request.prepare_transfer(operation, 0, offset, std::span(&buffer, 1));
    return run(request);
  }
  int clear(Operation operation, std::uint64_t offset, std::uint64_t length) {
    ImageRequest request;
    request.prepare_clear(operation, 0, offset, length);
    return run(request);
  }

  TemporaryImage image_{1U << 20};
  Fd file_;
  std::unique_ptr<Backend> backend_;
};

TEST_P(NvmeBackend, reads_what_was_written) {
  enter();
  auto bytes = pattern(12'000, 1);
  EXPECT_EQ(transfer(Operation::Write, 777, bytes), 0);
  EXPECT_EQ(transfer(Operation::WriteDurably, 777 + 12'000, bytes), 0);
  std::vector<std::byte> read(24'000);
  EXPECT_EQ(transfer(Operation::Read, 777, read), 0);
  EXPECT_TRUE(std::equal(bytes.begin(), bytes.end(), read.begin()));
  EXPECT_TRUE(std::equal(bytes.begin(), bytes.end(), read.begin() + 12'000));
}

TEST_P(NvmeBackend, scatters_over_many_buffers) {
  enter();
  const auto bytes = pattern(64 * 100, 2);
  image_.write(0, bytes);
  std::vector<std::byte> read(bytes.size());
  std::vector<iovec> buffers;
  for (std::size_t part = 0; part < 100; ++part) buffers.push_back({read.data() + ((99 - part) * 64), 64});
  ImageRequest request;
  request.prepare_transfer(Operation::Read, 0, 0, buffers);
  EXPECT_EQ(run(request), 0);
  EXPECT_TRUE(std::equal(read.end() - 64, read.end(), bytes.begin()));
  EXPECT_TRUE(std::equal(read.begin(), read.begin() + 64, bytes.end() - 64));
}

TEST_P(NvmeBackend, zeroing_and_deallocating_leave_zeros) {
  enter();
  auto bytes = pattern(1U << 20, 3);
  image_.write(0, bytes);
  EXPECT_EQ(clear(Operation::Zero, 4096, 8192), 0);
  EXPECT_EQ(clear(Operation::Deallocate, 65536, 131072), 0);
  std::fill_n(bytes.begin() + 4096, 8192, std::byte{0});
  std::fill_n(bytes.begin() + 65536, 131072, std::byte{0});
  EXPECT_EQ(image_.read(0, bytes.size()), bytes);
}

TEST_P(NvmeBackend, a_read_beyond_a_shrunk_image_fails) {
  enter();
  image_.truncate(4096);
  std::vector<std::byte> read(8192);
  EXPECT_EQ(transfer(Operation::Read, 0, read), ENODATA);
}

TEST_P(NvmeBackend, flushes) {
  enter();
  ImageRequest request;
  request.prepare_flush(0);
  EXPECT_EQ(run(request), 0);
}

TEST_P(NvmeBackend, carries_many_requests_at_once) {
  enter();
  constexpr std::size_t kCount = 500;
  std::vector<ImageRequest> requests(kCount);
  std::vector<std::uint64_t> values(kCount);
  for (std::size_t index = 0; index < kCount; ++index) {
    values[index] = index * 7;
    const iovec buffer{&values[index], sizeof(values[index])};
    requests[index].prepare_transfer(Operation::Write, 0, index * 512, std::span(&buffer, 1));
    backend_->start(requests[index]);
  }
  backend_->submit();
  std::array<ImageRequest*, 64> finished{};
  for (std::size_t count = 0; count < kCount;) {
    const std::size_t more = backend_->collect(finished);
    if (more == 0) backend_->wait(std::nullopt);
    count += more;
  }
  for (std::size_t index = 0; index < kCount; ++index) {
    std::uint64_t value = 0;
    ASSERT_EQ(::pread(file_.get(), &value, sizeof(value), static_cast<off_t>(index * 512)), 8);
    ASSERT_EQ(value, index * 7);
  }
}

TEST_P(NvmeBackend, is_woken_before_and_while_it_waits) {
  enter();
  backend_->wake();
  backend_->wait(std::nullopt);
  std::jthread waker([this] { backend_->wake(); });
  std::array<ImageRequest*, 1> none{};
  EXPECT_EQ(backend_->collect(none), 0U);
  backend_->wait(std::nullopt);
}

TEST_P(NvmeBackend, the_clients_event_wakes_it_too) {
  const Fd event(::eventfd(0, EFD_CLOEXEC));
  backend_->watch(event);
  enter();
  const std::uint64_t one = 1;
  ASSERT_EQ(::write(event.get(), &one, sizeof(one)), 8);
  backend_->wait(std::nullopt);
  std::array<ImageRequest*, 1> none{};
  EXPECT_EQ(backend_->collect(none), 0U);
}

INSTANTIATE_TEST_SUITE_P(Both, NvmeBackend,
                         testing::Values(Kind{"uring", make_uring_backend}, Kind{"threads", make_thread_pool_backend}),
                         [](const auto& info) { return std::string(info.param.name); });

// Exits 0 when a process that may not use io_uring gets threads instead.
[[noreturn]] void run_without_uring() {
  const auto number = static_cast<std::uint32_t>(__NR_io_uring_setup);
  std::array<sock_filter, 4> filter{sock_filter BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
                                    sock_filter BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),
                                    sock_filter BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
                                    sock_filter BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
  const sock_fprog program{filter.size(), filter.data()};
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) {
    std::_Exit(3);
  }
  const auto forbidden = make_uring_backend({});
  const auto made = make_backend({});
  const bool good = !forbidden && forbidden.error().code == EPERM && made && (*made)->name() == "threads";
  std::_Exit(good ? 0 : 1);
}

TEST(NvmeBackendChoice, threads_stand_in_where_io_uring_is_forbidden) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(run_without_uring(), testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace gangway::nvme::test
