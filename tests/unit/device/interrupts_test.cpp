#include <gangway/interrupts.h>

#include <fcntl.h>
#include <linux/aio_abi.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include <gtest/gtest.h>

#include <thread>
#include <vector>

#include "unit/device/matchers.h"

namespace gangway {
namespace {

using test::FailsWith;
using test::IsOk;
using enum IrqAction;
using Data = IrqSet::Data;

// A client's eventfd, blocking as a plain one is.
class Event {
 public:
  explicit Event(int flags = 0) : fd_(::eventfd(0, EFD_CLOEXEC | flags)) {}
  [[nodiscard]] Fd share() const { return Fd(::dup(fd_.get())); }
  [[nodiscard]] int get() const { return fd_.get(); }
  // What was signalled since the last call.
  std::uint64_t take() const {
    pollfd ready{fd_.get(), POLLIN, 0};
    if (::poll(&ready, 1, 0) != 1) return 0;
    std::uint64_t count = 0;
    EXPECT_EQ(::read(fd_.get(), &count, sizeof(count)), 8);
    return count;
  }
  void wait() const {
    pollfd ready{fd_.get(), POLLIN, 0};
    EXPECT_EQ(::poll(&ready, 1, -1), 1);
  }
  void add(std::uint64_t count) const { EXPECT_EQ(::write(fd_.get(), &count, sizeof(count)), 8); }

 private:
  Fd fd_;
};

class InterruptsTest : public testing::Test {
 protected:
  Result<void> set(IrqType type, IrqAction action, Data data, std::uint32_t start, std::uint32_t count,
                   std::vector<int> values = {}) {
    IrqSet request{.type = type, .action = action, .data = data, .start = start, .count = count};
    for (const int value : values) request.bools.push_back(std::byte(static_cast<unsigned char>(value)));
    return interrupts_.set(std::move(request));
  }
  Result<void> set_events(IrqType type, std::uint32_t start, const std::vector<const Event*>& events,
                          IrqAction action = Trigger) {
    IrqSet request{.type = type,
                   .action = action,
                   .data = Data::Eventfd,
                   .start = start,
                   .count = static_cast<std::uint32_t>(events.size())};
    for (const Event* event : events) request.eventfds.push_back(event != nullptr ? event->share() : Fd());
    return interrupts_.set(std::move(request));
  }

