// Acts out of records: requests find their answers, and mean the same whichever transport carried them.
#include <cstdlib>
#include <filesystem>

#include <unistd.h>

#include <gtest/gtest.h>

#include "base/bytes.h"
#include "record/act_reader.h"
#include "record/fields.h"
#include "unit/record/kernel_calls.h"

namespace gangway::record {
namespace {

namespace wire = vfio_user;
using namespace std::chrono_literals;
using Direction = MessageRecord::Direction;
using test::body;
using test::KernelCalls;

MessageRecord request(std::uint16_t id, wire::Command command, std::vector<std::byte> structure, Time time = 0ns) {
  return {.time = time,
          .connection = 1,
          .header = {.id = id, .command = static_cast<std::uint16_t>(command)},
          .structure = std::move(structure)};
}

MessageRecord reply(const MessageRecord& to, std::vector<std::byte> structure, Time time = 0ns, int error = 0) {
  MessageRecord message = to;
  message.time = time;
  message.direction = to.direction == Direction::ToServer ? Direction::ToClient : Direction::ToServer;
  message.header.flags = wire::kTypeReply | (error != 0 ? wire::kError : 0);
  message.header.error = static_cast<std::uint32_t>(error);
  message.structure = std::move(structure);
  message.payload = {};
  return message;
}

std::vector<Act> acts_of(const std::vector<Record>& records) {
  std::string name = (std::filesystem::temp_directory_path() / "acts-XXXXXX").string();
  if (::mkdtemp(name.data()) == nullptr) std::abort();
  const std::filesystem::path folder = name;
  {
    auto writer = TraceWriter::create(folder / "trace", {});
    for (const Record& record : records) writer->write(record);
  }
  auto reader = ActReader::open(folder / "trace");
  std::filesystem::remove_all(folder);
  auto acts = reader->rest();
  EXPECT_TRUE(acts) << acts.error().message;
  return acts ? std::move(*acts) : std::vector<Act>();
}

std::string words(const Act& act) {
  std::string all(name(act.doing));
  for (const Field& field : fields(act)) all += " " + std::string(field.name) + "=" + text(field);
  return all;
}

TEST(Acts, requests_find_their_answers_whatever_comes_between) {
  const MessageRecord first = request(1, wire::Command::RegionRead, body(wire::RegionAccess{0x10, 2, 4}), 1us);
  const MessageRecord second = request(2, wire::Command::DeviceReset, {}, 2us);
  const auto acts = acts_of({first, second, reply(second, {}, 5us, EBUSY),
                             reply(first, body(wire::RegionAccess{0x10, 2, 4}, std::uint32_t{0x01020304}), 9us)});
  ASSERT_EQ(acts.size(), 2U);
  EXPECT_EQ(words(acts[0]), "read_region region=2 offset=0x10 size=4 data=04030201");
  EXPECT_EQ(acts[0].took, Time(8us));
  EXPECT_EQ(words(acts[1]), "reset error=EBUSY");
  EXPECT_FALSE(acts[1].succeeded());
}

TEST(Acts, the_same_number_in_both_directions_and_on_both_sockets_is_not_confused) {
  const MessageRecord ours = request(7, wire::Command::DmaRead, body(wire::DmaAccessMessage{0x1000, 64}));
  MessageRecord theirs = ours;
  theirs.direction = Direction::ToClient;
  MessageRecord twin = theirs;
  twin.path = MessageRecord::Path::Twin;
  MessageRecord answered = reply(twin, body(wire::DmaAccessMessage{0x1000, 64}));
  answered.payload = {.size = 64, .hash = 5};
  const auto acts = acts_of({ours, theirs, twin, answered});
  ASSERT_EQ(acts.size(), 3U);
  EXPECT_FALSE(acts[0].answered);
  EXPECT_FALSE(acts[1].answered);
  EXPECT_TRUE(acts[2].answered);
  EXPECT_TRUE(acts[2].by_device);
  EXPECT_EQ(words(acts[2]), "device_reads iova=0x1000 size=64 memory=64 bytes 0000000000000005");
}

TEST(Acts, what_wants_no_reply_and_what_got_none_are_told_apart) {
  MessageRecord posted = request(1, wire::Command::RegionWrite, body(wire::RegionAccess{0, 0, 1}, std::uint8_t{9}));
  posted.header.flags |= wire::kNoReply;
  const MessageRecord lost = request(2, wire::Command::DeviceReset, {});
  const auto acts = acts_of(
      {posted, lost, ConnectionRecord{.connection = 1, .event = ConnectionRecord::Event::Closed, .text = "gone"}});
  ASSERT_EQ(acts.size(), 3U);
  EXPECT_EQ(words(acts[0]), "write_region region=0 offset=0x0 size=1 data=09 no_reply=yes");
  EXPECT_EQ(words(acts[1]), "reset unanswered=yes");
  EXPECT_EQ(words(acts[2]), "close what=gone");
}

TEST(Acts, a_feature_is_the_act_that_it_stands_for) {
  const auto set_state = body(wire::FeatureHeader{16, 2 | wire::kFeatureSet}, wire::FeatureDeviceState{.state = 6});
  const auto probe = body(wire::FeatureHeader{8, 8 | wire::kFeatureProbe | wire::kFeatureGet});
  const auto start =
      body(wire::FeatureHeader{56, 6 | wire::kFeatureSet}, wire::FeatureLoggingControl{.page_size = 4096, .ranges = 2},
           wire::LoggingRange{0x1000, 0x2000}, wire::LoggingRange{0x8000, 0x1000});
  const auto a = request(1, wire::Command::DeviceFeature, set_state);
  const auto b = request(2, wire::Command::DeviceFeature, probe);
  const auto c = request(3, wire::Command::DeviceFeature, start);
  const auto acts = acts_of({a, reply(a, set_state), b, reply(b, probe), c, reply(c, start)});
  ASSERT_EQ(acts.size(), 3U);
  EXPECT_EQ(words(acts[0]), "set_state state=PRE_COPY");
  EXPECT_EQ(words(acts[1]), "probe_feature feature=DMA_LOGGING_REPORT get=yes set=no");
  EXPECT_EQ(words(acts[2]), "start_logging page_size=4096 ranges=0x1000+0x2000,0x8000+0x1000 answered_page_size=4096");
}

TEST(Acts, a_region_is_described_by_its_capabilities_and_a_chain_that_leads_back_ends) {
  wire::RegionInfo info{.argsz = 80, .flags = 0xf, .index = 2, .cap_offset = 32, .size = 0x4000};
  wire::CapType type{.type = 3, .subtype = 1};
  type.header.next = 48;
  wire::CapSparseMmap sparse{.areas = 1};
  sparse.header.next = 32;
  const auto asked = request(1, wire::Command::DeviceGetRegionInfo, body(wire::RegionInfo{.argsz = 80, .index = 2}));
  const auto acts = acts_of({asked, reply(asked, body(info, type, sparse, wire::SparseArea{0x1000, 0x1000}))});
  ASSERT_EQ(acts.size(), 1U);
  EXPECT_EQ(words(acts[0]), "get_region region=2 room=80 flags=0xf size=0x4000 type=0x3.1 mappable=0x1000+0x1000");
}

TEST(Acts, calls_of_the_kernel_are_the_same_acts) {
  using Call = CallRecord::Call;
  using Role = CallRecord::Role;
  const CallRecord region{
      .role = Role::Device,
      .call = Call::Ioctl,
      .object = 3,
      .request = 0x3b6c,
      .argument = body(wire::RegionInfo{.argsz = 32, .index = 7}),
      .answer = body(wire::RegionInfo{.argsz = 32, .flags = 3, .index = 7, .size = 0x1000, .offset = 0x7000000})};
  const CallRecord read{.role = Role::Device,
                        .call = Call::Read,
                        .object = 3,
                        .offset = 0x7000004,
                        .length = 2,
                        .result = 2,
                        .answer = body(std::uint16_t{0x0507})};
  const CallRecord state{
      .role = Role::Device,
      .call = Call::Ioctl,
      .object = 3,
      .request = 0x3b75,
      .result = -1,
      .error = EINVAL,
      .argument = body(wire::FeatureHeader{16, 2 | wire::kFeatureSet}, wire::FeatureDeviceState{.state = 3})};
  const CallRecord data{
      .role = Role::MigrationData, .call = Call::Read, .length = 4096, .result = 0, .payload = {.size = 0, .hash = 1}};
  const CallRecord map{.role = Role::Container,
                       .call = Call::Ioctl,
                       .request = 0x3b71,
                       .argument = body(std::uint32_t{32}, std::uint32_t{3}, std::uint64_t{0x7f0000000000},
                                        std::uint64_t{0x10000}, std::uint64_t{0x2000})};
  const auto acts = acts_of({region, read, state, data, map, CallRecord{.call = Call::Duplicate}});
  ASSERT_EQ(acts.size(), 5U);
  EXPECT_EQ(words(acts[0]), "get_region region=7 room=32 flags=0x3 size=0x1000");
  EXPECT_EQ(words(acts[1]), "read_region region=7 offset=0x4 size=2 data=0705");
  EXPECT_EQ(words(acts[2]), "set_state state=STOP_COPY error=EINVAL");
  EXPECT_EQ(words(acts[3]), "read_data asked=4096 data=0 bytes 0000000000000001 shared=no");
  EXPECT_EQ(words(acts[4]), "map_dma iova=0x10000 size=0x2000 flags=3 file_offset=0x0 with_memory=yes");
}

// --- whose an act is, of the kernel's opened files ---

using File = KernelCalls::File;
using Role = KernelCalls::Role;

TEST(Acts, a_device_its_group_its_container_and_its_migration_data_are_one_session) {
  const auto acts = test::kernel_migration().acts();
  ASSERT_EQ(acts.size(), 18U);
  for (const Act& act : acts) EXPECT_EQ(act.connection, 3U) << words(act);
  EXPECT_EQ(words(acts[3]), "map_dma iova=0x0 size=0x100000 flags=3 file_offset=0x0 with_memory=yes");
  EXPECT_EQ(words(acts[11]), "close_data what= current=no") << "of the session before";
  EXPECT_EQ(words(acts[13]), "close_data what= current=yes");
}

TEST(Acts, what_devices_share_is_about_each_and_told_once) {
  const File container{Role::Container, 1, 5};
  const File first{Role::Group, 2, 6, 1};
  const File second{Role::Group, 4, 7, 1};
  KernelCalls calls;
  calls.map(container, 0, 0x1000).ioctl(first, 0x3b67).ioctl({Role::Device, 3, 8, 2}, 0x3b6f);
  calls.ioctl(second, 0x3b67).ioctl({Role::Device, 5, 9, 4}, 0x3b6f).map(container, 0x1000, 0x1000);
  const auto acts = calls.acts();
  ASSERT_EQ(acts.size(), 6U);
  for (const std::size_t map : {0U, 5U}) {
    EXPECT_EQ(acts[map].connection, 3U);
    EXPECT_EQ(acts[map].also, std::vector<std::uint32_t>{5}) << "it was filled before that device was opened";
    EXPECT_TRUE(acts[map].is_about(3) && acts[map].is_about(5) && !acts[map].is_about(1));
  }
  for (const std::size_t own : {1U, 2U}) EXPECT_TRUE(acts[own].connection == 3 && acts[own].also.empty());
  for (const std::size_t own : {3U, 4U}) EXPECT_TRUE(acts[own].connection == 5 && acts[own].also.empty());
}

TEST(Acts, a_map_of_an_ioas_is_about_the_devices_that_it_translates_for) {
  const File iommufd{Role::Iommufd, 1, 5};
  const File first{Role::Device, 2, 6, 1};
  const File second{Role::Device, 3, 7, 1};
  const auto map = [](std::uint32_t ioas) {
    return body(std::uint32_t{40}, std::uint32_t{7}, ioas, std::uint32_t{0}, std::uint64_t{0x7f0000000000},
                std::uint64_t{0x1000}, std::uint64_t{0x2000});
  };
  const auto attach = [](std::uint32_t page_table) { return body(std::uint32_t{12}, std::uint32_t{0}, page_table); };
  KernelCalls calls;
  calls.ioctl(iommufd, 0x3b85, map(10)).ioctl(iommufd, 0x3b85, map(20)).ioctl(iommufd, 0x3b85, map(30));
  calls.ioctl(first, 0x3b77, attach(10));
  // The second one by a page table that was made for it.
  calls.ioctl(iommufd, 0x3b89, body(std::uint32_t{24}, std::uint32_t{0}, std::uint32_t{1}, std::uint32_t{20}),
              body(std::uint32_t{24}, std::uint32_t{0}, std::uint32_t{1}, std::uint32_t{20}, std::uint32_t{21}));
  calls.ioctl(second, 0x3b77, attach(21));
  calls.ioctl(iommufd, 0x3b86, body(std::uint32_t{24}, std::uint32_t{20}, std::uint64_t{0x1000}, std::uint64_t{1}));
  const auto acts = calls.acts();
  ASSERT_EQ(acts.size(), 7U);
  EXPECT_TRUE(acts[0].is_about(2) && !acts[0].is_about(3));
  EXPECT_TRUE(acts[1].is_about(3) && !acts[1].is_about(2));
  EXPECT_TRUE(acts[2].is_about(2) && acts[2].is_about(3)) << "nobody knows for whom";
  EXPECT_TRUE(acts[6].is_about(3) && !acts[6].is_about(2)) << words(acts[6]);
}

TEST(Acts, files_that_lead_to_no_device_keep_to_themselves) {
  KernelCalls calls;
  calls.map({Role::Container, 1, 5}, 0, 0x1000).read({Role::MigrationData, 2, 6}, 10, 10);
  calls.ioctl({Role::Group, 3, 7, 3}, 0x3b67);
  const auto acts = calls.acts();
  ASSERT_EQ(acts.size(), 3U);
  for (std::uint32_t i = 0; i < 3; ++i) EXPECT_EQ(acts[i].connection, i + 1);
}

TEST(Acts, what_belongs_to_itself_and_what_everybody_shares_ends) {
  KernelCalls calls;
  for (std::uint32_t i = 1; i < 300; ++i) calls.ioctl({Role::Device, i, 5, i % 7}, 0x3b6f);
  for (std::uint32_t i = 1; i < 300; ++i) calls.ioctl({Role::Group, 1000 + i, 5, 1000 + i % 7}, 0x3b67);
  calls.map({Role::Container, 5, 5}, 0, 0x1000);
  const auto acts = calls.acts();
  ASSERT_EQ(acts.size(), 599U);
  EXPECT_GT(acts.back().also.size(), 30U);
  EXPECT_LT(acts.back().also.size(), 64U);
}

TEST(Acts, short_structures_read_as_far_as_they_are_there) {
  std::vector<Record> records;
  for (std::uint16_t command = 0; command < 20; ++command) {
    for (std::uint16_t size = 0; size < 64; ++size) {
      const auto asked = request(size, static_cast<wire::Command>(command), std::vector(size, std::byte{0xff}));
      records.insert(records.end(), {asked, reply(asked, asked.structure)});
    }
  }
  const auto acts = acts_of(records);
  EXPECT_EQ(acts.size(), records.size() / 2);
  for (const Act& act : acts) EXPECT_FALSE(words(act).empty());
}

}  // namespace
}  // namespace gangway::record
