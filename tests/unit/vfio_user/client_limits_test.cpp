// A client keeps to the limits that a server says it has (WIR-NEGOTIATE): what they forbid is refused with the limit's
// name, and not sent.
#include <gtest/gtest.h>

#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <functional>
#include <vector>

#include "unit/vfio_user/fake_server.h"

namespace gangway::vfio_user {
namespace {

using test::bytes;
using test::Bytes;
using test::FakeServer;
using test::RawPeer;
using test::with;

constexpr std::uint64_t kPage = 0x1000;

// Takes whatever comes, and counts it.
struct Yielding {
  std::atomic<int>& commands;
  std::atomic<int>& descriptors;

  void operator()(RawPeer& peer) const {
    while (const auto heard = peer.hear()) {
      ++commands;
      descriptors += static_cast<int>(heard->fds.size());
      const bool unmap = static_cast<Command>(heard->header.command) == Command::DmaUnmap;
      peer.reply(*heard, unmap ? heard->body : Bytes{});
    }
  }
};

class ClientLimits : public testing::Test {
 protected:
  std::unique_ptr<Client> connect(std::string_view capabilities) {
    server_.emplace(capabilities, Yielding{commands_, descriptors_});
    auto client = server_->open();
    EXPECT_TRUE(client) << client.error().message;
    return client ? *std::move(client) : nullptr;
  }
  static Result<void> map(Client& client, std::uint64_t address, std::uint64_t size = kPage) {
    return client.dma_map({.range = {{address}, size}});
  }
  static void expect_refused(const Result<void>& refused, int code, std::string_view limit) {
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, code);
    EXPECT_NE(refused.error().message.find(limit), std::string::npos) << refused.error().message;
  }

  std::atomic<int> commands_ = 0;
  std::atomic<int> descriptors_ = 0;
  std::optional<FakeServer> server_;  // ends when its client has
};

TEST_F(ClientLimits, no_more_maps_than_the_server_takes) {
  const auto client = connect(R"({"capabilities":{"max_dma_maps":3}})");
  for (std::uint64_t i = 0; i < 3; ++i) EXPECT_TRUE(map(*client, i * kPage));
  expect_refused(map(*client, 3 * kPage), ENOSPC, "max_dma_maps");
  EXPECT_EQ(commands_, 3) << "the server was asked";
  EXPECT_TRUE(client->dma_unmap({{0}, kPage}));
  EXPECT_TRUE(map(*client, 3 * kPage));
  expect_refused(map(*client, 4 * kPage), ENOSPC, "max_dma_maps");
}

// What was refused is no map, and what never was one is none less.
TEST_F(ClientLimits, only_maps_that_exist_count) {
  FakeServer server(R"({"capabilities":{"max_dma_maps":2}})", [](RawPeer& peer) {
    for (bool refuse = true; const auto heard = peer.hear(); refuse = false) {
      const bool unmap = static_cast<Command>(heard->header.command) == Command::DmaUnmap;
      if (refuse) {
        Header header = heard->header;
        header.flags = kTypeReply | kError;
        header.error = EEXIST;
        header.size = sizeof header;
        peer.send_bytes(bytes(header));
      } else {
        peer.reply(*heard, unmap ? heard->body : Bytes{});
      }
    }
  });
  const auto client = server.open();
  ASSERT_TRUE(client);
  EXPECT_EQ(map(**client, 0).error().code, EEXIST);
  for (int i = 0; i < 3; ++i) EXPECT_TRUE((*client)->dma_unmap({{0}, kPage}));
  EXPECT_TRUE(map(**client, 0));
  EXPECT_TRUE(map(**client, kPage));
  expect_refused(map(**client, 2 * kPage), ENOSPC, "max_dma_maps");
}

TEST_F(ClientLimits, a_server_may_take_no_maps_at_all) {
  const auto client = connect(R"({"capabilities":{"max_dma_maps":0}})");
  expect_refused(map(*client, 0), ENOSPC, "max_dma_maps");
  EXPECT_EQ(commands_, 0);
}

TEST_F(ClientLimits, maps_are_multiples_of_the_smallest_page) {
  const auto client = connect(R"({"capabilities":{"pgsizes":2162688}})");  // 64 KiB and 2 MiB
  const Fd file(::memfd_create("guest", MFD_CLOEXEC));
  ASSERT_EQ(::ftruncate(file.get(), 1 << 20), 0);
  constexpr std::uint64_t kLarge = 0x10000;
  expect_refused(map(*client, kPage, kLarge), EINVAL, "pgsizes");
  expect_refused(map(*client, kLarge, kPage), EINVAL, "pgsizes");
  expect_refused(client->dma_map({.range = {{0}, kLarge}, .file = file.get(), .offset = kPage}), EINVAL, "pgsizes");
  EXPECT_EQ(commands_, 0);
  EXPECT_TRUE(client->dma_map({.range = {{kLarge}, kLarge}, .file = file.get(), .offset = kLarge}));
  EXPECT_TRUE(map(*client, 4 * kLarge, 3 * kLarge));
  EXPECT_EQ(commands_, 2);
}

TEST_F(ClientLimits, silence_means_pages_of_4096_bytes_and_65535_maps) {
  const auto client = connect("{}");
  expect_refused(map(*client, 0x800), EINVAL, "pgsizes");
  EXPECT_EQ(client->server().max_dma_maps, 65535U);
  EXPECT_TRUE(map(*client, kPage));
}

TEST_F(ClientLimits, a_server_without_page_sizes_maps_nothing) {
  const auto client = connect(R"({"capabilities":{"pgsizes":0}})");
  expect_refused(map(*client, 0), ENOTSUP, "pgsizes");
  EXPECT_EQ(commands_, 0);
}

TEST_F(ClientLimits, a_server_that_takes_no_descriptors_is_sent_none) {
  const auto client = connect(R"({"capabilities":{"max_msg_fds":0}})");
  const Fd file(::memfd_create("guest", MFD_CLOEXEC));
  ASSERT_EQ(::ftruncate(file.get(), kPage), 0);
  expect_refused(client->dma_map({.range = {{0}, kPage}, .file = file.get()}), ENOTSUP, "max_msg_fds");
  gangway::IrqSet set{.type = IrqType::Msix, .data = gangway::IrqSet::Data::Eventfd, .count = 2};
  set.eventfds.emplace_back(-1);
  set.eventfds.emplace_back(::eventfd(0, EFD_CLOEXEC));
  expect_refused(client->set_irqs(std::move(set)), ENOTSUP, "max_msg_fds");
  EXPECT_EQ(commands_, 0) << "half of the interrupts were set";

  EXPECT_TRUE(map(*client, 0)) << "by messages";
  EXPECT_TRUE(client->set_irqs({.type = IrqType::Msix, .data = gangway::IrqSet::Data::Eventfd, .count = 2}));
  gangway::IrqSet none{.type = IrqType::Msix, .data = gangway::IrqSet::Data::Eventfd, .count = 2};
  none.eventfds.resize(2);
  EXPECT_TRUE(client->set_irqs(std::move(none)));
  EXPECT_EQ(descriptors_, 0);
}

// As many as it takes in each message, and all of them.
TEST_F(ClientLimits, eventfds_go_by_as_many_as_the_server_takes) {
  std::vector<std::size_t> counts;
  {
    FakeServer server(R"({"capabilities":{"max_msg_fds":2}})", [&](RawPeer& peer) {
      while (const auto heard = peer.hear()) {
        EXPECT_EQ(heard->as<IrqSet>().start, counts.size() * 2);
        EXPECT_EQ(heard->as<IrqSet>().count, heard->fds.size());
        counts.push_back(heard->fds.size());
        peer.reply(*heard, {});
      }
    });
    const auto client = server.open();
    ASSERT_TRUE(client);
    gangway::IrqSet set{.type = IrqType::Msix, .data = gangway::IrqSet::Data::Eventfd, .count = 5};
    for (int i = 0; i < 5; ++i) set.eventfds.emplace_back(::eventfd(0, EFD_CLOEXEC));
    EXPECT_TRUE((*client)->set_irqs(std::move(set)));
  }
  EXPECT_EQ(counts, (std::vector<std::size_t>{2, 2, 1}));
}

// Answers what carries data, and notes how much of it each message has.
struct Carrying {
  std::vector<std::size_t>& sizes;

