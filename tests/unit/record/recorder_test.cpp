// A recorder between a client and a server: everything passes as without it, and is written down.
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <thread>

#include <gangway/device_handle.h>

#include "record/fields.h"
#include "unit/record/recording.h"
#include "unit/vfio_user/served_device.h"
#include "vfio_user/client.h"

namespace gangway::record {
namespace {

using test::BareServer;
using test::random_bytes;
using test::RawPeer;
using test::receive_exactly;
using test::Recording;
using test::ServedDevice;
using vfio_user::Command;
using namespace std::chrono_literals;

constexpr std::size_t kPage = 4096;

std::vector<std::string> words_of(const std::vector<Act>& acts) {
  std::vector<std::string> all;
  for (const Act& act : acts) {
    std::string words(name(act.doing));
    for (const Field& field : fields(act)) words += " " + std::string(field.name) + "=" + text(field);
    all.push_back(std::move(words));
  }
  return all;
}

bool holds(const std::vector<std::string>& all, std::string_view part) {
  return std::ranges::any_of(all, [&](const std::string& one) { return one.starts_with(part); });
}

std::string shown(const std::vector<std::string>& all) {
  std::string text;
  for (const std::string& one : all) text += one + "\n";
  return text;
}

TEST(Recorder, a_client_drives_its_device_as_without_and_every_act_is_there) {
  ServedDevice served({.state_memory = 1U << 20});
  Recording recording(served.path());
  {
    auto device = *open_device("vfio-user:" + recording.socket().string());
    ASSERT_TRUE(device->info());
    const auto region = device->region(2);
    ASSERT_TRUE(region) << region.error().message;
    ASSERT_TRUE(region->file);  // a descriptor of a reply
    void* mapped = ::mmap(nullptr, kPage, PROT_READ, MAP_SHARED, region->file->get(), 0);
    EXPECT_NE(mapped, MAP_FAILED);
    ::munmap(mapped, kPage);

    const std::uint32_t value = 0x12345678;
    ASSERT_TRUE(device->write(0, 0x40, bytes_of(value)));
    std::uint32_t read = 0;
    ASSERT_TRUE(device->read(0, 0x40, std::as_writable_bytes(std::span(&read, 1))));
    EXPECT_EQ(read, value);

    // Memory without a descriptor: the device's DMA comes by messages, on the twin socket.
    std::vector<std::byte> memory(2 * kPage, std::byte{0x5a});
    ASSERT_TRUE(device->dma_map({.range = {{0x100000}, memory.size()}, .memory = memory}));
    for (const auto& [where, what] : {std::pair<std::uint64_t, std::uint64_t>{test::TestDevice::kSource, 0x100000},
                                      {test::TestDevice::kDestination, 0x101000},
                                      {test::TestDevice::kLength, 64},
                                      {test::TestDevice::kGo, 1}}) {
      ASSERT_TRUE(device->write(0, where, bytes_of(what)));
    }
    std::uint64_t done = 0;
    while (done == 0) {
      ASSERT_TRUE(device->read(0, test::TestDevice::kDone, std::as_writable_bytes(std::span(&done, 1))));
    }
    ASSERT_TRUE(device->dma_unmap({{0x100000}, memory.size()}));

    ASSERT_TRUE(device->set_state(DeviceState::StopCopy));
    std::vector<std::byte> state(2U << 20);
    const auto saved = device->read_data(state);
    ASSERT_TRUE(saved) << saved.error().message;
    ASSERT_TRUE(device->set_state(DeviceState::Resuming));
    ASSERT_TRUE(device->write_data(std::span(state).first(saved->size)));
    ASSERT_TRUE(device->set_state(DeviceState::Running));
    EXPECT_FALSE(device->set_state_number(99));
    ASSERT_TRUE(device->reset());
  }
  const auto words = words_of(recording.acts());
  EXPECT_EQ(recording.strays(), 0U);
  for (const char* part :
       {"open what=process", "negotiate version=0.1", "get_info flags=0x3", "get_region region=2",
        "write_region region=0 offset=0x40 size=4 data=78563412",
        "read_region region=0 offset=0x40 size=4 data=78563412",
        "map_dma iova=0x100000 size=0x2000 flags=3 file_offset=0x0 with_memory=no",
        "device_reads iova=0x100000 size=64 memory=64 bytes ", "device_writes iova=0x101000 size=64 memory=64 bytes ",
        "set_state state=STOP_COPY", "read_data asked=", "write_data data=", "set_state state=99 error=EINVAL", "reset",
        "close what="}) {
    EXPECT_TRUE(holds(words, part)) << part << "\n" << shown(words);
  }
}

TEST(Recorder, migration_data_has_one_hash_whether_it_went_by_message_or_by_shared_memory) {
  ServedDevice served({.state_memory = 256U << 10});
  std::vector<Payload> seen;
  for (const bool shared : {false, true}) {
    Recording recording(served.path());
    {
      auto device = vfio_user::Client::connect(recording.socket(), {.shared_data = shared});
      ASSERT_TRUE(device) << device.error().message;
      ASSERT_TRUE((*device)->set_state(DeviceState::StopCopy));
      std::vector<std::byte> piece(64U << 10);
      ASSERT_TRUE((*device)->read_data(piece));
    }
    bool by_sharing = false;
    std::uint64_t size = 0;
    for (const Act& act : recording.acts()) {
      const auto* read = std::get_if<ReadData>(&act.doing);
      if (read == nullptr) continue;
      by_sharing |= read->shared;
      size += read->got.size;
      EXPECT_TRUE(read->got.hash.has_value());
      EXPECT_TRUE(read->got.bytes.empty());
    }
    EXPECT_EQ(by_sharing, shared);
    EXPECT_EQ(size, 64U << 10);
  }
}

TEST(Recorder, payload_is_kept_where_it_was_asked_for) {
  ServedDevice served({.state_memory = 256U << 10});
  for (const bool shared : {false, true}) {
    Recording recording(served.path(), KeepPayload::Yes);
    std::vector<std::byte> piece(64U << 10);
    {
      auto device = vfio_user::Client::connect(recording.socket(), {.shared_data = shared});
      ASSERT_TRUE(device) << device.error().message;
      ASSERT_TRUE((*device)->set_state(DeviceState::StopCopy));
      ASSERT_TRUE((*device)->read_data(piece));
    }
    std::vector<std::byte> kept;
    for (const Act& act : recording.acts()) {
      const auto* read = std::get_if<ReadData>(&act.doing);
      if (read != nullptr) kept.insert(kept.end(), read->got.bytes.begin(), read->got.bytes.end());
    }
    EXPECT_EQ(kept, piece);
  }
}

TEST(Recorder, bytes_that_are_no_messages_pass_as_they_are) {
  BareServer bare;
  Recording recording(bare.path());
  for (const unsigned seed : {1U, 2U, 3U}) {
    RawPeer client = recording.connect();
    RawPeer server = bare.accept();
    const auto sent = random_bytes(300'000, seed);
    std::thread sender([&] {
      client.send_bytes(sent);
      ::shutdown(client.fd(), SHUT_WR);
    });
    EXPECT_EQ(receive_exactly(server, sent.size() + 1), sent) << seed;
    // And the other way, which is still open.
    const auto answer = RawPeer::command(Command::MigDataRead, random_bytes(1000, seed + 10));
    server.send_bytes(answer);
    EXPECT_EQ(receive_exactly(client, answer.size()), answer);
    server.hang_up();
    sender.join();
    EXPECT_TRUE(client.closed());
  }
  EXPECT_GE(recording.acts().size(), 6U);
}

TEST(Recorder, a_long_message_begins_to_arrive_before_it_has_ended) {
  BareServer bare;
  Recording recording(bare.path());
  RawPeer client = recording.connect();
  RawPeer server = bare.accept();
  const auto body = random_bytes(8U << 20, 4);
  const auto message = RawPeer::command(Command::MigDataWrite, body);
  constexpr std::size_t kFirst = 100U << 10;
  client.send_bytes(std::span(message).first(kFirst));
  const auto first = receive_exactly(server, 64U << 10);  // would wait for ever
  EXPECT_TRUE(std::ranges::equal(first, std::span(message).first(first.size())));
  std::thread sender([&] { client.send_bytes(std::span(message).subspan(kFirst)); });
  const auto rest = receive_exactly(server, message.size() - first.size());
  EXPECT_TRUE(std::ranges::equal(rest, std::span(message).subspan(first.size())));
  sender.join();
}

TEST(Recorder, who_does_not_read_stalls_the_other_and_nothing_is_piled_up) {
  BareServer bare;
  Recording recording(bare.path());
  RawPeer client = recording.connect();
  RawPeer server = bare.accept();
  // Without a reader this much at most is under way: two sockets' buffers and the recorder's.
  const auto message = RawPeer::command(Command::RegionWrite, random_bytes(4096, 5));
  std::size_t sent = 0;
  for (int quiet = 0; quiet < 20;) {
    const ssize_t n = ::send(client.fd(), message.data(), message.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n > 0) {
      sent += static_cast<std::size_t>(n);
      quiet = 0;
      ASSERT_LT(sent, 4U << 20);
    } else {
      pollfd room{.fd = client.fd(), .events = POLLOUT, .revents = 0};
      if (::poll(&room, 1, 50) == 0) ++quiet;
    }
  }
  EXPECT_EQ(receive_exactly(server, sent).size(), sent);
}

TEST(Recorder, descriptors_arrive_with_their_message_among_many) {
  BareServer bare;
  Recording recording(bare.path());
  RawPeer client = recording.connect();
  RawPeer server = bare.accept();
  constexpr int kMessages = 200;
  std::thread sender([&] {
    for (int i = 0; i < kMessages; ++i) {
      const Fd file(::memfd_create("numbered", MFD_CLOEXEC));
      (void)!::ftruncate(file.get(), i);
      const std::array fds{file.get()};
      client.send(Command::DmaMap, test::bytes(i), i % 3 == 0 ? std::span<const int>(fds) : std::span<const int>());
    }
  });
  for (int i = 0; i < kMessages; ++i) {
    const auto heard = server.hear();
    ASSERT_TRUE(heard);
    EXPECT_EQ(heard->as<int>(), i);
    ASSERT_EQ(heard->fds.size(), i % 3 == 0 ? 1U : 0U) << i;
    if (i % 3 == 0) {
      EXPECT_EQ(::lseek(heard->fds[0].get(), 0, SEEK_END), i);
    }
  }
  sender.join();
}

TEST(Recorder, the_end_of_either_side_is_felt_by_the_other) {
  BareServer bare;
  Recording recording(bare.path());
  {
    RawPeer client = recording.connect();
    RawPeer server = bare.accept();
    server.hang_up();
    EXPECT_TRUE(client.closed());
  }
  RawPeer client = recording.connect();
  RawPeer server = bare.accept();
  client.hang_up();
  EXPECT_TRUE(server.closed());
}

TEST(Recorder, a_client_that_finds_no_server_is_let_go_and_the_next_served) {
  std::filesystem::path gone;
  std::unique_ptr<Recording> recording;
  {
    BareServer bare;
    gone = bare.path();
    recording = std::make_unique<Recording>(gone);
  }
  EXPECT_TRUE(recording->connect().closed());
  BareServer again;
  RawPeer client = recording->connect();
  RawPeer server = again.accept();
  client.send(Command::DeviceReset);
  EXPECT_TRUE(server.hear());
}

TEST(Recorder, nothing_is_left_open_behind_a_connection) {
  ServedDevice served;
  Recording recording(served.path());
  const auto use = [&] {
    auto device = open_device("vfio-user:" + recording.socket().string());
    ASSERT_TRUE(device) << device.error().message;
    std::vector<std::byte> memory(kPage);
    ASSERT_TRUE((*device)->dma_map({.range = {{0x1000}, kPage}, .memory = memory}));
  };
  use();
  use();
  const std::size_t before = test::open_descriptors();
  for (int i = 0; i < 5; ++i) use();
  use();
  // The last of them may still be on its way out.
  for (int i = 0; i < 500 && test::open_descriptors() > before; ++i) std::this_thread::sleep_for(10ms);
  EXPECT_LE(test::open_descriptors(), before);
}

}  // namespace
}  // namespace gangway::record
