// MIG_DATA_READ and MIG_DATA_WRITE with wrong sizes, in every state (DAT-DIRECTION, DAT-VALIDATE, WIR-REPLY), and
// streams that are not what was saved.
#include <algorithm>
#include <array>
#include <cerrno>

#include "integration/hostile/hostile_test.h"

namespace gangway::hostile {
namespace {

using MigrationDataTest = HostileTest;

constexpr std::array kStates{kStateStop,       kStateRunning, kStateStopCopy,  kStateResuming,
                             kStateRunningP2p, kStatePreCopy, kStatePreCopyP2p};

bool is_saving(std::uint32_t state) {
  return state == kStateStopCopy || state == kStatePreCopy || state == kStatePreCopyP2p;
}

constexpr std::uint32_t kSmallMemory = 4096;

TEST_F(MigrationDataTest, reads_of_any_size_in_any_state_stay_in_step_and_in_state) {
  ServedDevice& device = serve({.memory_size = kSmallMemory});
  for (const std::uint32_t state : kStates) {
    RawPeer peer = connect(device);
    go_to(peer, state);
    for (const std::uint32_t size : {0U, 1U, 4096U, 1U << 20, (1U << 20) + 1, 1U << 31, kMax32 - 8, kMax32}) {
      for (const std::uint32_t argsz : {0U, 7U, 8U, 9U, size + 7, size + 8, size, kMax32}) {
        SCOPED_TRACE(testing::Message() << "state " << state << ", size " << size << ", argsz " << argsz);
        const Message reply = peer.request(kMigDataRead, mig_data_read(size, argsz));
        if (!is_saving(state)) {
          EXPECT_EQ(reply.error(), EINVAL) << "DAT-DIRECTION";
        } else if (!reply.failed()) {
          EXPECT_LE(reply.body.size(), argsz) << "WIR-REPLY";
          EXPECT_EQ(field<std::uint32_t>(reply.body, 4), reply.body.size() - 8);
          EXPECT_EQ(field<std::uint32_t>(reply.body, 0), reply.body.size());
        }
      }
    }
    EXPECT_EQ(state_of(peer), state);
    expect_in_step(peer);
  }
}

TEST_F(MigrationDataTest, a_read_larger_than_a_transfer_is_refused_and_takes_nothing_from_the_stream) {
  ServedDevice& device = serve({.memory_size = kSmallMemory});
  RawPeer peer = connect(device);
  go_to(peer, kStateStopCopy);
  const Bytes stream = read_stream(peer);
  go_to(peer, kStateStop);
  go_to(peer, kStateStopCopy);
  for (const std::uint32_t size : {(1U << 20) + 1, 1U << 31, kMax32}) {
    EXPECT_TRUE(peer.request(kMigDataRead, mig_data_read(size, kMax32)).failed());
  }
  EXPECT_EQ(read_stream(peer, 1000), stream) << "DAT-STREAM";
}

TEST_F(MigrationDataTest, writes_of_wrong_size_in_any_state_stay_in_step_and_in_state) {
  ServedDevice& device = serve({.memory_size = kSmallMemory});
  const Bytes data = pattern(64);
  for (const std::uint32_t state : kStates) {
    RawPeer peer = connect(device);
    go_to(peer, state);
    for (const std::uint32_t size : {0U, 1U, 63U, 65U, 4096U, 1U << 20, (1U << 20) + 1, 1U << 31, kMax32 - 7, kMax32}) {
      for (const std::uint32_t argsz : {0U, 8U, 72U, size + 8, kMax32}) {
        SCOPED_TRACE(testing::Message() << "state " << state << ", size " << size << ", argsz " << argsz);
        const Message reply = peer.request(kMigDataWrite, mig_data_write(size, argsz, data));
        if (state != kStateResuming) {
          EXPECT_EQ(reply.error(), EINVAL) << "DAT-DIRECTION";
        }
        if (size > data.size()) {
          EXPECT_TRUE(reply.failed()) << "data that was not sent";
        }
        EXPECT_TRUE(reply.body.empty()) << "WIR-SHAPE";
      }
    }
    EXPECT_EQ(state_of(peer), state);
    expect_in_step(peer);
  }
}

class StreamTest : public HostileTest {
 protected:
  void SetUp() override {
    HostileTest::SetUp();
    device_ = &serve({.memory_size = kSmallMemory});
    peer_.emplace(connect(*device_));
    expect_accepted(*peer_, kRegionWrite, region_write(kMemory, 0, pattern(kSmallMemory)));
    write_register<std::uint64_t>(*peer_, kScratch, 0xabcdef);
    go_to(*peer_, kStateStopCopy);
    stream_ = read_stream(*peer_);
    go_to(*peer_, kStateStop);
  }
  void TearDown() override {
    peer_.reset();
    HostileTest::TearDown();
  }

