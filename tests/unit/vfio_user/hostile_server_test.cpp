// A client of servers that do not keep to the protocol.
#include <gtest/gtest.h>

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <gangway/migration_region.h>

#include "unit/vfio_user/fake_server.h"

namespace gangway::vfio_user {
namespace {

using test::bytes;
using test::Bytes;
using test::FakeServer;
using test::Heard;
using test::RawPeer;
using test::with;

TEST(HostileServer, version_replies_are_checked) {
  for (const Bytes& reply :
       {Bytes{}, Bytes(3), bytes(Version{1, 0}), bytes(Version{0, 2}), with(bytes(Version{0, 1}), test::text("x")),
        with(bytes(Version{0, 1}), test::text(R"({"capabilities":{"max_data_xfer_size":0}})")),
        with(bytes(Version{0, 1}),
             test::text(R"({"capabilities":{"twin_socket":{"supported":true,"fd_index":0}}})"))}) {
    FakeServer server([reply](RawPeer& peer) { peer.reply(*peer.hear(), reply); }, FakeServer::Greeting::None);
    EXPECT_FALSE(server.open());
  }
}

TEST(HostileServer, wrong_replies_end_the_connection) {
  using Answer = void (*)(RawPeer&, const Heard&);
  const std::array<Answer, 5> answers{
      [](RawPeer& peer, const Heard& asked) { peer.reply(asked, Bytes(15)); },
      [](RawPeer& peer, const Heard& asked) { peer.reply(asked, Bytes(17)); },
      [](RawPeer& peer, Heard const& asked) {
        Heard other{.header = asked.header};
        ++other.header.id;
        peer.reply(other, Bytes(16));
      },
      [](RawPeer& peer, const Heard& asked) {
        peer.send_bytes(bytes(Header{asked.header.id, asked.header.command, 20, kTypeReply | kError, EIO}, 0));
      },
      [](RawPeer&, const Heard&) { /* no answer at all */ }};
  for (const Answer answer : answers) {
    FakeServer server([answer](RawPeer& peer) { answer(peer, *peer.hear()); });
    const auto client = server.open();
    ASSERT_TRUE(client) << client.error().message;
    EXPECT_FALSE((*client)->info());
    EXPECT_TRUE((*client)->broken());
    EXPECT_FALSE((*client)->reset()) << "a broken connection stays broken";
  }
}

TEST(HostileServer, a_server_that_goes_away_is_said_to_have) {
  FakeServer server([](RawPeer& peer) {
    (void)peer.hear();
    peer.hang_up();
  });
  const auto client = server.open();
  ASSERT_TRUE(client) << client.error().message;
  const auto info = (*client)->info();
  ASSERT_FALSE(info);
  EXPECT_EQ(info.error().code, ECONNRESET);
  EXPECT_EQ(info.error().message, "fake: device info: the peer closed the connection");
}

TEST(HostileServer, a_region_description_that_grows_for_ever_is_given_up) {
  for (const std::uint32_t growth : {2U, 1'000'000U}) {
    FakeServer server([growth](RawPeer& peer) {
      while (const auto asked = peer.hear()) {
        peer.reply(*asked, bytes(RegionInfo{.argsz = asked->as<RegionInfo>().argsz * growth, .index = 7}));
      }
    });
    const auto client = server.open();
    ASSERT_TRUE(client);
    EXPECT_EQ((*client)->region(7).error().code, EPROTO);
  }
}

TEST(HostileServer, region_capabilities_are_walked_within_bounds) {
  for (const CapHeader cap : {CapHeader{.id = 1, .next = 32}, CapHeader{.id = 1, .next = 4000}, CapHeader{.id = 1},
                              CapHeader{.id = 9, .next = 33}}) {
    FakeServer server([cap](RawPeer& peer) {
      peer.reply(*peer.hear(),
                 bytes(RegionInfo{.argsz = 48, .flags = kRegionCaps, .index = 1, .cap_offset = 32}, cap, ~0ULL));
    });
    const auto client = server.open();
    ASSERT_TRUE(client);
    EXPECT_EQ((*client)->region(1).error().code, EPROTO);
  }
}

TEST(HostileServer, a_device_of_too_many_parts_is_not_believed) {
  for (const DeviceInfo& said :
       {DeviceInfo{.argsz = 16, .regions = 4097, .irqs = 5}, DeviceInfo{.argsz = 16, .regions = 9, .irqs = 65}}) {
    FakeServer server([said](RawPeer& peer) { peer.reply(*peer.hear(), bytes(said)); });
    const auto client = server.open();
    ASSERT_TRUE(client);
    EXPECT_EQ((*client)->info().error().code, EPROTO);
    EXPECT_TRUE((*client)->broken());
  }
}

TEST(HostileServer, a_write_that_was_done_in_part_is_no_success) {
  for (const std::uint32_t count : {0U, 4U, 9U}) {
    FakeServer server([count](RawPeer& peer) { peer.reply(*peer.hear(), bytes(RegionAccess{.count = count})); });
    const auto client = server.open();
    ASSERT_TRUE(client);
    EXPECT_EQ((*client)->write(0, 0, Bytes(8)).error().code, EPROTO);
    EXPECT_TRUE((*client)->broken());
  }
}

TEST(HostileServer, migration_data_longer_than_asked_or_misstated_is_refused) {
  for (const std::uint32_t stated : {9U, 11U, 0xffffffffU}) {
    FakeServer server([stated](RawPeer& peer) {
      peer.reply(*peer.hear(), with(bytes(MigData{.argsz = 18, .size = stated}), Bytes(10)));
    });
    const auto client = server.open();
    ASSERT_TRUE(client);
    Bytes out(10);
    EXPECT_EQ((*client)->read_data(out).error().code, EPROTO);
  }
}

// A device with one region, a migration region of v1, of which it says what a test has it say.
struct MigrationRegionServer {
  static constexpr std::uint64_t kData = 0x1000;
  std::uint64_t region_size = 0x3000;
  std::uint64_t data_size = 8;
  SparseArea mappable{};  // with `file`
  int file = -1;

