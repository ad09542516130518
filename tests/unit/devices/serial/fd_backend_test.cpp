// A line to a socket.
#include "devices/serial/fd_backend.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <condition_variable>
#include <string>
#include <tuple>
#include <vector>

#include <gtest/gtest.h>

namespace gangway::serial {
namespace {

// A backend, the far end of its socket, and a count of the calls of `ready`.
struct Line {
  Line() {
    std::array<int, 2> ends{};
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()), 0);
    far = Fd(ends[0]);
    backend = *FdBackend::create(Fd(ends[1]));
    backend->connect([this] {
      std::scoped_lock lock(mutex);
      ++ready;
      changed.notify_all();
    });
  }
  std::string read() {
    std::array<std::byte, 64> bytes{};
    const std::size_t size = backend->read(bytes);
    return {reinterpret_cast<const char*>(bytes.data()), size};
  }
  void wait_until_ready(int times) {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return ready >= times; });
  }

  Fd far;
  std::mutex mutex;
  std::condition_variable changed;
  int ready = 0;
  std::unique_ptr<FdBackend> backend;
};

TEST(FdBackend, tells_when_bytes_came_after_there_were_none) {
  Line line;
  EXPECT_EQ(line.read(), "");
  ASSERT_EQ(::write(line.far.get(), "hello", 5), 5);
  line.wait_until_ready(1);
  EXPECT_EQ(line.read(), "hello");
}

TEST(FdBackend, tells_when_a_full_line_takes_more) {
  Line line;
  const std::vector<std::byte> much(1U << 20);
  while (line.backend->write(much) == much.size()) {
  }
  std::vector<char> sink(1U << 20);
  while (::recv(line.far.get(), sink.data(), sink.size(), MSG_DONTWAIT) > 0) {
  }
  line.wait_until_ready(1);
  EXPECT_GT(line.backend->write(std::span(much).first(10)), 0U);
}

TEST(FdBackend, of_a_peer_that_is_gone_drops_what_is_written) {
  Line line;
  line.far.reset();
  const std::array<std::byte, 3> bytes{};
  EXPECT_EQ(line.backend->write(bytes), 3U);
  EXPECT_EQ(line.read(), "");
}

TEST(FdBackend, ends_while_it_waits) {
  Line line;
  EXPECT_EQ(line.read(), "");
  line.backend.reset();
}

TEST(FdBackend, works_on_a_terminal) {
  const int master = ::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
  ASSERT_GE(master, 0);
  Fd owner(master);
  ASSERT_EQ(::grantpt(master), 0);
  ASSERT_EQ(::unlockpt(master), 0);
  Fd terminal(::open(::ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC));
  ASSERT_TRUE(terminal);
  const Result<std::unique_ptr<FdBackend>> backend = FdBackend::create(std::move(terminal));
  ASSERT_TRUE(backend);
  const std::string text = "tty";
  EXPECT_EQ((*backend)->write(std::as_bytes(std::span(text))), 3U);
  std::array<char, 8> got{};
  EXPECT_EQ(::read(master, got.data(), got.size()), 3);
}

TEST(FdBackend, refuses_other_descriptors) {
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
  const Fd reading(ends[0]);
  EXPECT_FALSE(FdBackend::create(Fd(ends[1])));
  EXPECT_FALSE(FdBackend::create(Fd()));
}

}  // namespace
}  // namespace gangway::serial
