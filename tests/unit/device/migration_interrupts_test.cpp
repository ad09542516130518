// Interrupts while a device does not run, and over a migration. Clauses STP-QUIET, P2P-INITIATE, RST-NOT-REQUIRED.
#include <sys/eventfd.h>
#include <unistd.h>

#include <cstdint>
#include <optional>

#include <gtest/gtest.h>

#include "unit/device/recording_device.h"
#include "unit/device/stream_ops.h"

namespace gangway::test {
namespace {

using enum DeviceState;

// A client's eventfd on one vector.
class Listener {
 public:
  Listener(Interrupts& interrupts, IrqType type, std::uint32_t vector) : fd_(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
    IrqSet request{.type = type, .data = IrqSet::Data::Eventfd, .start = vector, .count = 1};
    request.eventfds.push_back(std::move(*fd_.duplicate()));
    EXPECT_TRUE(interrupts.set(std::move(request)));
  }
  // Signals since the last call.
  std::uint64_t count() {
    std::uint64_t signals = 0;
    return ::read(fd_.get(), &signals, sizeof(signals)) == sizeof(signals) ? signals : 0;
  }

 private:
  Fd fd_;
};

TEST(MigrationInterrupts, are_held_until_the_device_runs) {
  Rig rig;
  Listener listener(rig.interrupts, IrqType::Msix, 2);
  for (const DeviceState state : {RunningP2p, Stop, StopCopy, PreCopyP2p}) {
    ASSERT_TRUE(rig.go(Running));
    ASSERT_TRUE(rig.go(state));
    rig.interrupts.trigger(IrqType::Msix, 2);
    EXPECT_EQ(listener.count(), 0U) << contract::name(state);
    ASSERT_TRUE(rig.go(Running));
    EXPECT_EQ(listener.count(), 1U) << contract::name(state);
  }
  ASSERT_TRUE(rig.go(PreCopy));
  rig.interrupts.trigger(IrqType::Msix, 2);
  EXPECT_EQ(listener.count(), 1U) << "in PRE_COPY it runs";
}

TEST(MigrationInterrupts, raised_while_draining_still_leave) {
  Rig rig;
  Listener listener(rig.interrupts, IrqType::Msix, 0);
  rig.device.on_call = [&](const std::string& call) {
    if (call == "stop_initiating") rig.interrupts.trigger(IrqType::Msix, 0);
  };
  ASSERT_TRUE(rig.go(RunningP2p));
  EXPECT_EQ(listener.count(), 1U) << "P2P-INITIATE: what was outstanding is done before the arc returns";
}

TEST(MigrationInterrupts, pending_at_the_source_are_signalled_once_the_destination_runs) {
  Rig source;
  ASSERT_TRUE(source.go(RunningP2p));
  source.interrupts.trigger(IrqType::Msix, 7);
  source.interrupts.set_intx(true);
  ASSERT_TRUE(source.go(StopCopy));
  const Bytes stream = drain(source.migration, pieces_of(kWhole)).bytes;

  for (const bool set_up_first : {true, false}) {
    Rig destination;
    std::optional<Listener> msix;
    std::optional<Listener> intx;
    const auto set_up = [&] {
      msix.emplace(destination.interrupts, IrqType::Msix, 7);
      intx.emplace(destination.interrupts, IrqType::Intx, 0);
    };
    if (set_up_first) set_up();
    ASSERT_TRUE(destination.go(Resuming));
    ASSERT_TRUE(destination.migration.write(stream));
    ASSERT_TRUE(destination.go(Stop));
    if (!set_up_first) set_up();  // STP-CONFIG: before or after the load
    EXPECT_EQ(msix->count() + intx->count(), 0U);
    ASSERT_TRUE(destination.go(Running));
    EXPECT_EQ(msix->count(), 1U);
    EXPECT_EQ(intx->count(), 1U);
  }
}

TEST(MigrationInterrupts, setup_of_the_client_outlives_resets_and_loads) {
  Rig rig;
  Listener listener(rig.interrupts, IrqType::Msi, 1);
  ASSERT_TRUE(rig.migration.reset());
  ASSERT_TRUE(rig.go(Resuming));
  Rig source;
  ASSERT_TRUE(source.go(StopCopy));
  ASSERT_TRUE(rig.migration.write(drain(source.migration, pieces_of(kWhole)).bytes));
  ASSERT_TRUE(rig.go(Running));
  rig.interrupts.trigger(IrqType::Msi, 1);
  EXPECT_EQ(listener.count(), 1U);
}

TEST(MigrationInterrupts, pending_are_forgotten_by_a_reset) {
  Rig rig;
  ASSERT_TRUE(rig.go(Stop));
  rig.interrupts.trigger(IrqType::Msix, 4);
  rig.interrupts.set_intx(true);
  Listener listener(rig.interrupts, IrqType::Msix, 4);
  ASSERT_TRUE(rig.migration.reset());
  EXPECT_EQ(listener.count(), 0U);
  EXPECT_FALSE(rig.interrupts.intx_asserted());
}

}  // namespace
}  // namespace gangway::test