  void operator()(RawPeer& peer) const {
    while (const auto asked = peer.hear()) {
      switch (static_cast<Command>(asked->header.command)) {
        case Command::DeviceGetInfo:
          peer.reply(*asked, bytes(DeviceInfo{.argsz = sizeof(DeviceInfo), .regions = 1}));
          break;
        case Command::DeviceGetRegionInfo:
          describe(peer, *asked);
          break;
        default:
          answer(peer, *asked);
          break;
      }
    }
  }

 private:
  void describe(RawPeer& peer, const Heard& asked) const {
    RegionInfo info{.argsz = sizeof(RegionInfo) + sizeof(CapType),
                    .flags = kRegionRead | kRegionWrite | kRegionCaps,
                    .cap_offset = sizeof(RegionInfo),
                    .size = region_size};
    CapType type{.type = 3, .subtype = 1};
    if (file < 0) {
      peer.reply(asked, bytes(info, type));
      return;
    }
    info.argsz += sizeof(CapSparseMmap) + sizeof(SparseArea);
    info.flags |= kRegionMmap;
    type.header.next = sizeof(RegionInfo) + sizeof(CapType);
    Header header = asked.header;
    header.flags = kTypeReply;
    header.size = sizeof header + info.argsz;
    peer.send_bytes(bytes(header, info, type, CapSparseMmap{.areas = 1}, mappable), std::array{file});
  }
  // Reads are of a field of the header, or of data, which is all sevens.
  void answer(RawPeer& peer, const Heard& asked) const {
    const auto access = asked.as<RegionAccess>();
    if (static_cast<Command>(asked.header.command) != Command::RegionRead) {
      peer.reply(asked, bytes(access));
    } else if (access.offset >= kData) {
      peer.reply(asked, with(bytes(access), Bytes(access.count, std::byte{7})));
    } else {
      namespace region = migration_region;
      peer.reply(asked, bytes(access, access.offset == region::kDataOffset ? kData
                                      : access.offset == region::kDataSize ? data_size
                                                                           : std::uint64_t{1}));
    }
  }
};

TEST(HostileServer, a_chunk_larger_than_one_may_be_is_refused) {
  for (const std::uint64_t size : {std::uint64_t{1} << 60, (std::uint64_t{256} << 20) + 1}) {
    FakeServer server(MigrationRegionServer{.region_size = std::uint64_t{1} << 61, .data_size = size});
    const auto client = server.open();
    ASSERT_TRUE(client);
    auto region = MigrationRegionClient::find(**client, Revision::V1);
    ASSERT_TRUE(region && *region);
    EXPECT_EQ((*region)->next_chunk().error().code, EPROTO);
  }
}

// Bytes of a mapping that are beyond the end of its file end the process that touches them.
TEST(HostileServer, a_migration_region_that_could_be_shortened_is_not_mapped) {
  struct Case {
    std::string_view what;
    std::uint64_t length;
    int seals;
    SparseArea area;
    bool maps;
  };
  constexpr std::uint64_t kEnd = 0x3000;
  for (const Case& one : {Case{"short", 0x1000, F_SEAL_SHRINK, {0x1000, 0x2000}, false},
                          Case{"to be shortened", kEnd, F_SEAL_GROW, {0x1000, 0x2000}, false},
                          Case{"good", kEnd, F_SEAL_SHRINK, {0x1000, 0x2000}, true}}) {
    SCOPED_TRACE(one.what);
    const Fd file(::memfd_create("region", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    ASSERT_EQ(::ftruncate(file.get(), static_cast<off_t>(one.length)), 0);
    ASSERT_EQ(::fcntl(file.get(), F_ADD_SEALS, one.seals), 0);
    FakeServer server(MigrationRegionServer{.mappable = one.area, .file = file.get()});
    const auto client = server.open();
    ASSERT_TRUE(client);
    auto region = MigrationRegionClient::find(**client, Revision::V1);
    ASSERT_TRUE(region && *region);
    const auto chunk = (*region)->next_chunk();
    ASSERT_TRUE(chunk) << chunk.error().message;
    EXPECT_EQ(*chunk, Bytes(8, one.maps ? std::byte{0} : std::byte{7}));
  }
}

}  // namespace
}  // namespace gangway::vfio_user
