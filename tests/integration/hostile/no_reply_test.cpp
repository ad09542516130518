// WIR-NOREPLY: a command that wants no reply gets none, whether it succeeds or fails.
#include <algorithm>

#include "integration/hostile/command_cases.h"
#include "integration/hostile/hostile_test.h"

namespace gangway::hostile {
namespace {

using NoReplyTest = HostileTest;

// The first thing that comes back is the answer to what is asked next.
void expect_silence(RawPeer& peer, std::uint16_t command, std::span<const std::byte> body) {
  peer.post(command, body, {}, kNoReply);
  const Message next = peer.request(kGetInfo, get_info());
  EXPECT_EQ(next.error(), 0);
}

std::vector<CommandCase> everything() {
  std::vector<CommandCase> tests = all_commands();
  std::ranges::copy(all_features(), std::back_inserter(tests));
  tests.push_back({"MIG_DATA_READ", kMigDataRead, mig_data_read(64), 8});
  tests.push_back({"MIG_DATA_WRITE", kMigDataWrite, mig_data_write(pattern(64)), 72});
  return tests;
}

TEST_F(NoReplyTest, a_command_that_succeeds_is_not_answered) {
  ServedDevice& device = serve();
  RawPeer peer = connect(device);
  for (const CommandCase& test : everything()) {
    SCOPED_TRACE(test.name);
    expect_silence(peer, test.command, test.body);
  }
}

TEST_F(NoReplyTest, a_command_that_fails_is_not_answered) {
  ServedDevice& device = serve();
  RawPeer peer = connect(device);
  for (const CommandCase& test : everything()) {
    SCOPED_TRACE(test.name);
    expect_silence(peer, test.command, std::span(test.body).first(test.body.size() / 2));
    expect_silence(peer, test.command, {});
  }
  for (const std::uint16_t command : std::vector<std::uint16_t>{0, 11, 12, 14, 19, 0xffff}) {
    SCOPED_TRACE(testing::Message() << "command " << command);
    expect_silence(peer, command, pattern(16));
  }
  expect_silence(peer, kDmaUnmap, dma_unmap({.address = 0x99000}));
  expect_silence(peer, kFeature, set_state(99));
  expect_silence(peer, kRegionWrite, region_write(99, 0, pattern(4)));
}

TEST_F(NoReplyTest, migration_data_without_replies_still_moves) {
  ServedDevice& device = serve({.memory_size = 4096});
  RawPeer peer = connect(device);
  write_register<std::uint64_t>(peer, kScratch, 0x1234);
  go_to(peer, kStateStopCopy);
  const Bytes stream = read_stream(peer);
  peer.post(kFeature, set_state(kStateStop), {}, kNoReply);
  peer.post(kFeature, set_state(kStateResuming), {}, kNoReply);
  peer.post(kMigDataWrite, mig_data_write(stream), {}, kNoReply);
  peer.post(kFeature, set_state(kStateRunning), {}, kNoReply);
  EXPECT_EQ(state_of(peer), kStateRunning);
  EXPECT_EQ(read_register(peer, kScratch), 0x1234U);
}

TEST_F(NoReplyTest, an_older_command_without_a_reply_is_done_when_a_younger_one_is_answered) {
  ServedDevice& device = serve();
  RawPeer peer = connect(device);
  for (std::uint64_t value = 1; value <= 100; ++value) {
    const Bytes data = Fields().u64(value).take();
    peer.post(kRegionWrite, region_write(kRegisters, kScratch, data), {}, kNoReply);
    const Message read = peer.request(kRegionRead, region_read(kRegisters, kScratch, 8));
    ASSERT_EQ(field<std::uint64_t>(read.body, 16), value);
  }
}

TEST_F(NoReplyTest, version_without_a_reply_is_not_answered) {
  ServedDevice& device = serve();
  RawPeer peer(device.socket());
  peer.post(kVersion, version(RawPeer::kCapabilities), {}, kNoReply);
  const std::uint16_t id = peer.post(kGetInfo, get_info());
  const std::optional<Message> next = peer.receive_reply();
  EXPECT_TRUE(!next || next->header.id == id) << "VERSION was answered";
}

}  // namespace
}  // namespace gangway::hostile
