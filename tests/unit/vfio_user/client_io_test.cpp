// What a client has to reach regions with beyond reads and writes: several writes in a message, and descriptors.
#include <gtest/gtest.h>

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <vector>

#include "unit/vfio_user/fake_server.h"
#include "unit/vfio_user/served_device.h"

namespace gangway::vfio_user {
namespace {

using test::bytes;
using test::Bytes;
using test::FakeServer;
using test::Heard;
using test::RawPeer;
using test::ServedDevice;
using test::with;
using Write = DeviceHandle::RegionWrite;

constexpr std::uint32_t kBar0 = 0;
constexpr std::uint32_t kBar1 = 1;  // there is none
constexpr std::uint32_t kBar2 = 2;
constexpr std::uint32_t kNoRegion = 99;

std::unique_ptr<Client> open(const ServedDevice& served) {
  auto client = Client::connect(served.path(), {});
  EXPECT_TRUE(client) << client.error().message;
  return client ? *std::move(client) : nullptr;
}
std::uint64_t read_register(DeviceHandle& device, std::uint64_t offset) {
  std::uint64_t value = 0;
  EXPECT_TRUE(device.read(kBar0, offset, room_for(value)));
  return value;
}

// --- several writes ---

TEST(ClientWriteMulti, all_are_made_in_order_whatever_their_size) {
  const ServedDevice served;
  const auto device = open(served);
  ASSERT_TRUE(device->server().write_multiple);
  const Bytes pattern{std::byte{1}, std::byte{2}, std::byte{3}, std::byte{4},
                      std::byte{5}, std::byte{6}, std::byte{7}, std::byte{8}};
  std::vector<Write> writes;
  for (std::size_t size = 1; size <= 8; ++size) {
    writes.push_back({.region = kBar0, .offset = size * 16, .data = std::span(pattern).first(size)});
  }
  const std::uint64_t first = 1;
  const std::uint64_t last = 2;
  writes.push_back({.region = kBar0, .offset = 0, .data = bytes_of(first)});
  writes.push_back({.region = kBar0, .offset = 0, .data = bytes_of(last)});
  EXPECT_EQ(device->write_multi(writes).value_or(0), writes.size());
  for (std::size_t size = 1; size <= 8; ++size) {
    Bytes expected(8);
    std::ranges::copy(std::span(pattern).first(size), expected.begin());
    Bytes found(8);
    ASSERT_TRUE(device->read(kBar0, size * 16, found));
    EXPECT_EQ(found, expected) << size;
  }
  EXPECT_EQ(read_register(*device, 0), last);
  EXPECT_EQ(device->write_multi({}).value_or(1), 0U);
}

// One to a region that is not there among ten: those before it are made, and none after it.
TEST(ClientWriteMulti, says_how_many_were_made) {
  for (const std::uint32_t limit : {1U << 20, 100U, 24U, 8U}) {
    SCOPED_TRACE(limit);
    const ServedDevice served({}, {.max_data_xfer_size = limit});
    const auto device = open(served);
    for (const std::size_t refused : {0U, 1U, 3U, 4U, 9U, 10U}) {
      SCOPED_TRACE(refused);
      ASSERT_TRUE(device->reset());
      const std::uint64_t value = 7;
      std::vector<Write> writes;
      for (std::size_t i = 0; i < 10; ++i) {
        writes.push_back({.region = i == refused ? kNoRegion : kBar0, .offset = i * 8, .data = bytes_of(value)});
      }
      const Result<std::size_t> made = device->write_multi(writes);
      if (refused == 0) {
        ASSERT_FALSE(made);
        EXPECT_EQ(made.error().code, EINVAL);
      } else {
        EXPECT_EQ(made.value_or(99), refused);
      }
      for (std::size_t i = 0; i < 10; ++i) EXPECT_EQ(read_register(*device, i * 8), i < refused ? value : 0) << i;
    }
  }
}

TEST(ClientWriteMulti, what_no_message_can_carry_is_refused_and_nothing_written) {
  const ServedDevice served;
  const auto device = open(served);
  const Bytes data(9, std::byte{1});
  for (const std::size_t size : {0U, 9U}) {
    const std::array writes{Write{.region = kBar0, .offset = 0, .data = std::span(data).first(8)},
                            Write{.region = kBar0, .offset = 8, .data = std::span(data).first(size)}};
    const Result<std::size_t> made = device->write_multi(writes);
    ASSERT_FALSE(made);
    EXPECT_EQ(made.error().code, EINVAL);
    EXPECT_EQ(read_register(*device, 0), 0U);
  }
}

// How many messages of a kind a server without an end hears for ten writes.
std::size_t messages(std::string_view capabilities, Command kind) {
  std::size_t count = 0;
  {
    FakeServer server(capabilities, [&](RawPeer& peer) {
      while (const auto heard = peer.hear()) {
        EXPECT_EQ(static_cast<Command>(heard->header.command), kind);
        ++count;
        const std::size_t head = kind == Command::RegionWrite ? sizeof(RegionAccess) : sizeof(RegionWriteMulti);
        peer.reply(*heard, std::span(heard->body).first(head));
      }
    });
    const auto client = server.open();
    const std::uint64_t value = 7;
    const std::vector<Write> writes(10, Write{.region = kBar0, .offset = 0, .data = bytes_of(value)});
    EXPECT_EQ(client ? (*client)->write_multi(writes).value_or(0) : 0, 10U);
  }
  return count;
}

TEST(ClientWriteMulti, as_many_go_in_a_message_as_the_server_takes) {
  constexpr std::string_view kMany = R"({"capabilities":{"write_multiple":true}})";
  constexpr std::string_view kFour = R"({"capabilities":{"write_multiple":true,"max_data_xfer_size":100}})";
  EXPECT_EQ(messages(kMany, Command::RegionWriteMulti), 1U);
  EXPECT_EQ(messages(kFour, Command::RegionWriteMulti), 3U);
  EXPECT_EQ(messages("{}", Command::RegionWrite), 10U) << "to a server that has not said that it takes several";
}

// The write that was refused is not tried again, and none behind it is made.
TEST(ClientWriteMulti, nothing_is_sent_after_a_message_of_which_a_part_was_made) {
  std::size_t heard_messages = 0;
  std::size_t made_writes = 0;
  {
    FakeServer server(R"({"capabilities":{"write_multiple":true,"max_data_xfer_size":100}})", [&](RawPeer& peer) {
      while (const auto heard = peer.hear()) {
        ++heard_messages;
        peer.reply(*heard, bytes(RegionWriteMulti{2}));
      }
    });
    const auto client = server.open();
    ASSERT_TRUE(client);
    const std::uint64_t value = 7;
    const std::vector<Write> writes(10, Write{.region = kBar0, .offset = 0, .data = bytes_of(value)});
    made_writes = (*client)->write_multi(writes).value_or(99);
  }
  EXPECT_EQ(made_writes, 2U);
  EXPECT_EQ(heard_messages, 1U);
}

TEST(ClientWriteMulti, a_server_that_counts_wrongly_is_left) {
  for (const Bytes& answer : {bytes(RegionWriteMulti{3}), bytes(RegionWriteMulti{~0ULL}), Bytes{}, Bytes(4)}) {
    FakeServer server(R"({"capabilities":{"write_multiple":true}})", [&](RawPeer& peer) {
      if (const auto heard = peer.hear()) peer.reply(*heard, answer);
    });
    const auto client = server.open();
    ASSERT_TRUE(client);
    const std::uint64_t value = 7;
    const std::vector<Write> writes(2, Write{.region = kBar0, .offset = 0, .data = bytes_of(value)});
    const Result<std::size_t> made = (*client)->write_multi(writes);
    ASSERT_FALSE(made);
    EXPECT_EQ(made.error().code, EPROTO);
    EXPECT_TRUE((*client)->broken());
  }
}

// --- descriptors of stretches ---

TEST(ClientIoFds, are_those_of_the_device) {
  const ServedDevice served;
  const auto device = open(served);
  const auto found = device->io_fds(kBar0);
  ASSERT_TRUE(found) << found.error().message;
  ASSERT_EQ(found->size(), 2U);
  EXPECT_EQ((*found)[0].offset, 0x100U);
  EXPECT_EQ((*found)[1].offset, 0x104U);
  for (const DeviceHandle::IoFd& one : *found) {
    EXPECT_EQ(one.size, 4U);
    EXPECT_EQ(one.type, 0U);
  }
  EXPECT_EQ((*found)[0].file, (*found)[1].file) << "one doorbell for both, sent once";
  // It is the device's own: what one client tells by it another's descriptor knows.
  ASSERT_EQ(::eventfd_write((*found)[0].file->get(), 5), 0);
  const auto again = device->io_fds(kBar0);
  ASSERT_TRUE(again);
  eventfd_t told = 0;
  ASSERT_EQ(::eventfd_read((*again)[1].file->get(), &told), 0);
  EXPECT_EQ(told, 5U);

  for (const std::uint32_t without : {kBar1, kBar2}) {
    const auto none = device->io_fds(without);
    ASSERT_TRUE(none) << none.error().message;
    EXPECT_TRUE(none->empty());
  }
  EXPECT_EQ(device->io_fds(kNoRegion).error().code, EINVAL);
}

// What a server says of region 0, which has 0x1000 bytes: `list(asked)` with `files` descriptors.
template <class List>
Result<std::vector<DeviceHandle::IoFd>> told(List list, std::size_t files = 1) {
  FakeServer server([list, files](RawPeer& peer) {
    while (const auto heard = peer.hear()) {
      if (static_cast<Command>(heard->header.command) == Command::DeviceGetRegionInfo) {
        peer.reply(*heard, bytes(RegionInfo{.argsz = sizeof(RegionInfo), .flags = kRegionWrite, .size = 0x1000}));
        continue;
      }
      const Bytes body = list(heard->as<RegionIoFds>());
      Header header = heard->header;
      header.flags = kTypeReply;
      header.size = static_cast<std::uint32_t>(sizeof header + body.size());
      std::vector<Fd> kept;
      std::vector<int> sent;
      for (std::size_t i = 0; i < files; ++i) sent.push_back(kept.emplace_back(::eventfd(0, EFD_CLOEXEC)).get());
      peer.send_bytes(with(bytes(header), body), sent);
    }
  });
  const auto client = server.open();
  if (!client) return std::unexpected(client.error());
  auto found = (*client)->io_fds(kBar0);
  EXPECT_EQ(static_cast<bool>((*client)->broken()), !found);
  return found;
}
Bytes stretches(std::uint32_t count) {
  Bytes all;
  for (std::uint32_t i = 0; i < count; ++i) all = with(all, bytes(SubRegionIoeventfd{.offset = i * 8ULL, .size = 8}));
  return all;
}
Bytes list(std::uint32_t count, const Bytes& entries, std::uint32_t index = kBar0) {
  const auto argsz = static_cast<std::uint32_t>(sizeof(RegionIoFds) + entries.size());
  return with(bytes(RegionIoFds{.argsz = argsz, .index = index, .count = count}), entries);
}

TEST(ClientIoFds, a_long_list_is_asked_for_again) {
  const auto found = told([](const RegionIoFds& asked) {
    const Bytes all = list(100, stretches(100));
    return asked.argsz >= all.size() ? all : Bytes(all.begin(), all.begin() + sizeof(RegionIoFds));
  });
  ASSERT_TRUE(found) << found.error().message;
  ASSERT_EQ(found->size(), 100U);
  EXPECT_EQ(found->back().offset, 99U * 8);
}

TEST(ClientIoFds, entries_may_be_longer_than_what_is_known_of_them) {
  Bytes entries;
  for (const std::uint64_t offset : {0ULL, 8ULL, 16ULL}) {
    entries = with(with(entries, bytes(SubRegionIoeventfd{.offset = offset, .type = 1, .datamatch = 42})), Bytes(8));
  }
  const auto found = told([&](const RegionIoFds&) { return list(3, entries); });
  ASSERT_TRUE(found) << found.error().message;
  ASSERT_EQ(found->size(), 3U);
  EXPECT_EQ((*found)[2].offset, 16U);
  EXPECT_EQ((*found)[2].size, 0U) << "of any size";
  EXPECT_EQ((*found)[2].type, 1U) << "of a kind that the caller may know";
  EXPECT_EQ((*found)[2].data, 42U);
}

TEST(ClientIoFds, a_server_whose_list_is_wrong_is_left) {
  const auto stretch = [](const SubRegionIoeventfd& one) { return list(1, bytes(one)); };
  const std::array answers{
      Bytes(8),
      list(2, stretches(1)),
      list(3, stretches(2)),
      list(~0U, stretches(3)),
      list(1, {}),
      list(1, stretches(1), 4),
      bytes(RegionIoFds{.argsz = 1U << 20, .index = kBar0, .count = 1}),
      bytes(RegionIoFds{.argsz = ~0U, .index = kBar0, .count = 1}),
      stretch({.offset = 0, .size = 8, .fd_index = 1}),
      stretch({.offset = 0, .size = 8, .fd_index = ~0U}),
      stretch({.offset = 0x1000}),
      stretch({.offset = 0xffc, .size = 8}),
      stretch({.offset = 8, .size = ~0ULL}),
      stretch({.offset = ~0ULL, .size = 8}),
  };
  for (std::size_t i = 0; i < answers.size(); ++i) {
    SCOPED_TRACE(i);
    const auto found = told([&](const RegionIoFds&) { return answers[i]; });
    ASSERT_FALSE(found);
    EXPECT_EQ(found.error().code, EPROTO) << found.error().message;
  }
  EXPECT_FALSE(told([](const RegionIoFds&) { return list(1, stretches(1)); }, 0)) << "no descriptor came";
  // Longer whenever one asks.
  EXPECT_FALSE(told([](const RegionIoFds& asked) {
    return bytes(RegionIoFds{.argsz = asked.argsz + 40, .index = kBar0, .count = 1});
  }));
}

}  // namespace
}  // namespace gangway::vfio_user
