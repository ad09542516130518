// A client's ways to unmap: one mapping with what the device wrote to it, and all of them.
#include <gtest/gtest.h>

#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <string>
#include <vector>

#include "unit/vfio_user/fake_server.h"
#include "unit/vfio_user/served_device.h"

namespace gangway::vfio_user {
namespace {

using test::bytes;
using test::Bytes;
using test::FakeServer;
using test::RawPeer;
using test::ServedDevice;
using test::with;

constexpr std::uint64_t kPage = 0x1000;
constexpr std::uint64_t kStart = 0x100000;
constexpr std::uint64_t kPages = 256;
constexpr IovaRange kRange{{kStart}, kPages* kPage};

// Memory of a client, and how its server reaches it: by a descriptor, by messages on a socket of their own, or by
// messages beside those of the client.
enum class Reach : std::uint8_t { File, Twin, OneSocket };

class ClientUnmap : public testing::TestWithParam<Reach> {
 protected:
  void SetUp() override {
    auto client = Client::connect(served_.path(), {.twin_socket = GetParam() != Reach::OneSocket});
    ASSERT_TRUE(client) << client.error().message;
    device_ = *std::move(client);
    file_ = Fd(::memfd_create("guest", MFD_CLOEXEC));
    ASSERT_EQ(::ftruncate(file_.get(), kPages * kPage), 0);
  }
  Result<void> map(IovaRange range = kRange) {
    const std::span<std::byte> memory = std::span(memory_).first(range.size);
    if (GetParam() == Reach::File) return device_->dma_map({.range = range, .file = file_.get()});
    return device_->dma_map({.range = range, .memory = memory});
  }
  void log() {
    const std::array ranges{kRange};
    EXPECT_TRUE(device_->dma_logging_start(ranges, kPage));
  }
  // As the device does.
  [[nodiscard]] bool write_page(std::uint64_t page) {
    return served_.endpoint().dma().write({kStart + page * kPage}, Bytes(16, std::byte{1})).has_value();
  }

