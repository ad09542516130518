// DEVICE_SET_IRQS with wrong counts, descriptors and flags (WIR-FRAME, WIR-FDS), and descriptors that would hurt who
// signals them.
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "integration/hostile/hostile_test.h"
#include "integration/hostile/memory_file.h"

namespace gangway::hostile {
namespace {

using IrqTest = HostileTest;

Fd new_eventfd(std::uint32_t count = 0) { return Fd(::eventfd(count, EFD_CLOEXEC | EFD_NONBLOCK)); }

bool signalled(const Fd& event) {
  std::uint64_t count = 0;
  return ::read(event.get(), &count, sizeof(count)) == sizeof(count);
}

struct Pair {
  Fd ours;
  Fd theirs;
};

TEST_F(IrqTest, flags_that_mean_nothing_are_refused) {
  ServedDevice& device = serve();
  RawPeer peer = connect(device);
  constexpr std::uint32_t kAllData = kIrqNone | kIrqBool | kIrqEventfds;
  constexpr std::uint32_t kAllActions = kIrqMask | kIrqUnmask | kIrqTrigger;
  for (std::uint32_t flags = 0; flags < 64; ++flags) {
    const std::uint32_t data = flags & kAllData;
    const std::uint32_t action = flags & kAllActions;
    const bool one_each = data != 0 && (data & (data - 1)) == 0 && action != 0 && (action & (action - 1)) == 0;
    if (one_each) continue;
    SCOPED_TRACE(testing::Message() << "flags " << flags);
    expect_refused(peer, kSetIrqs, set_irqs({.flags = flags, .data = pattern(1)}), {EINVAL});
  }
  for (std::uint32_t bit = 6; bit < 32; ++bit) {
    SCOPED_TRACE(testing::Message() << "bit " << bit);
    expect_refused(peer, kSetIrqs, set_irqs({.flags = kIrqNone | kIrqMask | (1U << bit)}), {EINVAL});
  }
  expect_refused(peer, kSetIrqs, set_irqs({.flags = kMax32, .data = pattern(4)}), {EINVAL});
}

TEST_F(IrqTest, ranges_beyond_the_vectors_are_refused_also_when_they_overflow) {
  ServedDevice& device = serve();
  RawPeer peer = connect(device);
  struct Range {
    std::uint32_t start;
    std::uint32_t count;
  };
  constexpr std::array kRanges{Range{0, kVectors + 1}, Range{kVectors, 1},        Range{kVectors - 1, 2},
                               Range{0, kMax32},       Range{kMax32, 1},          Range{1, kMax32},
                               Range{kMax32, kMax32},  Range{1U << 31, 1U << 31}, Range{kMax32 - 3, 8}};
  const Fd event = new_eventfd();
  for (const Range& range : kRanges) {
    SCOPED_TRACE(testing::Message() << "start " << range.start << ", count " << range.count);
    for (const std::uint32_t action : {kIrqMask, kIrqUnmask, kIrqTrigger}) {
      const SetIrqs none{.flags = kIrqNone | action, .start = range.start, .count = range.count};
      expect_refused(peer, kSetIrqs, set_irqs(none), {EINVAL});
      SetIrqs bools{.flags = kIrqBool | action, .start = range.start, .count = range.count, .data = pattern(16)};
      expect_refused(peer, kSetIrqs, set_irqs(bools), {EINVAL});
      const SetIrqs events{.flags = kIrqEventfds | action, .start = range.start, .count = range.count};
      expect_refused(peer, kSetIrqs, set_irqs(events), {EINVAL}, {event.get()});
    }
  }
}

TEST_F(IrqTest, interrupts_that_do_not_exist_are_refused) {
  ServedDevice& device = serve();
  RawPeer peer = connect(device);
  const Fd event = new_eventfd();
  for (const std::uint32_t index : {1U, 5U, 6U, 255U, 1U << 31, kMax32}) {  // this device has no MSI
    SCOPED_TRACE(testing::Message() << "index " << index);
    expect_refused(peer, kSetIrqs, set_irqs({.index = index}), {EINVAL}, {event.get()});
    expect_refused(peer, kSetIrqs, set_irqs({.flags = kIrqNone | kIrqTrigger, .index = index}), {EINVAL});
  }
}

TEST_F(IrqTest, booleans_fewer_than_counted_are_refused) {
  ServedDevice& device = serve();
  RawPeer peer = connect(device);
  for (std::uint32_t count = 1; count <= kVectors; ++count) {
    for (std::size_t given = 0; given < count; ++given) {
      SCOPED_TRACE(testing::Message() << given << " booleans for " << count);
      const SetIrqs request{.flags = kIrqBool | kIrqTrigger, .count = count, .data = pattern(given)};
      expect_refused(peer, kSetIrqs, set_irqs(request), {EINVAL});
      expect_refused(peer, kSetIrqs, set_irqs(request, 20 + count), {EINVAL});
    }
  }
}

TEST_F(IrqTest, descriptors_more_or_fewer_than_counted_are_refused_and_closed) {
  ServedDevice& device = serve();
  RawPeer peer = connect(device);
  const Fd event = new_eventfd();
  for (std::uint32_t count = 0; count <= kVectors; ++count) {
    for (std::size_t given = 1; given <= 8; ++given) {
      if (given == count) continue;
      SCOPED_TRACE(testing::Message() << given << " descriptors for " << count);
      peer.post(kSetIrqs, set_irqs({.count = count}), RawPeer::Descriptors(given, event.get()));
      expect_in_step(peer);
      if (given < count) {
        expect_refused(peer, kSetIrqs, set_irqs({.count = count}), {EINVAL}, RawPeer::Descriptors(given, event.get()));
      }
    }
  }
}

TEST_F(IrqTest, descriptors_that_no_data_flag_announces_are_closed) {
  ServedDevice& device = serve();
  {
    RawPeer peer = connect(device);
    const Fd event = new_eventfd();
    for (const std::uint32_t flags : {kIrqNone | kIrqTrigger, kIrqNone | kIrqMask, kIrqBool | kIrqUnmask, 0U, kMax32}) {
      peer.post(kSetIrqs, set_irqs({.flags = flags, .data = pattern(1)}), {event.get(), event.get()});
      expect_in_step(peer);
    }
  }
  expect_no_descriptor_kept();
}

TEST_F(IrqTest, no_descriptors_at_all_disable_the_range) {
  ServedDevice& device = serve();
  RawPeer peer = connect(device);
  const Fd event = new_eventfd();
  expect_accepted(peer, kSetIrqs, set_irqs({.start = 1}), {event.get()});
  write_register<std::uint32_t>(peer, kTrigger, 1);
  EXPECT_TRUE(signalled(event));
  expect_accepted(peer, kSetIrqs, set_irqs({.start = 1}));
  write_register<std::uint32_t>(peer, kTrigger, 1);
  EXPECT_FALSE(signalled(event));
}

TEST_F(IrqTest, a_pipe_that_nobody_reads_neither_kills_nor_blocks_the_server) {
  ServedDevice& device = serve();
  RawPeer peer = connect(device);
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
  Pair pipe{Fd(ends[0]), Fd(ends[1])};
  const Message reply = peer.request(kSetIrqs, set_irqs({}), {pipe.theirs.get()});
  pipe.ours.reset();  // from here a write to it raises SIGPIPE
  write_register<std::uint32_t>(peer, kTrigger, 0);
  expect_in_step(peer);
  if (!reply.failed()) expect_accepted(peer, kSetIrqs, set_irqs({}));
}

TEST_F(IrqTest, descriptors_that_are_no_eventfd_hurt_nobody) {
  ServedDevice& device = serve();
  RawPeer peer = connect(device);
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
  const Pair pipe{Fd(ends[0]), Fd(ends[1])};
  ASSERT_EQ(::fcntl(pipe.theirs.get(), F_SETPIPE_SZ, 4096), 4096);
  const Bytes fill(4096);
  ASSERT_EQ(::write(pipe.theirs.get(), fill.data(), fill.size()), 4096);  // full: a write to it blocks
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()), 0);
  Pair sockets{Fd(ends[0]), Fd(ends[1])};
  sockets.ours.reset();
  const Fd file = memory_file(0);
  const Fd directory(::open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  const Fd read_only(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  const Fd full(::open("/dev/full", O_WRONLY | O_CLOEXEC));
  const Fd path_only(::open("/dev/null", O_PATH | O_CLOEXEC));
  for (const Fd* fd : std::vector<const Fd*>{&pipe.ours, &pipe.theirs, &sockets.theirs, &file, &directory, &read_only,
                                             &full, &path_only}) {
    SCOPED_TRACE(testing::Message() << "descriptor " << fd->get());
    for (const std::uint32_t action : {kIrqTrigger, kIrqMask, kIrqUnmask}) {
      peer.post(kSetIrqs, set_irqs({.flags = kIrqEventfds | action}), {fd->get()});
      expect_in_step(peer);
    }
    write_register<std::uint32_t>(peer, kTrigger, 0);
    expect_in_step(peer);
  }
}

TEST_F(IrqTest, an_eventfd_that_is_full_does_not_block_the_server) {
  ServedDevice& device = serve();
  RawPeer peer = connect(device);
  const Fd event(::eventfd(0, EFD_CLOEXEC));  // blocking
  const std::uint64_t most = kMax64 - 1;
  ASSERT_EQ(::write(event.get(), &most, sizeof(most)), 8);
  expect_accepted(peer, kSetIrqs, set_irqs({}), {event.get()});
  write_register<std::uint32_t>(peer, kTrigger, 0);
  expect_in_step(peer);
  for (const std::uint32_t index : {0U, 2U, 3U, 4U}) {
    for (const std::uint32_t action : {kIrqTrigger, kIrqMask, kIrqUnmask}) {
      peer.post(kSetIrqs, set_irqs({.flags = kIrqEventfds | action, .index = index}), {event.get()});
    }
    for (const std::uint32_t action : {kIrqTrigger, kIrqMask, kIrqUnmask, kIrqTrigger}) {
      peer.post(kSetIrqs, set_irqs({.flags = kIrqNone | action, .index = index}));
    }
    expect_in_step(peer);
  }
}

TEST_F(IrqTest, an_interrupt_of_a_client_that_is_gone_reaches_nobody) {
  ServedDevice& device = serve();
  const Fd event = new_eventfd();
  {
    RawPeer peer = connect(device);
    for (const std::uint32_t index : {0U, 2U, 3U, 4U}) {
      expect_accepted(peer, kSetIrqs, set_irqs({.index = index}), {event.get()});
    }
  }
  RawPeer next = connect(device);
  write_register<std::uint32_t>(next, kTrigger, 0);
  EXPECT_FALSE(signalled(event)) << "WIR-GONE";
}

}  // namespace
}  // namespace gangway::hostile
