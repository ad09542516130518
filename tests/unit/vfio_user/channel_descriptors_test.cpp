// WIR-FDS on the side that asks: it has room for descriptors only while a reply that may bring some is under way.
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <future>
#include <thread>

#include "unit/vfio_user/raw_peer.h"
#include "unit/vfio_user/served_device.h"
#include "vfio_user/channel.h"

namespace gangway::vfio_user {
namespace {

using namespace std::chrono_literals;
using test::Bytes;
using test::Heard;
using test::RawPeer;

constexpr Command kBringsSome = Command::DeviceGetRegionInfo;
constexpr Command kBringsNone = Command::RegionRead;

struct OneChannel {
  explicit OneChannel(std::chrono::microseconds spin) : OneChannel(test::socket_pair(), spin) {}
  OneChannel(std::pair<Fd, Fd> ends, std::chrono::microseconds spin)
      : channel(std::move(ends.first), {.spin = spin, .timeout = 20s, .commands = false}),
        peer(std::move(ends.second)) {}
  Channel channel;
  RawPeer peer;
};

bool something_is_there(int socket) {
  pollfd event{.fd = socket, .events = POLLIN, .revents = 0};
  return ::poll(&event, 1, 0) == 1;
}

// Answers everything with a descriptor, and of commands that are there together the last one first.
void answer_last_first(RawPeer& peer) {
  const Fd sent(::eventfd(0, EFD_CLOEXEC));
  for (;;) {
    std::vector<Heard> asked;
    do {
      std::optional<Heard> heard = peer.hear();
      if (!heard) return;
      asked.push_back(*std::move(heard));
    } while (something_is_there(peer.fd()));
    std::ranges::reverse(asked);
    for (const Heard& one : asked) peer.reply(one, Bytes(8), std::array{sent.get()});
  }
}

TEST(ChannelDescriptors, come_with_the_reply_to_who_asked_for_them) {
  OneChannel one(0us);
  std::thread peer(answer_last_first, std::ref(one.peer));
  std::array<std::byte, 8> head;
  const Result<Channel::Reply> reply = one.channel.call(kBringsSome, {}, head);
  ASSERT_TRUE(reply) << reply.error().message;
  EXPECT_EQ(reply->fds.size(), 1U);
  one.channel.close(Error{ECANCELED, "done", {}});
  peer.join();
}

TEST(ChannelDescriptors, are_closed_when_they_come_with_a_reply_that_brings_none) {
  for (const auto spin : {0us, 50us}) {
    OneChannel one(spin);
    std::thread peer(answer_last_first, std::ref(one.peer));
    std::array<std::byte, 4> head;
    std::array<std::byte, 4> data;
    ASSERT_TRUE(one.channel.call(kBringsNone, {}, head, data));  // the peer's own descriptor is there by now
    const std::size_t before = test::open_descriptors();
    for (int i = 0; i < 100; ++i) {
      const Result<Channel::Reply> reply = one.channel.call(kBringsNone, {}, head, data);
      ASSERT_TRUE(reply) << reply.error().message;
      EXPECT_EQ(reply->size, 8U);
      EXPECT_TRUE(reply->fds.empty());
    }
    EXPECT_EQ(test::open_descriptors(), before);
    one.channel.close(Error{ECANCELED, "done", {}});
    peer.join();
  }
}

TEST(ChannelDescriptors, are_not_lost_to_who_waits_for_a_reply_that_brings_none) {
  for (const auto spin : {0us, 50us}) {
    OneChannel one(spin);
    std::thread peer(answer_last_first, std::ref(one.peer));
    std::atomic<bool> done = false;
    auto others = std::async(std::launch::async, [&] {
      std::array<std::byte, 8> head;
      bool good = true;
      while (good && !done) good = one.channel.call(kBringsNone, {}, head).has_value();
      return good;
    });
    std::size_t came = 0;
    for (int i = 0; i < 500; ++i) {
      std::array<std::byte, 8> head;
      const Result<Channel::Reply> reply = one.channel.call(kBringsSome, {}, head);
      ASSERT_TRUE(reply) << reply.error().message;
      came += reply->fds.size();
    }
    done = true;
    EXPECT_TRUE(others.get());
    EXPECT_EQ(came, 500U) << "descriptors were lost, spin " << spin.count();
    one.channel.close(Error{ECANCELED, "done", {}});
    peer.join();
  }
}

TEST(ChannelDescriptors, may_come_with_a_command_while_a_reply_is_waited_for) {
  auto [ours, theirs] = test::socket_pair();
  Channel channel(std::move(ours), {.spin = 0us, .timeout = 20s});
  RawPeer peer(std::move(theirs));
  const Fd sent(::eventfd(0, EFD_CLOEXEC));
  std::thread answers([&] {
    const auto asked = peer.hear();
    peer.send(Command::DmaMap, Bytes(32), std::array{sent.get()});
    peer.reply(*asked, Bytes(8));
  });
  std::array<std::byte, 8> head;
  EXPECT_TRUE(channel.call(Command::DmaRead, {}, head));
  answers.join();
  Message message;
  ASSERT_TRUE(channel.next(message));
  EXPECT_EQ(message.fds.size(), 1U);
}

TEST(ChannelDescriptors, are_waited_for_in_vain_when_the_connection_breaks) {
  OneChannel one(0us);
  auto first = std::async(std::launch::async, [&] { return one.channel.call(kBringsNone, {}, {}).has_value(); });
  ASSERT_TRUE(one.peer.hear());
  auto second = std::async(std::launch::async, [&] { return one.channel.call(kBringsSome, {}, {}).has_value(); });
  one.peer.hang_up();
  EXPECT_FALSE(first.get());
  EXPECT_FALSE(second.get());
}

}  // namespace
}  // namespace gangway::vfio_user