  // DAT-VALIDATE: by a write or at the latest by RESUMING to STOP.
  void expect_refused_stream(std::span<const std::byte> stream) {
    go_to(*peer_, kStateResuming);
    peer_->request(kMigDataWrite, mig_data_write(stream));
    EXPECT_TRUE(peer_->request(kFeature, set_state(kStateStop)).failed());
    expect_accepted(*peer_, kReset, {});
    EXPECT_EQ(state_of(*peer_), kStateRunning) << "RST-ABORTS";
  }

  void expect_accepted_stream(std::size_t piece) {
    go_to(*peer_, kStateResuming);
    std::span<const std::byte> rest = stream_;
    while (!rest.empty()) {
      const std::span<const std::byte> now = rest.first(std::min(piece, rest.size()));
      ASSERT_FALSE(peer_->request(kMigDataWrite, mig_data_write(now)).failed());
      rest = rest.subspan(now.size());
    }
    go_to(*peer_, kStateRunning);
    EXPECT_EQ(read_register(*peer_, kScratch), 0xabcdefU);
  }

  ServedDevice* device_ = nullptr;
  std::optional<RawPeer> peer_;
  Bytes stream_;
};

TEST_F(StreamTest, the_stream_itself_is_taken_in_pieces_of_any_size) {
  for (const std::size_t piece : {1U, 7U, 4096U, 1U << 20}) {
    SCOPED_TRACE(testing::Message() << piece << " bytes at a time");
    expect_accepted_stream(piece);
  }
}

TEST_F(StreamTest, a_stream_cut_anywhere_is_refused) {
  for (std::size_t size = 0; size < stream_.size(); size += size < 256 || size + 64 > stream_.size() ? 1 : 61) {
    SCOPED_TRACE(testing::Message() << size << " of " << stream_.size() << " bytes");
    expect_refused_stream(std::span(stream_).first(size));
  }
  expect_accepted_stream(4096);
}

TEST_F(StreamTest, a_stream_with_any_byte_changed_is_refused) {
  for (std::size_t at = 0; at < stream_.size(); at += at < 256 || at + 64 > stream_.size() ? 1 : 61) {
    SCOPED_TRACE(testing::Message() << "byte " << at << " of " << stream_.size());
    Bytes changed = stream_;
    changed[at] ^= std::byte{0x10};
    expect_refused_stream(changed);
  }
  expect_accepted_stream(4096);
}

TEST_F(StreamTest, a_stream_with_more_behind_its_end_is_refused) {
  expect_refused_stream(joined(stream_, pattern(1)));
  expect_refused_stream(joined(stream_, stream_));
  expect_refused_stream(pattern(100'000));
  expect_accepted_stream(4096);
}

TEST_F(StreamTest, an_endless_stream_is_refused_before_it_fills_the_memory) {
  go_to(*peer_, kStateResuming);
  const Bytes noise = pattern(1U << 20);
  const std::size_t head = stream_.size() - 1;
  peer_->request(kMigDataWrite, mig_data_write(std::span(stream_).first(head)));
  bool refused = false;
  for (int megabytes = 0; megabytes < 64 && !refused; ++megabytes) {
    refused = peer_->request(kMigDataWrite, mig_data_write(noise)).failed();
  }
  EXPECT_TRUE(refused) << "64 MiB were taken for a device of 4 KiB";
  expect_accepted(*peer_, kReset, {});
  go_to(*peer_, kStateResuming);
  refused = false;
  for (int megabytes = 0; megabytes < 64 && !refused; ++megabytes) {
    refused = peer_->request(kMigDataWrite, mig_data_write(noise)).failed();
  }
  EXPECT_TRUE(refused) << "64 MiB of noise were taken";
}

}  // namespace
}  // namespace gangway::hostile
