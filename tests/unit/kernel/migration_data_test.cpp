// What a data descriptor does that any descriptor does: pieces, ends, waiting. ENOMSG and PRECOPY_INFO are a driver's,
// and are tested in tests/vm.
#include "kernel/migration_data.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <thread>
#include <vector>

namespace gangway::kernel {
namespace {

using namespace std::chrono_literals;

using Bytes = std::vector<std::byte>;

struct Pair {
  Fd ours;
  Fd theirs;
  Pair() {
    std::array<int, 2> ends{};
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0) std::abort();
    ours = Fd(ends[0]);
    theirs = Fd(ends[1]);
  }
};

Bytes pattern(std::size_t size) {
  Bytes bytes(size);
  for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>(i * 7);
  return bytes;
}

void send_all(const Fd& socket, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(socket.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    ASSERT_GT(sent, 0);
    bytes = bytes.subspan(static_cast<std::size_t>(sent));
  }
}

TEST(MigrationData, a_read_waits_for_all_that_it_asked_for) {
  Pair pair;
  MigrationData data(std::move(pair.ours), 10s);
  const Bytes sent = pattern(300'000);
  const std::jthread sender([&] {
    send_all(pair.theirs, std::span(sent).first(1));
    send_all(pair.theirs, std::span(sent).subspan(1));
  });
  Bytes got(sent.size());
  const auto read = data.read(got);
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(read->size, sent.size());
  EXPECT_EQ(read->end, StreamEnd::More);
  EXPECT_EQ(got, sent);
}

TEST(MigrationData, the_end_comes_with_what_is_before_it_and_stays) {
  Pair pair;
  MigrationData data(std::move(pair.ours), 10s);
  send_all(pair.theirs, pattern(10));
  pair.theirs.reset();
  Bytes room(64);
  const auto first = data.read(room);
  ASSERT_TRUE(first);
  EXPECT_EQ(first->size, 10U);
  EXPECT_EQ(first->end, StreamEnd::Final);
  const auto second = data.read(room);
  ASSERT_TRUE(second);
  EXPECT_EQ(second->size, 0U);
  EXPECT_EQ(second->end, StreamEnd::Final);
}

TEST(MigrationData, a_driver_that_has_nothing_is_not_waited_for_for_ever) {
  Pair pair;
  MigrationData data(std::move(pair.ours), 20ms);
  Bytes room(64);
  EXPECT_EQ(data.read(room).error().code, ETIMEDOUT);
}

TEST(MigrationData, a_write_is_taken_in_pieces) {
  Pair pair;
  MigrationData data(std::move(pair.ours), 10s);
  const Bytes sent = pattern(1 << 20);  // more than a socket takes at once
  Bytes got(sent.size());
  std::jthread receiver([&] {
    for (std::size_t have = 0; have < got.size();) {
      const ssize_t more = ::read(pair.theirs.get(), got.data() + have, got.size() - have);
      if (more <= 0) return;
      have += static_cast<std::size_t>(more);
    }
  });
  ASSERT_TRUE(data.write(sent));
  receiver.join();
  EXPECT_EQ(got, sent);
}

TEST(MigrationData, a_driver_that_takes_nothing_is_not_waited_for_for_ever) {
  Pair pair;
  MigrationData data(std::move(pair.ours), 20ms);
  EXPECT_EQ(data.write(Bytes(8 << 20)).error().code, ETIMEDOUT);
}

TEST(MigrationData, the_wrong_direction_is_an_error) {
  MigrationData data(Fd(::open("/dev/null", O_WRONLY | O_CLOEXEC)), 1s);
  Bytes room(8);
  EXPECT_EQ(data.read(room).error().code, EBADF);
  EXPECT_TRUE(data.write(room));
}

TEST(MigrationData, a_descriptor_of_nobody_tells_no_precopy_info) {
  MigrationData data(Fd(::open("/dev/null", O_RDWR | O_CLOEXEC)), 1s);
  EXPECT_EQ(data.precopy_info().error().code, ENOTTY);
}

}  // namespace
}  // namespace gangway::kernel