  ServedDevice served_;
  Bytes memory_ = Bytes(kPages * kPage);
  Fd file_;
  std::unique_ptr<Client> device_;
};

TEST_P(ClientUnmap, tells_what_was_written_since_the_last_report) {
  ASSERT_TRUE(map());
  log();
  ASSERT_TRUE(write_page(3));
  std::vector<std::uint64_t> bitmap(kPages / 64);
  ASSERT_TRUE(device_->dma_logging_report(kRange, kPage, bitmap));
  EXPECT_EQ(bitmap[0], 1U << 3);
  ASSERT_TRUE(write_page(7));
  ASSERT_TRUE(write_page(255));
  bitmap = {1, 0, 0, 0, 99};
  ASSERT_TRUE(device_->dma_unmap_reporting(kRange, kPage, bitmap));
  EXPECT_EQ(bitmap, (std::vector<std::uint64_t>{1U << 7 | 1U, 0, 0, 1ULL << 63, 99})) << "sets bits and clears none";

  EXPECT_FALSE(write_page(0)) << "it is still mapped";
  EXPECT_EQ(device_->dma_unmap(kRange).error().code, ENOENT);
  bitmap = {0, 0, 0, 0};
  ASSERT_TRUE(device_->dma_logging_report(kRange, kPage, bitmap));
  EXPECT_EQ(bitmap, std::vector<std::uint64_t>(4)) << "told twice";
  EXPECT_TRUE(map());
  EXPECT_TRUE(write_page(0));
}

TEST_P(ClientUnmap, tells_it_in_pages_of_any_size) {
  for (const std::uint64_t page_size : {2 * kPage, 64 * kPage, 1024 * kPage}) {
    SCOPED_TRACE(page_size);
    ASSERT_TRUE(map());
    log();
    ASSERT_TRUE(write_page(200));
    std::vector<std::uint64_t> bitmap(2);
    ASSERT_TRUE(device_->dma_unmap_reporting(kRange, page_size, bitmap));
    std::vector<std::uint64_t> expected(2);
    const std::uint64_t bit = 200 * kPage / page_size;
    expected[bit / 64] = 1ULL << bit % 64;
    EXPECT_EQ(bitmap, expected);
    EXPECT_TRUE(device_->dma_logging_stop());
  }
}

// Whatever is refused, the mapping and what is dirty in it are still there.
TEST_P(ClientUnmap, a_refusal_unmaps_nothing_and_loses_no_page) {
  ASSERT_TRUE(map());
  std::vector<std::uint64_t> bitmap(kPages / 64);
  EXPECT_EQ(device_->dma_unmap_reporting(kRange, kPage, bitmap).error().code, EINVAL) << "nothing is logged";
  log();
  ASSERT_TRUE(write_page(9));
  struct Refused {
    IovaRange range;
    std::uint64_t page_size;
    std::size_t words;
    int code;
  };
  for (const Refused& one : {Refused{kRange, 0, 4, EINVAL}, Refused{kRange, 2048, 4, EINVAL},
                             Refused{kRange, 4097, 4, EINVAL}, Refused{kRange, kPage, 3, EINVAL},
                             Refused{kRange, kPage, 0, EINVAL}, Refused{{{kStart}, kPage}, kPage, 4, ENOENT},
                             Refused{{{kStart + kPage}, kPage}, kPage, 4, ENOENT}, Refused{{{0}, 0}, kPage, 4, ENOENT},
                             Refused{{{0}, 1ULL << 45}, kPage, 4, E2BIG}, Refused{{{0}, ~0ULL}, kPage, 4, E2BIG}}) {
    SCOPED_TRACE(testing::Message() << one.range.size << " bytes in pages of " << one.page_size << ", " << one.words);
    const auto refused = device_->dma_unmap_reporting(one.range, one.page_size, std::span(bitmap).first(one.words));
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, one.code) << refused.error().message;
    EXPECT_EQ(bitmap, std::vector<std::uint64_t>(kPages / 64));
  }
  EXPECT_TRUE(write_page(10));
  ASSERT_TRUE(device_->dma_unmap_reporting(kRange, kPage, bitmap));
  EXPECT_EQ(bitmap[0], 3U << 9);
}

TEST_P(ClientUnmap, all_at_once) {
  EXPECT_TRUE(device_->dma_unmap_all()) << "there are none";
  for (std::uint64_t i = 0; i < 3; ++i) ASSERT_TRUE(map({{kStart + i * 2 * kPage}, kPage}));
  EXPECT_TRUE(write_page(2));
  EXPECT_EQ(served_.endpoint().dma().map_count(), 3U);
  ASSERT_TRUE(device_->dma_unmap_all());
  EXPECT_EQ(served_.endpoint().dma().map_count(), 0U);
  EXPECT_FALSE(write_page(2));
  EXPECT_EQ(device_->dma_unmap({{kStart}, kPage}).error().code, ENOENT);
  ASSERT_TRUE(map());
  EXPECT_TRUE(write_page(2)) << "what the client had for the old mapping is in its way";
}

std::string name_of(const testing::TestParamInfo<Reach>& info) {
  constexpr std::array kNames{"by_file", "by_messages", "by_messages_on_one_socket"};
  return kNames.at(static_cast<std::size_t>(info.param));
}
INSTANTIATE_TEST_SUITE_P(Reached, ClientUnmap, testing::Values(Reach::File, Reach::Twin, Reach::OneSocket), name_of);

// With the client's own count of what the server takes.
TEST(ClientUnmapCount, whatever_was_unmapped_makes_room) {
  const ServedDevice served({}, {}, {.max_dma_maps = 2});
  const auto client = Client::connect(served.path(), {});
  ASSERT_TRUE(client);
  Client& device = **client;
  ASSERT_EQ(device.server().max_dma_maps, 2U);
  const auto fill = [&] {
    EXPECT_TRUE(device.dma_map({.range = {{0}, kPage}}));
    EXPECT_TRUE(device.dma_map({.range = {{kPage}, kPage}}));
    EXPECT_EQ(device.dma_map({.range = {{2 * kPage}, kPage}}).error().code, ENOSPC);
  };
  fill();
  ASSERT_TRUE(device.dma_unmap_all());
  fill();
  EXPECT_TRUE(device.dma_logging_start({}, kPage));
  std::array<std::uint64_t, 1> bitmap{};
  EXPECT_TRUE(device.dma_unmap_reporting({{0}, kPage}, kPage, bitmap));
  EXPECT_TRUE(device.dma_unmap_reporting({{kPage}, kPage}, kPage, bitmap));
  fill();
}

// The reply to an unmap of one page with a bitmap of one word.
TEST(HostileServerUnmap, a_bitmap_that_was_not_asked_for_is_not_taken) {
  const auto reply = [](std::uint64_t page_size, std::uint64_t size, std::size_t words) {
    return with(bytes(DmaUnmap{.argsz = 48, .flags = kUnmapGetDirtyBitmap}, Bitmap{page_size, size}), Bytes(words * 8));
  };
  for (const Bytes& answer : {Bytes{}, Bytes(24), reply(kPage, 8, 0), reply(2 * kPage, 8, 1), reply(kPage, 16, 1),
                              reply(kPage, 0, 0), reply(kPage, 8, 2), reply(kPage, ~0ULL, 1)}) {
    SCOPED_TRACE(answer.size());
    FakeServer server([&](RawPeer& peer) {
      if (const auto heard = peer.hear()) peer.reply(*heard, answer);
    });
    const auto client = server.open();
    ASSERT_TRUE(client);
    std::array<std::uint64_t, 2> bitmap{};
    const auto unmapped = (*client)->dma_unmap_reporting({{0}, kPage}, kPage, bitmap);
    EXPECT_FALSE(unmapped);
    EXPECT_TRUE((*client)->broken());
    EXPECT_EQ(bitmap, (std::array<std::uint64_t, 2>{}));
  }
}

}  // namespace
}  // namespace gangway::vfio_user