  Interrupts interrupts_{{1, 4, 16, 1, 0}};
  Event a_, b_, c_;
};

TEST_F(InterruptsTest, describes_itself_as_linux_does) {
  EXPECT_EQ(interrupts_.info(IrqType::Intx).flags, kIrqEventfd | kIrqMaskable | kIrqAutomasked);
  EXPECT_EQ(interrupts_.info(IrqType::Msi).flags, kIrqEventfd | kIrqNoresize);
  EXPECT_EQ(interrupts_.info(IrqType::Msix).flags, kIrqEventfd);
  EXPECT_EQ(interrupts_.info(IrqType::Msix).count, 16U);
  EXPECT_EQ(interrupts_.info(IrqType::Req).count, 0U);
  EXPECT_EQ(interrupts_.info(static_cast<IrqType>(9)).count, 0U);
}

TEST_F(InterruptsTest, signals_the_eventfd_of_a_vector) {
  ASSERT_THAT(set_events(IrqType::Msix, 3, {&a_, &b_}), IsOk());
  interrupts_.trigger(IrqType::Msix, 4);
  EXPECT_EQ(a_.take(), 0U);
  EXPECT_EQ(b_.take(), 1U);
  interrupts_.trigger(IrqType::Msix, 99);
  interrupts_.trigger(static_cast<IrqType>(9), 0);
  EXPECT_EQ(a_.take() + b_.take(), 0U);
}

TEST_F(InterruptsTest, takes_messages_while_a_vector_has_an_eventfd) {
  EXPECT_FALSE(interrupts_.takes_messages());
  ASSERT_THAT(set_events(IrqType::Intx, 0, {&a_}), IsOk());
  EXPECT_FALSE(interrupts_.takes_messages());
  ASSERT_THAT(set_events(IrqType::Msix, 1, {&b_}), IsOk());
  EXPECT_TRUE(interrupts_.takes_messages());
  ASSERT_THAT(set_events(IrqType::Msix, 1, {nullptr}), IsOk());
  EXPECT_FALSE(interrupts_.takes_messages());
}

TEST_F(InterruptsTest, minus_one_disables_one_vector) {
  ASSERT_THAT(set_events(IrqType::Msix, 0, {&a_, &b_, &c_}), IsOk());
  ASSERT_THAT(set_events(IrqType::Msix, 1, {nullptr}), IsOk());
  for (std::uint32_t i = 0; i < 3; ++i) interrupts_.trigger(IrqType::Msix, i);
  EXPECT_EQ(a_.take(), 1U);
  EXPECT_EQ(b_.take(), 0U);
  EXPECT_EQ(c_.take(), 1U);
  EXPECT_TRUE(interrupts_.pending(IrqType::Msix)[1]) << "kept until it may be delivered";
}

TEST_F(InterruptsTest, count_zero_disables_the_type) {
  ASSERT_THAT(set_events(IrqType::Msix, 0, {&a_}), IsOk());
  ASSERT_THAT(set(IrqType::Msix, Trigger, Data::None, 0, 0), IsOk());
  interrupts_.trigger(IrqType::Msix, 0);
  EXPECT_EQ(a_.take(), 0U);
  ASSERT_THAT(set_events(IrqType::Msix, 0, {&a_}), IsOk());
  EXPECT_EQ(a_.take(), 1U) << "raised while the client resized its vectors";
}

TEST_F(InterruptsTest, no_descriptors_at_all_disable_the_range) {
  ASSERT_THAT(set_events(IrqType::Msix, 0, {&a_, &b_}), IsOk());
  ASSERT_THAT(set(IrqType::Msix, Trigger, Data::Eventfd, 0, 2), IsOk());
  interrupts_.trigger(IrqType::Msix, 0);
  EXPECT_EQ(a_.take(), 0U);
}

TEST_F(InterruptsTest, software_triggers_by_none_and_bool) {
  ASSERT_THAT(set_events(IrqType::Msix, 0, {&a_, &b_, &c_}), IsOk());
  ASSERT_THAT(set(IrqType::Msix, Trigger, Data::None, 0, 2), IsOk());
  EXPECT_EQ(a_.take(), 1U);
  EXPECT_EQ(b_.take(), 1U);
  EXPECT_EQ(c_.take(), 0U);
  ASSERT_THAT(set(IrqType::Msix, Trigger, Data::Bool, 0, 3, {0, 1, 255}), IsOk());
  EXPECT_EQ(a_.take(), 0U);
  EXPECT_EQ(b_.take(), 1U);
  EXPECT_EQ(c_.take(), 1U);
  ASSERT_THAT(set(IrqType::Msix, Trigger, Data::None, 8, 2), IsOk());
  EXPECT_FALSE(interrupts_.pending(IrqType::Msix)[8]) << "a test of nothing leaves nothing";
}

TEST_F(InterruptsTest, masked_messages_wait) {
  ASSERT_THAT(set_events(IrqType::Msix, 0, {&a_, &b_}), IsOk());
  ASSERT_THAT(set(IrqType::Msix, Mask, Data::Bool, 0, 2, {1, 0}), IsOk());
  interrupts_.trigger(IrqType::Msix, 0);
  interrupts_.trigger(IrqType::Msix, 0);
  interrupts_.trigger(IrqType::Msix, 1);
  EXPECT_EQ(a_.take(), 0U);
  EXPECT_EQ(b_.take(), 1U);
  ASSERT_THAT(set(IrqType::Msix, Unmask, Data::None, 0, 2), IsOk());
  EXPECT_EQ(a_.take(), 1U) << "a pending bit holds one";
}

TEST_F(InterruptsTest, refuses_what_does_not_fit) {
  EXPECT_THAT(set(static_cast<IrqType>(5), Trigger, Data::None, 0, 0), FailsWith(EINVAL));
  EXPECT_THAT(set(IrqType::Req, Trigger, Data::None, 0, 0), FailsWith(EINVAL)) << "has none";
  EXPECT_THAT(set(IrqType::Msix, Trigger, Data::None, 16, 0), FailsWith(EINVAL));
  EXPECT_THAT(set(IrqType::Msix, Trigger, Data::None, 15, 2), FailsWith(EINVAL));
  EXPECT_THAT(set(IrqType::Msix, Trigger, Data::None, 1, 0xffffffff), FailsWith(EINVAL));
  EXPECT_THAT(set(IrqType::Msix, Trigger, Data::Bool, 0, 2, {1}), FailsWith(EINVAL));
  EXPECT_THAT(set(IrqType::Msix, Mask, Data::None, 0, 0), FailsWith(EINVAL));
  EXPECT_THAT(set(IrqType::Err, Mask, Data::None, 0, 1), FailsWith(ENOTTY));
  EXPECT_THAT(set_events(IrqType::Msix, 0, {&a_}, Unmask), FailsWith(ENOTTY));
  IrqSet too_few{.type = IrqType::Msix, .data = Data::Eventfd, .count = 2};
  too_few.eventfds.push_back(a_.share());
  EXPECT_THAT(interrupts_.set(std::move(too_few)), FailsWith(EINVAL));
}

TEST_F(InterruptsTest, refuses_a_descriptor_that_is_no_eventfd_and_changes_nothing) {
  ASSERT_THAT(set_events(IrqType::Msix, 0, {&a_}), IsOk());
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  const Fd reader(ends[0]);
  IrqSet request{.type = IrqType::Msix, .data = Data::Eventfd, .count = 2};
  request.eventfds.push_back(b_.share());
  request.eventfds.emplace_back(ends[1]);
  EXPECT_THAT(interrupts_.set(std::move(request)), FailsWith(EINVAL));
  interrupts_.trigger(IrqType::Msix, 0);
  EXPECT_EQ(a_.take(), 1U);
  EXPECT_EQ(b_.take(), 0U);
}

TEST_F(InterruptsTest, a_full_eventfd_does_not_block) {
  for (const int flags : {0, int{EFD_NONBLOCK}}) {
    const Event full(flags);
    full.add(~std::uint64_t{0} - 1);
    ASSERT_THAT(set_events(IrqType::Msix, 0, {&full}), IsOk());
    interrupts_.trigger(IrqType::Msix, 0);
    EXPECT_GE(full.take(), ~std::uint64_t{0} - 1);
    EXPECT_EQ(::fcntl(full.get(), F_GETFL) & O_NONBLOCK, flags != 0 ? O_NONBLOCK : 0) << "the client's, not ours";
  }
}

// What asks whether there is room, and then writes, adds nothing to a full one; and waits for ever if the client fills
// it in between. What the kernel does fills it to the brim.
TEST_F(InterruptsTest, a_full_eventfd_is_signalled_as_the_kernel_does_which_never_waits) {
  aio_context_t context = 0;
  if (::syscall(SYS_io_setup, 1, &context) != 0) GTEST_SKIP() << "no asynchronous I/O here: " << std::strerror(errno);
  ::syscall(SYS_io_destroy, context);
  a_.add(~std::uint64_t{0} - 1);
  ASSERT_THAT(set_events(IrqType::Msix, 0, {&a_}), IsOk());
  interrupts_.trigger(IrqType::Msix, 0);
  EXPECT_EQ(a_.take(), ~std::uint64_t{0});
  constexpr std::uint64_t kMany = 5000;  // more than one ring of completions
  for (std::uint64_t i = 0; i < kMany; ++i) interrupts_.trigger(IrqType::Msix, 0);
  EXPECT_EQ(a_.take(), kMany);
}

// VFIO_IRQ_INFO_AUTOMASKED
TEST_F(InterruptsTest, intx_is_signalled_once_per_unmask) {
  ASSERT_THAT(set_events(IrqType::Intx, 0, {&a_}), IsOk());
  interrupts_.set_intx(true);
  interrupts_.set_intx(true);
  EXPECT_EQ(a_.take(), 1U);
  ASSERT_THAT(set(IrqType::Intx, Unmask, Data::None, 0, 1), IsOk());
  EXPECT_EQ(a_.take(), 1U) << "still asserted";
  interrupts_.set_intx(false);
  ASSERT_THAT(set(IrqType::Intx, Unmask, Data::Bool, 0, 1, {1}), IsOk());
  EXPECT_EQ(a_.take(), 0U);
  interrupts_.set_intx(true);
  EXPECT_EQ(a_.take(), 1U);
}

TEST_F(InterruptsTest, intx_unmasks_by_eventfd) {
  ASSERT_THAT(set_events(IrqType::Intx, 0, {&a_}), IsOk());
  ASSERT_THAT(set_events(IrqType::Intx, 0, {&b_}, Unmask), IsOk());
  interrupts_.set_intx(true);
  EXPECT_EQ(a_.take(), 1U);
  b_.add(1);
  a_.wait();
  EXPECT_EQ(a_.take(), 1U);
  ASSERT_THAT(set_events(IrqType::Intx, 0, {nullptr}, Unmask), IsOk());
  b_.add(1);
  ASSERT_THAT(set(IrqType::Intx, Unmask, Data::Bool, 0, 1, {0}), IsOk());
  EXPECT_EQ(a_.take(), 0U);
  EXPECT_EQ(b_.take(), 1U) << "nobody listens any more";
}

// STP-QUIET
TEST_F(InterruptsTest, held_interrupts_are_delivered_on_release) {
  ASSERT_THAT(set_events(IrqType::Msix, 0, {&a_}), IsOk());
  ASSERT_THAT(set_events(IrqType::Intx, 0, {&b_}), IsOk());
  interrupts_.hold(true);
  interrupts_.trigger(IrqType::Msix, 0);
  interrupts_.set_intx(true);
  EXPECT_EQ(a_.take() + b_.take(), 0U);
  EXPECT_TRUE(interrupts_.pending(IrqType::Msix)[0]);
  interrupts_.hold(false);
  EXPECT_EQ(a_.take(), 1U);
  EXPECT_EQ(b_.take(), 1U);
  EXPECT_FALSE(interrupts_.pending(IrqType::Msix)[0]);
}

TEST_F(InterruptsTest, pending_moves_to_another_device) {
  interrupts_.trigger(IrqType::Msix, 5);
  interrupts_.set_intx(true);
  Interrupts other({1, 4, 16, 1, 0});
  for (const IrqType type : {IrqType::Intx, IrqType::Msix}) other.set_pending(type, interrupts_.pending(type));
  EXPECT_TRUE(other.intx_asserted());
  IrqSet request{.type = IrqType::Msix, .data = Data::Eventfd, .start = 5, .count = 1};
  request.eventfds.push_back(a_.share());
  ASSERT_THAT(other.set(std::move(request)), IsOk());
  EXPECT_EQ(a_.take(), 1U);
}

TEST_F(InterruptsTest, a_reset_keeps_the_setup_and_clearing_does_not) {
  ASSERT_THAT(set_events(IrqType::Msix, 0, {&a_}), IsOk());
  interrupts_.trigger(IrqType::Msix, 1);
  interrupts_.set_intx(true);
  interrupts_.reset();
  EXPECT_FALSE(interrupts_.pending(IrqType::Msix)[1]);
  EXPECT_FALSE(interrupts_.intx_asserted());
  interrupts_.trigger(IrqType::Msix, 0);
  EXPECT_EQ(a_.take(), 1U);
  interrupts_.clear();
  interrupts_.trigger(IrqType::Msix, 0);
  EXPECT_EQ(a_.take(), 0U);
}

TEST_F(InterruptsTest, triggers_from_many_threads) {
  ASSERT_THAT(set_events(IrqType::Msix, 0, {&a_}), IsOk());
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < 3; ++t) {
      threads.emplace_back([this] {
        for (int i = 0; i < 1000; ++i) interrupts_.trigger(IrqType::Msix, 0);
      });
    }
    for (int i = 0; i < 500; ++i) interrupts_.hold(i % 2 == 0);
  }
  EXPECT_GE(a_.take(), 1U);
  EXPECT_FALSE(interrupts_.pending(IrqType::Msix)[0]);
}

}  // namespace
}  // namespace gangway