  void operator()(RawPeer& peer) const {
    while (const auto heard = peer.hear()) {
      switch (static_cast<Command>(heard->header.command)) {
        case Command::RegionRead:
          sizes.push_back(heard->as<RegionAccess>().count);
          peer.reply(*heard, with(bytes(heard->as<RegionAccess>()), Bytes(sizes.back())));
          break;
        case Command::RegionWrite:
          sizes.push_back(heard->body.size() - sizeof(RegionAccess));
          peer.reply(*heard, bytes(heard->as<RegionAccess>()));
          break;
        case Command::MigDataRead: {
          const auto asked = heard->as<MigData>();
          sizes.push_back(asked.size);
          peer.reply(*heard, with(bytes(MigData{asked.argsz, asked.size}), Bytes(asked.size)));
          break;
        }
        default:
          sizes.push_back(heard->body.size() - sizeof(MigData));
          peer.reply(*heard, {});
          break;
      }
    }
  }
};

TEST_F(ClientLimits, data_goes_in_pieces_that_the_server_takes) {
  const std::array<std::function<bool(Client&, Bytes&)>, 6> transfers{
      [](Client& client, Bytes& data) { return client.read(0, 0, data).has_value(); },
      [](Client& client, Bytes& data) { return client.write(0, 0, data).has_value(); },
      [](Client& client, Bytes& data) { return client.read_data(data).has_value(); },
      [](Client& client, Bytes& data) { return client.write_data(data).has_value(); },
      [](Client& client, Bytes& data) { return client.read_ahead(data).has_value(); },
      [](Client& client, Bytes& data) { return client.write_behind(data) && client.settle(); }};
  for (std::size_t number = 0; number < transfers.size(); ++number) {
    SCOPED_TRACE(number);
    std::vector<std::size_t> sizes;
    {
      FakeServer server(R"({"capabilities":{"max_data_xfer_size":10}})", Carrying{sizes});
      const auto client = server.open();
      ASSERT_TRUE(client);
      Bytes data(25);
      EXPECT_TRUE(transfers[number](**client, data));
    }
    ASSERT_GE(sizes.size(), 3U);
    EXPECT_EQ(std::ranges::max(sizes), 10U);
    // What is read ahead goes on from there.
    EXPECT_EQ(std::vector(sizes.begin(), sizes.begin() + 2), (std::vector<std::size_t>{10, 10}));
    EXPECT_EQ(sizes[2], sizes.size() == 3 ? 5U : 10U);
  }
}

}  // namespace
}  // namespace gangway::vfio_user
