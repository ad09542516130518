// WIR-GONE: a client that vanishes at any byte of a session leaves the device free for the next one, RUNNING, its
// mappings, interrupts and DMA log gone.
#include <sys/eventfd.h>

#include <array>
#include <cerrno>

#include "integration/hostile/hostile_test.h"
#include "integration/hostile/memory_file.h"

namespace gangway::hostile {
namespace {

struct Step {
  Bytes bytes;
  RawPeer::Descriptors fds;
};

constexpr std::size_t kSmallMemory = 4096;

// A session that sets up all there is to set up and goes through all migration states.
class DisconnectTest : public HostileTest {
 protected:
  void SetUp() override {
    HostileTest::SetUp();
    device_ = &serve({.memory_size = kSmallMemory});
    memory_ = memory_file(0x10000);
    event_ = Fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    Bytes stream;
    {
      RawPeer peer = connect(*device_);
      go_to(peer, kStateStopCopy);
      stream = read_stream(peer);
    }
    write_script(stream);
    descriptors_ = descriptors_of_one_client();
  }
  void TearDown() override {
    memory_.reset();
    event_.reset();
    HostileTest::TearDown();
  }

  void add(std::uint16_t command, std::span<const std::byte> body, RawPeer::Descriptors fds = {}) {
    script_.push_back({message(static_cast<std::uint16_t>(script_.size()), command, body), std::move(fds)});
  }

  void write_script(std::span<const std::byte> stream) {
    const std::array ranges{LoggedRange{.iova = 0, .length = 0x10000}};
    add(kVersion, version("{}"));
    add(kDmaMap, dma_map({.address = 0, .size = 0x10000}), {memory_.get()});
    add(kDmaMap, dma_map({.address = 0x20000, .size = 0x10000}));
    add(kSetIrqs, set_irqs({.count = 4}), RawPeer::Descriptors(4, event_.get()));
    add(kFeature, logging_start(4096, ranges));
    add(kRegionWrite, region_write(kRegisters, kScratch, pattern(8)));
    add(kRegionWrite, region_write(kRegisters, kDmaLength, Fields().u32(64).take()));
    add(kRegionWrite, region_write(kRegisters, kDmaStart, Fields().u32(kCopyOut | kOnThread).take()));
    add(kRegionWrite, region_write(kRegisters, kTrigger, Fields().u32(1).take()));
    add(kFeature, set_state(kStatePreCopy));
    add(kMigDataRead, mig_data_read(100));
    add(kFeature, set_state(kStatePreCopyP2p));
    add(kMigDataRead, mig_data_read(100));
    second_copy_ = script_.size();
    add(kRegionWrite, region_write(kRegisters, kDmaStart, Fields().u32(kCopyOut).take()));  // waits for RUNNING
    add(kFeature, set_state(kStateStopCopy));
    add(kMigDataRead, mig_data_read(100));
    add(kFeature, set_state(kStateStop));
    add(kFeature, logging_report(0, 0x10000, 4096));
    add(kFeature, set_state(kStateResuming));
    add(kMigDataWrite, mig_data_write(stream));
    add(kFeature, set_state(kStateStop));
    add(kFeature, set_state(kStateRunningP2p));
    add(kFeature, set_state(kStateRunning));
    add(kFeature, set_state(kStateResuming));
    add(kMigDataWrite, mig_data_write(stream.first(40)));
    add(kDmaUnmap, dma_unmap({.address = 0x20000, .size = 0x10000}));
    add(kReset, {});
  }

  // Every byte, but of a long message's inside only some.
  template <class F>
  void at_every_byte(F&& vanish) {
    for (std::size_t step = 0; step < script_.size(); ++step) {
      const std::size_t size = script_[step].bytes.size();
      for (std::size_t bytes = 0; bytes < size; bytes += bytes < 64 || bytes + 16 > size ? 1 : 97) {
        SCOPED_TRACE(testing::Message() << "gone after " << bytes << " bytes of message " << step);
        vanish(step, bytes);
        if (HasFailure()) return;
      }
    }
  }

  void send_up_to(RawPeer& peer, std::size_t step, std::size_t bytes) const {
    for (std::size_t i = 0; i < step; ++i) peer.send(script_[i].bytes, script_[i].fds);
    const Step& last = script_[step];
    peer.send(std::span(last.bytes).first(bytes), last.fds);
  }

  [[nodiscard]] std::size_t descriptors_of_one_client() const {
    const RawPeer peer = connect(*device_);
    return open_descriptors();
  }

  void expect_free() {
    expect_like_new(*device_);
    EXPECT_EQ(descriptors_of_one_client(), descriptors_) << "WIR-FDS";
  }

  ServedDevice* device_ = nullptr;
  Fd memory_;
  Fd event_;
  std::vector<Step> script_;
  std::size_t second_copy_ = 0;  // its place in the script
  std::size_t descriptors_ = 0;
};

TEST_F(DisconnectTest, the_session_works_from_end_to_end) {
  // Otherwise the tests below would prove nothing.
  RawPeer peer(device_->socket());
  for (const Step& step : script_) {
    ASSERT_TRUE(peer.send(step.bytes, step.fds));
    const std::optional<Message> reply = peer.receive_reply();
    ASSERT_TRUE(reply) << "closed";
    // The device's thread may not have come to the first copy before P2P; then that one still waits for RUNNING.
    if (reply->header.id == second_copy_ && reply->error() == EBUSY) continue;
    EXPECT_EQ(reply->error(), 0) << "message " << reply->header.id;
  }
}

TEST_F(DisconnectTest, a_client_may_vanish_at_every_byte_with_all_before_it_answered) {
  at_every_byte([this](std::size_t step, std::size_t bytes) {
    {
      RawPeer peer(device_->socket());
      send_up_to(peer, step, bytes);
      for (std::size_t i = 0; i < step; ++i) ASSERT_TRUE(peer.receive_reply()) << "closed";
    }
    expect_free();
  });
}

TEST_F(DisconnectTest, a_client_may_vanish_at_every_byte_without_waiting_for_an_answer) {
  at_every_byte([this](std::size_t step, std::size_t bytes) {
    {
      RawPeer peer(device_->socket());
      send_up_to(peer, step, bytes);
    }
    expect_free();
  });
}

TEST_F(DisconnectTest, a_client_may_stop_sending_at_every_byte_and_still_gets_its_answers) {
  at_every_byte([this](std::size_t step, std::size_t bytes) {
    {
      RawPeer peer(device_->socket());
      send_up_to(peer, step, bytes);
      peer.finish_sending();
      for (std::size_t i = 0; i < step; ++i) ASSERT_TRUE(peer.receive_reply()) << "closed";
      expect_closed(peer);
    }
    expect_free();
  });
}

TEST_F(DisconnectTest, clients_that_connect_and_say_nothing_are_done_with) {
  for (int i = 0; i < 100; ++i) RawPeer peer(device_->socket());
  expect_free();
}

}  // namespace
}  // namespace gangway::hostile
