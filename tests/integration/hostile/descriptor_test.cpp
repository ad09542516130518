// WIR-FDS: descriptors on any message are taken if expected, closed if not, never leaked; truncated control data closes
// the connection.
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>

#include "integration/hostile/command_cases.h"
#include "integration/hostile/hostile_test.h"
#include "integration/hostile/memory_file.h"

namespace gangway::hostile {
namespace {

using DescriptorTest = HostileTest;

Fd new_eventfd() { return Fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)); }

TEST_F(DescriptorTest, two_hundred_descriptors_on_one_message_leave_none_behind) {
  ServedDevice& device = serve();
  const Fd event = new_eventfd();
  const Fd file = memory_file(0x1000);
  for (const std::size_t count : {9U, 16U, 17U, 64U, 200U, 253U}) {
    SCOPED_TRACE(testing::Message() << count << " descriptors");
    for (const std::uint16_t command : std::array{kGetInfo, kDmaMap, kSetIrqs, std::uint16_t{99}}) {
      RawPeer peer = connect(device);
      const Bytes body = command == kDmaMap    ? dma_map()
                         : command == kSetIrqs ? set_irqs({.count = static_cast<std::uint32_t>(count)})
                                               : get_info();
      const int fd = command == kDmaMap ? file.get() : event.get();
      peer.post(command, body, RawPeer::Descriptors(count, fd));
      expect_in_step_or_closed(peer);
    }
    expect_like_new(device);
  }
  RawPeer version_peer(device.socket());
  version_peer.post(kVersion, version("{}"), RawPeer::Descriptors(200, event.get()));
  expect_in_step_or_closed(version_peer);
}

TEST_F(DescriptorTest, descriptors_on_a_message_that_expects_none_are_closed_before_the_next) {
  ServedDevice& device = serve();
  const Fd event = new_eventfd();
  RawPeer peer = connect(device);
  const std::size_t before = open_descriptors();
  for (const CommandCase& test : all_commands()) {
    if (test.command == kDmaMap || test.command == kDmaUnmap || test.command == kSetIrqs) continue;
    for (const std::size_t count : {1U, 8U}) {
      SCOPED_TRACE(testing::Message() << test.name << " with " << count << " descriptors");
      peer.post(test.command, test.body, RawPeer::Descriptors(count, event.get()));
      expect_in_step(peer);
      EXPECT_EQ(open_descriptors(), before);
    }
  }
  for (const std::uint32_t flags : {kNoReply, kTypeReply}) {  // the second ends the connection, so it comes last
    peer.post(kGetInfo, get_info(), {event.get()}, flags);
    expect_in_step_or_closed(peer);
  }
}

TEST_F(DescriptorTest, descriptors_may_come_with_any_segment_of_their_message) {
  ServedDevice& device = serve();
  RawPeer peer = connect(device);
  const Fd file = memory_file(0x1000);
  const Bytes map = message(1, kDmaMap, dma_map());
  for (std::size_t at = 1; at < map.size(); ++at) {
    SCOPED_TRACE(testing::Message() << "second segment from byte " << at);
    peer.send(std::span(map).first(at));
    peer.await_taken();
    peer.send(std::span(map).subspan(at), {file.get()});
    const std::optional<Message> reply = peer.receive_reply();
    ASSERT_TRUE(reply) << "closed";
    ASSERT_EQ(reply->error(), 0);
    const Bytes mark = pattern(8, static_cast<std::uint8_t>(at));
    expect_accepted(peer, kRegionWrite, region_write(kMemory, 0, mark));
    ASSERT_EQ(run_dma(peer, 0x10000, 8, kCopyOut), 0U);
    EXPECT_EQ(read_file(file, 0, 8), mark) << "the map's memory is not the descriptor's";
    expect_accepted(peer, kDmaUnmap, dma_unmap());
  }
}

TEST_F(DescriptorTest, descriptors_on_every_segment_of_a_message_leave_none_behind) {
  ServedDevice& device = serve();
  const Fd file = memory_file(0x1000);
  const Fd event = new_eventfd();
  for (const bool irqs : {false, true}) {
    RawPeer peer = connect(device);
    const Bytes bytes = irqs ? message(1, kSetIrqs, set_irqs({.count = 4})) : message(1, kDmaMap, dma_map());
    for (std::size_t at = 0; at < bytes.size(); ++at) {
      if (!peer.send(std::span(bytes).subspan(at, 1), {irqs ? event.get() : file.get()})) break;
      peer.await_taken();
    }
    expect_in_step_or_closed(peer);
  }
}

TEST_F(DescriptorTest, thousands_of_descriptors_before_a_message_is_whole_do_not_pile_up) {
  ServedDevice& device = serve();
  const Fd event = new_eventfd();
  RawPeer peer = connect(device);
  const std::size_t before = open_descriptors();
  const Bytes bytes = message(1, kRegionWrite, region_write(kMemory, 0, pattern(4096)));
  std::size_t most = 0;
  for (std::size_t at = 0; at < 100; ++at) {
    if (!peer.send(std::span(bytes).subspan(at, 1), RawPeer::Descriptors(100, event.get()))) break;
    peer.await_taken();
    most = std::max(most, open_descriptors() - std::min(before, open_descriptors()));
  }
  EXPECT_LT(most, 2000U) << "a peer makes the server keep any number of descriptors";
  peer.send(std::span(bytes).subspan(100));
  expect_in_step_or_closed(peer);
}

TEST_F(DescriptorTest, descriptors_of_a_message_that_never_ends_are_closed) {
  ServedDevice& device = serve();
  const Fd file = memory_file(0x1000);
  const Bytes bytes = message(1, kDmaMap, dma_map());
  for (std::size_t at = 1; at < bytes.size(); ++at) {
    RawPeer peer = connect(device);
    peer.send(std::span(bytes).first(at), {file.get(), file.get()});
  }
}

TEST_F(DescriptorTest, descriptors_that_the_process_has_no_room_for_end_the_connection) {
  ServedDevice& device = serve();
  const Fd event = new_eventfd();
  RawPeer peer = connect(device);
  rlimit normal{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &normal), 0);
  // Room for three more: the kernel delivers those and says that control data was cut.
  const Fd next(::eventfd(0, EFD_CLOEXEC));
  const rlimit tight{.rlim_cur = static_cast<rlim_t>(next.get()) + 3, .rlim_max = normal.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &tight), 0);
  peer.post(kSetIrqs, set_irqs({.count = 4}), RawPeer::Descriptors(8, event.get()));
  peer.await_taken();
  expect_closed(peer);
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &normal), 0);
}

TEST_F(DescriptorTest, the_connection_itself_may_be_sent_over_itself) {
  ServedDevice& device = serve();
  for (const std::uint16_t command : std::array{kGetInfo, kDmaMap, kSetIrqs}) {
    RawPeer peer = connect(device);
    peer.post(command,
              command == kDmaMap    ? dma_map()
              : command == kSetIrqs ? set_irqs({})
                                    : get_info(),
              {peer.socket()});
    expect_in_step_or_closed(peer);
    // A server that kept it would never see this client go.
    write_register<std::uint32_t>(peer, kTrigger, 0);
    expect_accepted(peer, kReset, {});
  }
}

}  // namespace
}  // namespace gangway::hostile
