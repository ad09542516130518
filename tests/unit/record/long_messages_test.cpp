// Messages that are longer than what a recorder keeps: they pass as they come, and the recording has all of each.
#include <sys/mman.h>
#include <sys/socket.h>

#include <thread>

#include "record/payload_hash.h"
#include "unit/record/recording.h"

namespace gangway::record {
namespace {

using test::BareServer;
using test::Bytes;
using test::random_bytes;
using test::RawPeer;
using test::receive_exactly;
using test::Recording;
using vfio_user::Command;

constexpr std::size_t kLong = 8U << 20;

std::uint64_t hash_of(std::span<const std::byte> bytes) {
  PayloadHash hash;
  hash.update(bytes);
  return hash.value();
}

Bytes write_of(std::span<const std::byte> data) {
  const auto size = static_cast<std::uint32_t>(data.size());
  return test::with(test::bytes(vfio_user::MigData{.argsz = size + 8, .size = size}), data);
}

// A client and a server with a recorder between them.
struct Talk {
  BareServer bare;
  Recording recording{bare.path()};
  RawPeer client = recording.connect();
  RawPeer server = bare.accept();
};

TEST(LongMessages, arrive_in_pieces_of_any_size_and_have_the_hash_of_the_whole) {
  Talk talk;
  std::vector<Bytes> sent;
  // About what a recorder reads at once, passes whole or takes for long; and lengths that end in any of its pieces.
  for (const std::size_t size : {65'000U, 66'000U, 131'072U, 262'144U, 262'145U, 400'001U, 1'000'003U, 3'000'000U}) {
    sent.push_back(random_bytes(size, static_cast<unsigned>(size)));
  }
  for (const std::size_t step : {4'099U, 131'072U, 900'001U, 8'000'000U}) {
    for (auto [from, to] : {std::pair{&talk.client, &talk.server}, std::pair{&talk.server, &talk.client}}) {
      Bytes all;
      for (const Bytes& data : sent) {
        const bool command = from == &talk.client;
        all = test::with(std::move(all), RawPeer::command(command ? Command::MigDataWrite : Command::MigDataRead,
                                                          write_of(data), command ? 0 : vfio_user::kTypeReply));
      }
      std::thread sender([&] {
        for (std::span<const std::byte> rest = all; !rest.empty(); rest = rest.subspan(std::min(step, rest.size()))) {
          from->send_bytes(rest.first(std::min(step, rest.size())));
        }
      });
      EXPECT_TRUE(receive_exactly(*to, all.size()) == all) << step;
      sender.join();
    }
  }
  const auto messages = talk.recording.messages();
  ASSERT_EQ(messages.size(), 8 * sent.size());
  for (std::size_t i = 0; i < messages.size(); ++i) {
    const Bytes& data = sent[i % sent.size()];
    EXPECT_FALSE(messages[i].cut);
    EXPECT_EQ(messages[i].payload.size, data.size()) << i;
    EXPECT_EQ(messages[i].payload.hash, hash_of(data)) << i;
  }
}

TEST(LongMessages, keep_the_descriptors_that_come_in_their_middle) {
  Talk talk;
  const auto message = RawPeer::command(Command::MigDataWrite, write_of(random_bytes(kLong, 1)));
  constexpr std::size_t kBefore = 3'000'000;
  const Fd file(::memfd_create("passed", MFD_CLOEXEC));
  ASSERT_EQ(::ftruncate(file.get(), 12345), 0);
  std::thread sender([&] {
    const std::array fds{file.get()};
    const std::span<const std::byte> all(message);
    talk.client.send_bytes(all.first(kBefore));
    talk.client.send_bytes(all.subspan(kBefore), fds);
  });
  const auto heard = talk.server.hear();
  sender.join();
  ASSERT_TRUE(heard);
  EXPECT_TRUE(std::ranges::equal(heard->body, std::span(message).subspan(sizeof(vfio_user::Header))));
  ASSERT_EQ(heard->fds.size(), 1U);
  EXPECT_EQ(::lseek(heard->fds[0].get(), 0, SEEK_END), 12345);
}

TEST(LongMessages, that_are_cut_off_are_recorded_as_far_as_they_came) {
  for (const std::size_t came : {70'000U, 300'000U, 2'000'001U}) {
    Talk talk;
    const auto data = random_bytes(kLong, 2);
    const auto message = RawPeer::command(Command::MigDataWrite, write_of(data));
    const std::size_t head = message.size() - data.size();
    std::thread sender([&] {
      talk.client.send_bytes(std::span(message).first(head + came));
      talk.client.hang_up();
    });
    // One more than there is: this ends with the connection.
    EXPECT_EQ(receive_exactly(talk.server, head + came + 1).size(), head + came);
    sender.join();
    const auto messages = talk.recording.messages();
    ASSERT_EQ(messages.size(), 1U);
    EXPECT_TRUE(messages[0].cut);
    EXPECT_EQ(messages[0].payload.size, came);
    EXPECT_EQ(messages[0].payload.hash, hash_of(std::span(data).first(came)));
  }
}

TEST(LongMessages, to_somebody_who_goes_away_end_with_it_and_the_next_is_served) {
  Talk talk;
  const auto message = RawPeer::command(Command::MigDataWrite, write_of(random_bytes(kLong, 3)));
  bool taken = true;
  std::thread sender([&] { taken = talk.client.send_bytes(message) && !talk.client.closed(); });
  EXPECT_EQ(receive_exactly(talk.server, 1'000'000).size(), 1'000'000U);
  talk.server.hang_up();
  sender.join();
  EXPECT_FALSE(taken);
  talk.client.hang_up();

  RawPeer client = talk.recording.connect();
  RawPeer server = talk.bare.accept();
  client.send(Command::DeviceReset);
  EXPECT_TRUE(server.hear());
}

TEST(LongMessages, wait_for_a_receiver_who_takes_his_time) {
  Talk talk;
  const auto message = RawPeer::command(Command::MigDataWrite, write_of(random_bytes(kLong, 4)));
  std::size_t sent = 0;
  for (int quiet = 0; quiet < 20;) {
    const ssize_t n =
        ::send(talk.client.fd(), message.data() + sent, message.size() - sent, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n > 0) {
      sent += static_cast<std::size_t>(n);
      quiet = 0;
      ASSERT_LT(sent, 4U << 20) << "nothing holds the sender back";
    } else {
      pollfd room{.fd = talk.client.fd(), .events = POLLOUT, .revents = 0};
      if (::poll(&room, 1, 50) == 0) ++quiet;
    }
  }
  std::thread sender([&] { talk.client.send_bytes(std::span(message).subspan(sent)); });
  EXPECT_TRUE(receive_exactly(talk.server, message.size()) == message);
  sender.join();
}

}  // namespace
}  // namespace gangway::record
