// WIR-NEGOTIATE: any JSON that makes sense is taken, any that does not is refused or ends the connection, and neither
// keeps the next client out.
#include <array>
#include <string>

#include "integration/hostile/hostile_test.h"

namespace gangway::hostile {
namespace {

using VersionTest = HostileTest;

std::string with(std::string_view key, std::string_view value) {
  return R"({"capabilities":{")" + std::string(key) + R"(":)" + std::string(value) + "}}";
}

TEST_F(VersionTest, optional_version_data_is_optional) {
  ServedDevice& device = serve();
  const std::array<Bytes, 6> bodies{
      Fields().u16(0).u16(0).take(),  // none at all
      version("{}"),
      version(R"({"capabilities":{}})"),
      version(R"({"capabilities":{"nobody_knows_this":[1,{"a":null}],"max_msg_fds":4}})"),
      version(
          R"({"unknown":{"deep":[[[]]]},"capabilities":{"migration":{"pgsize":4096,"max_bitmap_size":268435456}}})"),
      version(R"( { "capabilities" : { "twin_socket" : { "supported" : false } } } )"),
  };
  for (const Bytes& body : bodies) {
    RawPeer peer(device.socket());
    const Message reply = peer.request(kVersion, body);
    EXPECT_EQ(reply.error(), 0);
    EXPECT_EQ(field<std::uint16_t>(reply.body, 0), 0U);
    expect_in_step(peer);
  }
}

TEST_F(VersionTest, the_minor_version_is_never_greater_than_the_clients) {
  ServedDevice& device = serve();
  for (const std::uint16_t minor : std::vector<std::uint16_t>{0, 1, 2, 3, 100, 0xffff}) {
    SCOPED_TRACE(testing::Message() << "minor " << minor);
    RawPeer peer(device.socket());
    const Message reply = peer.request(kVersion, version(RawPeer::kCapabilities, minor));
    EXPECT_EQ(reply.error(), 0);
    EXPECT_EQ(field<std::uint16_t>(reply.body, 0), 0U);
    EXPECT_LE(field<std::uint16_t>(reply.body, 2), minor);
    expect_in_step(peer);
  }
}

TEST_F(VersionTest, another_major_version_is_refused) {
  ServedDevice& device = serve();
  for (const std::uint16_t major : std::vector<std::uint16_t>{1, 2, 0x100, 0xffff}) {
    SCOPED_TRACE(testing::Message() << "major " << major);
    RawPeer peer(device.socket());
    peer.post(kVersion, version(RawPeer::kCapabilities, 0, major));
    const std::optional<Message> reply = peer.receive_reply();
    EXPECT_TRUE(!reply || reply->failed());
  }
}

TEST_F(VersionTest, version_data_that_is_no_json_is_refused_or_ends_the_connection) {
  ServedDevice& device = serve();
  const std::string deep_arrays(20'000, '[');
  std::string deep_objects;
  for (int i = 0; i < 10'000; ++i) deep_objects += R"({"a":)";
  const std::array<std::string, 20> texts{"x",
                                          "{",
                                          "}",
                                          "[",
                                          "\"",
                                          R"({"capabilities":)",
                                          R"({"capabilities":{})",
                                          "{'capabilities':{}}",
                                          R"({"capabilities":{}} trailing)",
                                          "nul",
                                          "\xff\xfe\xfd",
                                          "{\"capabilities\":{\"\xc3\x28\":1}}",
                                          "{\"\xed\xa0\x80\":1}",
                                          R"({"a":"\ud800"})",
                                          R"({"capabilities":{"max_msg_fds":1e999999}})",
                                          R"({"capabilities":{"max_msg_fds":--1}})",
                                          deep_arrays,
                                          deep_objects,
                                          R"("just a string")",
                                          "[]"};
  for (const std::string& text : texts) {
    SCOPED_TRACE(text.substr(0, 40));
    RawPeer peer(device.socket());
    peer.post(kVersion, version(text));
    expect_in_step_or_closed(peer);
  }
}

TEST_F(VersionTest, capabilities_of_the_wrong_type_or_size_are_refused_or_end_the_connection) {
  ServedDevice& device = serve();
  for (const std::string_view key :
       {"max_msg_fds", "max_data_xfer_size", "max_dma_maps", "pgsizes", "twin_socket", "write_multiple", "migration"}) {
    for (const std::string_view value : {"null",
                                         "true",
                                         "\"8\"",
                                         "[]",
                                         "[8]",
                                         "{}",
                                         "{\"supported\":true}",
                                         "{\"supported\":7}",
                                         "-1",
                                         "0",
                                         "1",
                                         "1.5",
                                         "-0.0",
                                         "1e3",
                                         "1e308",
                                         "2147483648",
                                         "4294967295",
                                         "4294967296",
                                         "9223372036854775808",
                                         "18446744073709551615",
                                         "18446744073709551616",
                                         "-9223372036854775809"}) {
      SCOPED_TRACE(testing::Message() << key << ": " << value);
      RawPeer peer(device.socket());
      peer.post(kVersion, version(with(key, value)));
      expect_in_step_or_closed(peer);
    }
  }
  for (const std::string_view value : {"null", "1", "\"\"", "[]", "true"}) {
    SCOPED_TRACE(testing::Message() << "capabilities: " << value);
    RawPeer peer(device.socket());
    peer.post(kVersion, version(R"({"capabilities":)" + std::string(value) + "}"));
    expect_in_step_or_closed(peer);
  }
}

TEST_F(VersionTest, version_data_without_its_nul_is_not_read_beyond_its_end) {
  ServedDevice& device = serve();
  using namespace std::string_view_literals;
  for (const std::string_view text :
       {"{}"sv, "{"sv, R"({"capabilities":{"max_msg_fds":8}})"sv, ""sv, "\x01"sv, "\0"sv, "{}\0{\0\0"sv}) {
    SCOPED_TRACE(text);
    RawPeer peer(device.socket());
    peer.post(kVersion, Fields().u16(0).u16(0).text(text).take());
    expect_in_step_or_closed(peer);
  }
}

TEST_F(VersionTest, huge_version_data_is_refused_or_ends_the_connection) {
  ServedDevice& device = serve();
  for (const std::size_t size : {64U << 10, (64U << 10) + 1, 1U << 20, 8U << 20}) {
    SCOPED_TRACE(testing::Message() << size << " bytes");
    RawPeer peer(device.socket());
    peer.post(kVersion, version(with("x", "\"" + std::string(size, 'x') + "\"")));
    expect_in_step_or_closed(peer);
  }
}

TEST_F(VersionTest, version_shorter_than_its_structure_is_refused_or_ends_the_connection) {
  ServedDevice& device = serve();
  for (std::size_t size = 0; size < 4; ++size) {
    RawPeer peer(device.socket());
    peer.post(kVersion, std::span<const std::byte>(version("{}")).first(size));
    const std::optional<Message> reply = peer.receive_reply();
    EXPECT_TRUE(!reply || reply->failed()) << size << " bytes";
  }
}

TEST_F(VersionTest, a_second_version_is_refused_or_ends_the_connection) {
  ServedDevice& device = serve();
  for (const Bytes& second : {version(RawPeer::kCapabilities), version("{", 3, 7), Bytes()}) {
    RawPeer peer = connect(device);
    peer.post(kVersion, second);
    expect_in_step_or_closed(peer);
  }
}

TEST_F(VersionTest, no_command_is_carried_out_before_version) {
  ServedDevice& device = serve();
  for (const std::uint16_t command : std::vector<std::uint16_t>{kDmaMap, kGetInfo, kRegionWrite, kReset, kFeature}) {
    SCOPED_TRACE(testing::Message() << "command " << command);
    RawPeer peer(device.socket());
    peer.post(command, command == kDmaMap ? dma_map() : get_info());
    const std::optional<Message> reply = peer.receive_reply();
    EXPECT_TRUE(!reply || reply->failed());
    EXPECT_EQ(device.endpoint().dma().map_count(), 0U);
  }
}

TEST_F(VersionTest, a_client_that_takes_no_data_at_all_is_served_without_data) {
  ServedDevice& device = serve();
  for (const std::string_view limit : {"0", "1", "7"}) {
    SCOPED_TRACE(testing::Message() << "max_data_xfer_size " << limit);
    RawPeer peer(device.socket());
    const std::uint16_t id = peer.post(kVersion, version(with("max_data_xfer_size", limit)));
    const std::optional<Message> reply = peer.receive_reply();
    if (!reply || reply->failed()) continue;  // "clean close" is an answer to a client that cannot work
    EXPECT_EQ(reply->header.id, id);
    // The device's DMA by messages must end: with errors, or in pieces that the client can take.
    expect_accepted(peer, kDmaMap, dma_map());
    const std::size_t most = static_cast<std::size_t>(std::stoul(std::string(limit)));
    peer.on_command = [&peer, most](const Message& command) {
      const auto count = field<std::uint64_t>(command.body, 8);
      EXPECT_LE(count, most) << "the peer's limit was not kept";
      EXPECT_EQ(command.header.command, kDmaRead);
      peer.reply(command, joined(command.body, Bytes(count)));
    };
    const std::uint32_t status = run_dma(peer, 0x10000, 32, kCopyIn);
    EXPECT_EQ(status == 0, most > 0) << "errno " << status;
    expect_in_step(peer);
  }
}

TEST_F(VersionTest, a_client_that_takes_no_descriptors_is_sent_none) {
  ServedDevice& device = serve();
  RawPeer peer(device.socket());
  const Message reply = peer.request(kVersion, version(with("max_msg_fds", "0")));
  if (reply.failed()) return;
  const Message region = peer.request(kGetRegionInfo, get_region_info(kMemory));
  EXPECT_TRUE(region.fds.empty());
  const Message io = peer.request(kGetRegionIoFds, get_region_io_fds(kRegisters));
  EXPECT_TRUE(io.fds.empty());
  expect_in_step(peer);
}

}  // namespace
}  // namespace gangway::hostile
