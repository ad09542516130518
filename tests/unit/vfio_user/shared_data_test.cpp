// Migration data by shared memory: between gangway's own two sides, and for a client whose server does not keep to it.
#include <gtest/gtest.h>

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <functional>
#include <thread>

#include "unit/vfio_user/served_device.h"
#include "vfio_user/client.h"

namespace gangway::vfio_user {
namespace {

using namespace std::chrono_literals;
using test::bytes;
using test::Bytes;
using test::Heard;
using test::RawPeer;
using test::ServedDevice;
using test::with;

constexpr std::size_t kMemory = 3'000'000;

std::unique_ptr<Client> open(const ServedDevice& served, bool shared_data) {
  auto client = Client::connect(served.path(), {.shared_data = shared_data});
  EXPECT_TRUE(client) << client.error().message;
  return client ? *std::move(client) : nullptr;
}

Bytes saved_stream(Client& client, std::size_t transfer) {
  EXPECT_TRUE(client.set_state(DeviceState::StopCopy));
  Bytes stream;
  Bytes buffer(transfer);
  for (;;) {
    const Result<StreamRead> read = client.read_data(buffer);
    EXPECT_TRUE(read) << read.error().message;
    if (!read) return {};
    stream.insert(stream.end(), buffer.begin(), buffer.begin() + static_cast<std::ptrdiff_t>(read->size));
    if (read->end == StreamEnd::Final) break;
  }
  EXPECT_TRUE(client.set_state(DeviceState::Running));
  return stream;
}

void load_stream(Client& client, const Bytes& stream, std::size_t transfer) {
  ASSERT_TRUE(client.set_state(DeviceState::Resuming));
  for (std::size_t at = 0; at < stream.size(); at += transfer) {
    ASSERT_TRUE(client.write_data(std::span(stream).subspan(at, std::min(transfer, stream.size() - at))));
  }
  ASSERT_TRUE(client.set_state(DeviceState::Running));
}

class SharedData : public testing::TestWithParam<std::size_t> {
 protected:
  SharedData() {
    for (std::size_t i = 0; i < kMemory; ++i) content_[i] = static_cast<std::byte>(i * 7 >> 8);
    device_.device().set_memory(content_);
  }
  Bytes content_ = Bytes(kMemory);
  ServedDevice device_{{.state_memory = kMemory}};
};

TEST_P(SharedData, carries_the_same_stream_as_messages_do) {
  auto client = open(device_, false);
  EXPECT_FALSE(client->server().shared_data);
  const Bytes by_messages = saved_stream(*client, GetParam());
  client.reset();  // and with it the device (WIR-GONE)

  client = open(device_, true);
  EXPECT_TRUE(client->server().shared_data);
  load_stream(*client, by_messages, GetParam());
  EXPECT_TRUE(device_.device().copy_of_memory() == content_);
  EXPECT_EQ(saved_stream(*client, GetParam()), by_messages) << "DAT-STREAM";
}

TEST_P(SharedData, goes_on_where_messages_left_off) {
  const auto client = open(device_, true);
  const Bytes whole = saved_stream(*client, GetParam());
  ASSERT_TRUE(client->set_state(DeviceState::StopCopy));
  Bytes mixed;
  for (StreamRead read; read.end != StreamEnd::Final;) {
    Bytes piece(mixed.size() % 2 == 0 ? 4095 : GetParam());  // less than is worth sharing, and more
    const Result<StreamRead> got = client->read_data(piece);
    ASSERT_TRUE(got) << got.error().message;
    mixed.insert(mixed.end(), piece.begin(), piece.begin() + static_cast<std::ptrdiff_t>(got->size));
    read = *got;
  }
  EXPECT_EQ(mixed, whole);
}

TEST_P(SharedData, and_messages_tell_the_engine_when_the_client_has_all) {
  for (const bool shared : {false, true}) {
    auto client = open(device_, shared);
    ASSERT_TRUE(client->set_state(DeviceState::StopCopy));
    Bytes buffer(GetParam());
    for (StreamRead read; read.end != StreamEnd::Final;) {
      EXPECT_TRUE(device_.endpoint().migration()->has_unsaved_state()) << "there is more";
      const Result<StreamRead> got = client->read_data(buffer);
      ASSERT_TRUE(got) << got.error().message;
      read = *got;
    }
    EXPECT_FALSE(device_.endpoint().migration()->has_unsaved_state());
  }
}

INSTANTIATE_TEST_SUITE_P(Sizes, SharedData, testing::Values(20'001, 65'536, 777'777, 1 << 20, 5'000'000));

TEST(SharedDataEnds, are_temporary_in_pre_copy_and_final_when_stopped) {
  const ServedDevice served({.state_memory = kMemory});
  const auto client = open(served, true);
  ASSERT_TRUE(client->set_state(DeviceState::PreCopy));
  Bytes buffer(kMemory * 2);
  const Result<StreamRead> first = client->read_data(buffer);
  ASSERT_TRUE(first) << first.error().message;
  EXPECT_GT(first->size, kMemory);
  EXPECT_EQ(first->end, StreamEnd::Temporary) << "DAT-EOS-PRECOPY";
  EXPECT_EQ(client->read_data(buffer)->end, StreamEnd::Temporary);
  ASSERT_TRUE(client->set_state(DeviceState::StopCopy));
  EXPECT_EQ(client->read_data(buffer)->end, StreamEnd::Final) << "DAT-EOS-STOP";
  EXPECT_EQ(client->read_data(buffer)->size, 0U);
}

TEST(SharedDataErrors, are_those_of_messages) {
  const ServedDevice served({.state_memory = kMemory});
  const auto client = open(served, true);
  Bytes buffer(100'000);
  EXPECT_EQ(client->read_data(buffer).error().code, EINVAL) << "DAT-DIRECTION";
  EXPECT_EQ(client->write_data(buffer).error().code, EINVAL);
  ASSERT_TRUE(client->set_state(DeviceState::Resuming));
  EXPECT_EQ(client->write_data(buffer).error().code, EINVAL) << "DAT-VALIDATE";
  EXPECT_FALSE(client->broken());
  EXPECT_TRUE(client->reset());
}

// --- servers that do not keep to it ---

constexpr std::size_t kFile = 1 << 20;

Fd file_of(std::size_t size, int seals) {
  Fd file(::memfd_create("fake", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  EXPECT_EQ(::ftruncate(file.get(), static_cast<off_t>(size)), 0);
  EXPECT_EQ(::fcntl(file.get(), F_ADD_SEALS, seals), 0);
  return file;
}

Bytes size_reply(const Heard& asked, std::uint64_t size) {
  return bytes(FeatureHeader{.argsz = 16, .flags = asked.as<FeatureHeader>().flags}, FeatureSharedDataSize{size});
}

void reply_with(RawPeer& peer, const Heard& to, const Bytes& body, std::span<const int> fds) {
  Header header = to.header;
  header.flags = kTypeReply;
  header.size = static_cast<std::uint32_t>(sizeof header + body.size());
  peer.send_bytes(with(bytes(header), body), fds);
}

// Negotiates shared data and does the rest as the test has it.
class FakeServer {
 public:
  explicit FakeServer(std::function<void(RawPeer&)> serve, std::string_view json = kShares) {
    auto [ours, theirs] = test::socket_pair();
    client_end_ = std::move(theirs);
    thread_ = std::thread([peer = RawPeer(std::move(ours)), serve = std::move(serve), json]() mutable {
      peer.reply(*peer.hear(), with(bytes(Version{0, 1}), test::text(json)));
      serve(peer);
      (void)peer.closed();
    });
  }
  ~FakeServer() { thread_.join(); }
  FakeServer(const FakeServer&) = delete;
  FakeServer& operator=(const FakeServer&) = delete;

  std::unique_ptr<Client> open() {
    auto client = Client::create(std::move(client_end_), "fake", {.open = {.timeout = 20s, .spin = 0us}});
    EXPECT_TRUE(client) << client.error().message;
    return *std::move(client);
  }

 private:
  static constexpr std::string_view kShares =
      R"({"capabilities":{"max_msg_fds":8,"gangway":{"enomsg":true,"shared_data":true}}})";
  Fd client_end_;
  std::thread thread_;
};

TEST(SharedDataServer, with_memory_that_could_fault_is_left) {
  struct Offer {
    std::size_t file;
    int seals;
    std::uint64_t stated;
    std::size_t descriptors;
  };
  for (const Offer offer :
       {Offer{kFile, F_SEAL_GROW, kFile, 1}, Offer{kFile, F_SEAL_SHRINK, kFile + 1, 1},
        Offer{kFile, F_SEAL_SHRINK, 0, 1}, Offer{kFile, F_SEAL_SHRINK, ~0ULL, 1}, Offer{kFile, F_SEAL_SHRINK, 1, 1},
        Offer{kFile, F_SEAL_SHRINK, kFile, 0}, Offer{kFile, F_SEAL_SHRINK, kFile, 2}}) {
    SCOPED_TRACE(testing::Message() << "seals " << offer.seals << ", stated " << offer.stated << ", descriptors "
                                    << offer.descriptors);
    FakeServer server([offer](RawPeer& peer) {
      const auto asked = peer.hear();
      const Fd file = file_of(offer.file, offer.seals);
      const std::vector<int> fds(offer.descriptors, file.get());
      reply_with(peer, *asked, size_reply(*asked, offer.stated), fds);
    });
    const auto client = server.open();
    Bytes out(100'000);
    EXPECT_EQ(client->read_data(out).error().code, EPROTO);
    EXPECT_TRUE(client->broken());
  }
}

TEST(SharedDataServer, that_gives_a_pipe_for_memory_is_left) {
  FakeServer server([](RawPeer& peer) {
    const auto asked = peer.hear();
    std::array<int, 2> ends{};
    ASSERT_EQ(::pipe(ends.data()), 0);
    const Fd read_end(ends[0]);
    const Fd write_end(ends[1]);
    reply_with(peer, *asked, size_reply(*asked, kFile), std::span(ends).first(1));
  });
  const auto client = server.open();
  Bytes out(100'000);
  EXPECT_EQ(client->read_data(out).error().code, EPROTO);
}

TEST(SharedDataServer, that_says_more_than_was_asked_is_left) {
  for (const MigDataShared answer : {MigDataShared{.argsz = 16, .size = 100'001, .offset = 0},
                                     MigDataShared{.argsz = 16, .size = 0xffffffff, .offset = 0},
                                     MigDataShared{.argsz = 16, .size = 1, .offset = 4096}}) {
    FakeServer server([answer](RawPeer& peer) {
      const Fd file = file_of(kFile, F_SEAL_SHRINK);
      const auto asked = peer.hear();
      const std::array fds{file.get()};
      reply_with(peer, *asked, size_reply(*asked, kFile), fds);
      peer.reply(*peer.hear(), bytes(answer));
    });
    const auto client = server.open();
    Bytes out(100'000);
    EXPECT_EQ(client->read_data(out).error().code, EPROTO);
    EXPECT_TRUE(client->broken());
  }
}

TEST(SharedDataServer, that_has_none_after_all_is_asked_in_messages) {
  FakeServer server([](RawPeer& peer) {
    const auto asked = peer.hear();
    EXPECT_EQ(asked->as<FeatureHeader>().flags & kFeatureMask, kFeatureSharedData);
    Header refused = asked->header;
    refused.flags = kTypeReply | kError;
    refused.size = sizeof refused;
    refused.error = ENOMEM;
    peer.send_bytes(bytes(refused));
    for (int i = 0; i < 2; ++i) {
      const auto data = peer.hear();
      EXPECT_EQ(data->header.command, static_cast<std::uint16_t>(Command::MigDataRead));
      peer.reply(*data, with(bytes(MigData{.argsz = 100'008, .size = 100'000}), Bytes(100'000, std::byte{7})));
    }
  });
  const auto client = server.open();
  Bytes out(100'000);
  for (int i = 0; i < 2; ++i) {
    const Result<StreamRead> read = client->read_data(out);
    ASSERT_TRUE(read) << read.error().message;
    EXPECT_EQ(read->size, out.size());
    EXPECT_EQ(out.back(), std::byte{7});
  }
}

// Byte for byte: what a server that does not know the key hears is the specification's message and nothing else.
TEST(SharedDataServer, that_does_not_know_the_key_hears_the_plain_protocol) {
  FakeServer server(
      [](RawPeer& peer) {
        const auto read = peer.hear();
        EXPECT_EQ(read->header.command, 17U);
        EXPECT_EQ(read->body, bytes(std::uint32_t{100'008}, std::uint32_t{100'000}));
        peer.reply(*read, with(read->body, Bytes(100'000)));
        const auto write = peer.hear();
        EXPECT_EQ(write->header.command, 18U);
        EXPECT_EQ(write->body, with(bytes(std::uint32_t{100'008}, std::uint32_t{100'000}), Bytes(100'000)));
        peer.reply(*write, {});
      },
      R"({"capabilities":{"max_msg_fds":8}})");
  const auto client = server.open();
  Bytes data(100'000);
  EXPECT_TRUE(client->read_data(data));
  EXPECT_TRUE(client->write_data(data));
}

}  // namespace
}  // namespace gangway::vfio_user
