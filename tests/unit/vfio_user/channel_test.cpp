#include "vfio_user/channel.h"

#include <gtest/gtest.h>
#include <sys/eventfd.h>

#include <array>
#include <future>
#include <thread>

#include "unit/vfio_user/raw_peer.h"
#include "unit/vfio_user/served_device.h"

namespace gangway::vfio_user {
namespace {

using namespace std::chrono_literals;
using test::Bytes;
using test::RawPeer;

constexpr Channel::Options kOptions{.spin = 0us, .timeout = 10s};

struct OneChannel {
  explicit OneChannel(Channel::Options options = kOptions) : OneChannel(test::socket_pair(), options) {}
  OneChannel(std::pair<Fd, Fd> ends, Channel::Options options)
      : channel(std::move(ends.first), options), peer(std::move(ends.second)) {}
  Channel channel;
  RawPeer peer;
};

TEST(Channel, a_message_may_arrive_split_at_every_byte) {
  const Bytes message = RawPeer::command(Command::RegionWrite, test::bytes(std::uint64_t{1}, std::uint64_t{2}));
  for (std::size_t split = 1; split < message.size(); ++split) {
    OneChannel one;
    const auto all = std::span(message);
    one.peer.send_bytes(all.first(split));
    std::thread later([&] { one.peer.send_bytes(all.subspan(split)); });
    Message got;
    ASSERT_TRUE(one.channel.next(got)) << "split at " << split;
    later.join();
    EXPECT_TRUE(std::ranges::equal(got.body.bytes(), all.subspan(sizeof(Header))));
  }
}

TEST(Channel, many_messages_may_arrive_in_one_piece) {
  OneChannel one;
  Bytes all;
  for (std::uint16_t i = 0; i < 1000; ++i) {
    const Bytes message = RawPeer::command(Command::RegionRead, Bytes(i % 50, std::byte{7}), 0, i);
    all.insert(all.end(), message.begin(), message.end());
  }
  one.peer.send_bytes(all);
  Message got;
  for (std::uint16_t i = 0; i < 1000; ++i) {
    ASSERT_TRUE(one.channel.next(got));
    EXPECT_EQ(got.header.id, i);
    EXPECT_EQ(got.body.size(), i % 50U);
  }
}

TEST(Channel, descriptors_belong_to_the_message_they_came_with) {
  OneChannel one;
  const int fd = one.peer.fd();
  const Bytes message = RawPeer::command(Command::DmaMap, Bytes(32));
  one.peer.send_bytes(message);
  one.peer.send_bytes(message, std::array{fd, fd});
  one.peer.send_bytes(std::span(message).first(20));
  one.peer.send_bytes(std::span(message).subspan(20), std::array{fd});  // on a later segment
  one.peer.send_bytes(message);
  for (const std::size_t expected : {0U, 2U, 1U, 0U}) {
    Message got;
    ASSERT_TRUE(one.channel.next(got));
    EXPECT_EQ(got.fds.size(), expected);
  }
}

TEST(Channel, more_descriptors_than_the_peer_was_told_are_closed) {
  OneChannel one;
  const Fd sent(::eventfd(0, EFD_CLOEXEC));  // not the peer's end: who holds that keeps it from hanging up
  const std::vector<int> many(200, sent.get());
  const std::size_t before = test::open_descriptors();
  const Bytes message = RawPeer::command(Command::DmaMap, Bytes(32));
  const auto all = std::span(message);
  for (const std::size_t at : {0U, 10U, 20U, 30U}) one.peer.send_bytes(all.subspan(at, 10), many);
  one.peer.send_bytes(all.subspan(40));
  Message got;
  ASSERT_TRUE(one.channel.next(got));
  EXPECT_EQ(got.fds.size(), kMaxMsgFds);
  EXPECT_EQ(test::open_descriptors(), before + kMaxMsgFds);

  got.fds.clear();
  one.peer.send_bytes(all.first(10), many);  // a message that never ends
  one.peer.hang_up();
  EXPECT_FALSE(one.channel.next(got));
  EXPECT_LE(test::open_descriptors(), before - 1 + kMaxMsgFds);
}

TEST(Channel, a_peer_that_only_sends_descriptors_is_not_kept_for_ever) {
  OneChannel one;
  auto call = std::async(std::launch::async, [&] { return one.channel.call(Command::DmaRead, {}, {}); });
  const std::vector<int> fds(kMaxMsgFds, one.peer.fd());
  const Bytes command = RawPeer::command(Command::DmaMap, Bytes(32));
  const std::size_t before = test::open_descriptors();
  int sent = 0;
  while (sent < 10'000 && one.peer.send_bytes(command, fds)) ++sent;
  EXPECT_LT(sent, 10'000);
  EXPECT_EQ(call.get().error().code, EPROTO);
  EXPECT_LE(test::open_descriptors(), before + 200);
}

TEST(Channel, a_malformed_message_breaks_the_connection_with_a_reason) {
  struct Case {
    Header header;
    std::string_view reason;
  };
  for (const Case& wrong : {Case{{.size = 0}, "message of 0 bytes"}, Case{{.size = 15}, "message of 15 bytes"},
                            Case{{.command = 2, .size = 0xffffffff}, "at most"},
                            Case{{.size = 16, .flags = 2}, "neither command nor reply"},
                            Case{{.id = 3, .command = 11, .size = 16, .flags = 1}, "none such was asked"}}) {
    OneChannel one;
    one.peer.send_bytes(test::bytes(wrong.header));
    Message got;
    const Result<void> next = one.channel.next(got);
    ASSERT_FALSE(next);
    EXPECT_EQ(next.error().code, EPROTO);
    EXPECT_NE(next.error().message.find(wrong.reason), std::string::npos) << next.error().message;
    EXPECT_TRUE(one.peer.closed());
  }
}

TEST(Channel, nothing_is_sent_for_a_command_that_wants_no_reply) {
  OneChannel one;
  one.peer.send(Command::DeviceReset, {}, {}, kNoReply);
  one.peer.send(Command::DeviceReset);
  Message got;
  ASSERT_TRUE(one.channel.next(got));
  EXPECT_TRUE(one.channel.reply(got, {}));
  EXPECT_TRUE(one.channel.refuse(got, EINVAL));
  ASSERT_TRUE(one.channel.next(got));
  EXPECT_TRUE(one.channel.reply(got, {}));
  const auto heard = one.peer.hear();
  ASSERT_TRUE(heard);
  EXPECT_EQ(heard->header.id, 2);
}

TEST(Channel, a_caller_reads_its_reply_itself_and_keeps_commands_for_the_other_thread) {
  OneChannel one;
  std::thread peer([&] {
    const auto asked = one.peer.hear();
    one.peer.send(Command::RegionRead, Bytes(16));  // a command first
    one.peer.reply(*asked, Bytes(24, std::byte{9}));
  });
  std::array<std::byte, 16> head;
  std::array<std::byte, 32> data{};
  const Result<Channel::Reply> reply = one.channel.call(Command::DmaRead, {}, head, data);
  peer.join();
  ASSERT_TRUE(reply) << reply.error().message;
  EXPECT_EQ(reply->size, 24U);
  EXPECT_EQ(data[7], std::byte{9});
  EXPECT_EQ(data[8], std::byte{0});
  Message got;
  ASSERT_TRUE(one.channel.next(got));
  EXPECT_EQ(got.command(), Command::RegionRead);
}

TEST(Channel, a_reply_longer_than_asked_for_breaks_the_connection) {
  OneChannel one;
  std::thread peer([&] { one.peer.reply(*one.peer.hear(), Bytes(17)); });
  std::array<std::byte, 16> head;
  const Result<Channel::Reply> reply = one.channel.call(Command::DmaRead, {}, head);
  peer.join();
  ASSERT_FALSE(reply);
  EXPECT_EQ(reply.error().code, EPROTO);
}

TEST(Channel, an_error_reply_leaves_the_connection_whole) {
  OneChannel one;
  std::thread peer([&] {
    test::Heard asked = *one.peer.hear();
    one.peer.send_bytes(test::bytes(Header{.id = asked.header.id,
                                           .command = asked.header.command,
                                           .size = 16,
                                           .flags = kTypeReply | kError,
                                           .error = ENOSPC}));
    one.peer.reply(*one.peer.hear(), {});
  });
  const Result<Channel::Reply> refused = one.channel.call(Command::DmaWrite, {}, {});
  const Result<Channel::Reply> taken = one.channel.call(Command::DmaWrite, {}, {});
  peer.join();
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ENOSPC);
  EXPECT_TRUE(taken);
}

TEST(Channel, a_peer_that_does_not_answer_is_given_up_within_the_time_limit) {
  OneChannel one({.spin = 0us, .timeout = 20ms});
  const Result<Channel::Reply> reply = one.channel.call(Command::DmaRead, {}, {});
  ASSERT_FALSE(reply);
  EXPECT_EQ(reply.error().code, ETIMEDOUT);
  EXPECT_TRUE(one.peer.closed());
}

TEST(Channel, a_peer_that_does_not_read_is_given_up_within_the_time_limit) {
  OneChannel one({.spin = 0us, .timeout = 20ms});
  const Bytes much(16 << 20);
  const std::array body{std::span<const std::byte>(much)};
  const Message command{.header = {.id = 1, .command = 17}};
  const Result<void> sent = one.channel.reply(command, {body, {}});
  ASSERT_FALSE(sent);
  EXPECT_EQ(sent.error().code, ETIMEDOUT);
}

TEST(Channel, closing_wakes_everybody_who_waits) {
  OneChannel one;
  auto next = std::async(std::launch::async, [&] {
    Message got;
    return one.channel.next(got);
  });
  auto call = std::async(std::launch::async, [&] { return one.channel.call(Command::DmaRead, {}, {}); });
  ASSERT_TRUE(one.peer.hear());  // the call is under way
  one.channel.close(Error{ECANCELED, "enough", {}});
  EXPECT_EQ(next.get().error().code, ECANCELED);
  EXPECT_EQ(call.get().error().code, ECANCELED);
}

TEST(Channel, a_call_that_is_given_up_leaves_no_writer_to_its_buffers) {
  OneChannel one;
  {
    std::array<std::byte, 16> head;
    Call call(one.channel, head);
    ASSERT_TRUE(one.channel.start(call, Command::DmaRead, {}));
  }
  EXPECT_TRUE(one.channel.broken());
}

// The time limit of calls is an hour: what ends within a test was ended by limit_calls().
TEST(Channel, a_call_beyond_the_limit_is_abandoned_and_its_late_reply_dropped) {
  for (const bool calls : {false, true}) {  // the two ways in which a channel waits
    OneChannel one({.spin = 0us, .timeout = 3600s, .calls = calls, .limits = true});
    auto abandoned = std::async(std::launch::async, [&] {
      std::array<std::byte, 64> data{};
      return one.channel.call(Command::DmaRead, {}, {}, data);
    });
    const auto asked = one.peer.hear();
    ASSERT_TRUE(asked);
    one.channel.limit_calls(1ms);
    EXPECT_EQ(abandoned.get().error().code, ECANCELED);
    EXPECT_EQ(one.channel.call(Command::DmaRead, {}, {}).error().code, ECANCELED) << "as long as the limit lasts";
    one.channel.unlimit_calls();

    std::thread peer([&] {
      const auto next = one.peer.hear();
      EXPECT_NE(next->header.id, asked->header.id);
      one.peer.reply(*asked, Bytes(64, std::byte{1}));  // late
      one.peer.reply(*next, Bytes(8, std::byte{2}));
    });
    std::array<std::byte, 8> data{};
    const Result<Channel::Reply> reply = one.channel.call(Command::DmaRead, {}, {}, data);
    peer.join();
    ASSERT_TRUE(reply) << reply.error().message;
    EXPECT_EQ(data[0], std::byte{2});
  }
}

TEST(Channel, an_abandoned_call_is_answered_once_and_no_longer_than_asked) {
  for (const auto& [size, times] : {std::pair{65U, 1}, std::pair{64U, 2}}) {
    OneChannel one({.spin = 0us, .timeout = 3600s, .limits = true});
    auto abandoned = std::async(std::launch::async, [&] {
      std::array<std::byte, 64> data{};
      return one.channel.call(Command::DmaRead, {}, {}, data);
    });
    const auto asked = one.peer.hear();
    ASSERT_TRUE(asked);
    one.channel.limit_calls(0ms);
    EXPECT_EQ(abandoned.get().error().code, ECANCELED);
    for (int time = 0; time < times; ++time) one.peer.reply(*asked, Bytes(size));
    Message got;
    EXPECT_EQ(one.channel.next(got).error().code, EPROTO);
  }
}

TEST(Channel, a_call_within_the_limit_is_answered) {
  OneChannel one({.spin = 0us, .timeout = 3600s, .limits = true});
  auto call = std::async(std::launch::async, [&] { return one.channel.call(Command::DmaRead, {}, {}); });
  const auto asked = one.peer.hear();
  ASSERT_TRUE(asked);
  one.channel.limit_calls(1800s);
  one.peer.reply(*asked, {});
  EXPECT_TRUE(call.get());
  one.channel.unlimit_calls();
}

TEST(Channel, a_reply_that_has_begun_is_waited_for_by_an_abandoned_call) {
  OneChannel one({.spin = 0us, .timeout = 3600s, .limits = true});
  std::array<std::byte, 64> data{};
  auto call = std::async(std::launch::async, [&] { return one.channel.call(Command::DmaRead, {}, {}, data); });
  const auto asked = one.peer.hear();
  ASSERT_TRUE(asked);
  const Header header{
      .id = asked->header.id, .command = asked->header.command, .size = sizeof header + 64, .flags = kTypeReply};
  one.peer.send_bytes(test::with(test::bytes(header), Bytes(32, std::byte{1})));
  one.channel.limit_calls(0ms);
  one.peer.send_bytes(Bytes(32, std::byte{2}));
  const Result<Channel::Reply> reply = call.get();
  if (reply) {  // it had begun
    EXPECT_EQ(data[31], std::byte{1});
    EXPECT_EQ(data[32], std::byte{2});
  } else {
    EXPECT_EQ(reply.error().code, ECANCELED);
  }
  one.channel.unlimit_calls();
  std::thread peer([&] { one.peer.reply(*one.peer.hear(), {}); });
  EXPECT_TRUE(one.channel.call(Command::DmaWrite, {}, {})) << "in step either way";
  peer.join();
}

// Who sends much looks at what has come meanwhile.
TEST(Channel, a_limit_of_calls_does_not_disturb_who_sends) {
  for (const bool over : {true, false}) {
    OneChannel one({.spin = 0us, .timeout = 3600s, .calls = false, .limits = true});
    one.channel.limit_calls(1800s);
    if (over) one.channel.unlimit_calls();
    one.peer.send(Command::RegionRead);
    const Bytes much(16 << 20);
    const std::array body{std::span<const std::byte>(much)};
    auto sent = std::async(std::launch::async,
                           [&] { return one.channel.reply({.header = {.id = 1, .command = 17}}, {body, {}}); });
    const auto heard = one.peer.hear();
    ASSERT_TRUE(heard) << "limit " << (over ? "over" : "in force");
    EXPECT_EQ(heard->body.size(), much.size());
    EXPECT_TRUE(sent.get());
    Message got;
    EXPECT_TRUE(one.channel.next(got)) << "in step";
  }
}

// Both sides answer whatever comes, on one thread, while two others call; what is sent does not fit a socket's buffer.
void answer_all(Channel& channel) {
  Message message;
  while (channel.next(message)) {
    const std::array body{std::span<const std::byte>(message.body.bytes())};
    (void)channel.reply(message, {body, {}});
  }
}

TEST(Channel, commands_of_both_directions_may_meet) {
  for (const auto spin : {0us, 20us}) {
    auto [left_end, right_end] = test::socket_pair();
    Channel left(std::move(left_end), {.spin = spin, .timeout = 10s});
    Channel right(std::move(right_end), {.spin = spin, .timeout = 10s, .quiet = 100us});
    const auto call_much = [](Channel& channel, std::size_t size, std::byte mark) {
      const Bytes sent(size, mark);
      Bytes received(size);
      const std::array body{std::span<const std::byte>(sent)};
      for (int i = 0; i < 100; ++i) {
        std::ranges::fill(received, std::byte{0});
        const Result<Channel::Reply> reply = channel.call(Command::DmaWrite, {body, {}}, {}, received);
        if (!reply || received != sent) return false;
      }
      return true;
    };
    std::thread left_answers(answer_all, std::ref(left));
    std::thread right_answers(answer_all, std::ref(right));
    std::vector<std::future<bool>> calls;
    for (Channel* channel : {&left, &right}) {
      for (const std::size_t size : {16U, 700'000U}) {
        calls.push_back(std::async(std::launch::async, call_much, std::ref(*channel), size,
                                   static_cast<std::byte>(calls.size() + 1)));
      }
    }
    for (std::future<bool>& call : calls) EXPECT_TRUE(call.get());
    left.close(Error{ECANCELED, "done", {}});
    right.close(Error{ECANCELED, "done", {}});
    left_answers.join();
    right_answers.join();
  }
}

TEST(Channel, a_peer_that_only_sends_commands_is_not_kept_for_ever) {
  OneChannel one;
  auto call = std::async(std::launch::async, [&] { return one.channel.call(Command::DmaRead, {}, {}); });
  const Bytes command = RawPeer::command(Command::RegionWrite, Bytes(1 << 20));
  int sent = 0;
  while (sent < 1000 && one.peer.send_bytes(command)) ++sent;
  EXPECT_LT(sent, 1000);
  EXPECT_EQ(call.get().error().code, EPROTO);
}

TEST(Channel, a_placed_body_goes_where_it_was_wanted) {
  struct Place : Placer {
    std::span<std::byte> place(const Header&) override { return std::as_writable_bytes(std::span(&word, 1)); }
    void arrived(std::size_t size) override { told += size; }
    std::uint32_t word = 0;
    std::size_t told = 0;
  } placer;
  OneChannel one;
  one.peer.send(Command::MigDataWrite, test::bytes(std::uint64_t{5}, std::uint32_t{77}));
  Message got;
  ASSERT_TRUE(one.channel.next(got, &placer));
  EXPECT_EQ(placer.word, 77U);
  EXPECT_EQ(got.body.size(), 8U);
  EXPECT_EQ(got.placed.size(), 4U);
  EXPECT_EQ(placer.told, 4U);
}

TEST(Channel, a_placer_is_told_of_each_piece_as_it_comes) {
  struct Place : Placer {
    std::span<std::byte> place(const Header& header) override {
      return header.command == static_cast<std::uint16_t>(Command::MigDataWrite) ? std::span(memory)
                                                                                 : std::span<std::byte>();
    }
    void arrived(std::size_t size) override {
      for (const std::byte byte : std::span(memory).subspan(told, size)) intact = intact && byte == std::byte{7};
      told += size;
      largest = std::max(largest, size);
      if (told == 100) first.set_value();
    }
    Bytes memory = Bytes(1 << 20);
    std::size_t told = 0;
    std::size_t largest = 0;
    bool intact = true;
    std::promise<void> first;
  } placer;
  OneChannel one;
  const Bytes message = RawPeer::command(Command::MigDataWrite, Bytes(1 << 20, std::byte{7}));
  // What follows the body in the same write belongs to the next message.
  Bytes rest(message.begin() + sizeof(Header) + 100, message.end());
  const Bytes next = RawPeer::command(Command::DeviceReset, {});
  rest.insert(rest.end(), next.begin(), next.end());
  auto peer = std::async(std::launch::async, [&] {
    one.peer.send_bytes(std::span(message).first(sizeof(Header) + 100));
    placer.first.get_future().wait();  // although most of the body is still to come
    one.peer.send_bytes(rest);
  });
  Message got;
  ASSERT_TRUE(one.channel.next(got, &placer));
  EXPECT_EQ(placer.told, placer.memory.size());
  EXPECT_TRUE(placer.intact);
  EXPECT_LE(placer.largest, 256U << 10) << "small enough to be looked at while it is in the cache";
  ASSERT_TRUE(one.channel.next(got, &placer));
  EXPECT_EQ(got.command(), Command::DeviceReset);
}

TEST(SpinBudget, follows_what_was_seen) {
  SpinBudget budget(64us, 2);
  EXPECT_EQ(budget.now(), 64us);
  budget.slept(65us);
  EXPECT_EQ(budget.now(), 32us);
  for (int i = 0; i < 10; ++i) budget.slept(1s);
  EXPECT_EQ(budget.now(), 0us);
  budget.slept(60us);
  EXPECT_EQ(budget.now(), 64us);
  EXPECT_EQ(SpinBudget(64us, 1).now(), 0us) << "one processor: the peer needs it";
}

// Its answer comes 3 us after the one who polls has gone to sleep, whenever that is.
int polls_of_a_peer_without_a_core(SpinBudget& budget, int waits) {
  int polls = 0;
  for (int i = 0; i < waits; ++i) {
    if (budget.now() > 0us) ++polls;
    budget.slept(budget.now() + 3us);
  }
  return polls;
}

TEST(SpinBudget, is_rarely_tried_with_a_peer_that_needs_the_core) {
  SpinBudget budget(50us, 2);
  EXPECT_LT(polls_of_a_peer_without_a_core(budget, 10'000), 50);
  EXPECT_LE(polls_of_a_peer_without_a_core(budget, 10'000), 10);
}

TEST(SpinBudget, is_tried_again_at_once_after_it_covered_something) {
  SpinBudget budget(50us, 2);
  (void)polls_of_a_peer_without_a_core(budget, 10'000);
  while (budget.now() == 0us) budget.slept(3us);
  budget.covered();
  while (budget.now() > 0us) budget.slept(1s);
  budget.slept(3us);
  EXPECT_EQ(budget.now(), 50us);
}

}  // namespace
}  // namespace gangway::vfio_user
