// STP-*, P2P-*: what goes on, and what does not, while the device is stopped.
#include <algorithm>
#include <array>
#include <chrono>
#include <thread>
#include <tuple>

#include "devices/faulty/defect.h"

namespace gangway::faulty {
namespace {

using enum DeviceState;

class DmaInStop : public Card {
 public:
  Result<void> stop() override { return Card::start(); }
};

class DmaInP2p : public Card {
 public:
  Result<void> stop_initiating() override { return {}; }
  Result<void> stop() override { return Card::stop_initiating(); }
};

// Leaves a piece to be written a little later, as hardware does whose queue was not waited for.
class P2pLeavesDma : public Card {
 public:
  Result<void> start() override {
    late_ = {};
    return Card::start();
  }
  Result<void> stop_initiating() override {
    Result<void> stopped = Card::stop_initiating();
    late_ = std::jthread([this] {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      std::unique_lock lock(mutex_);
      if (job_active()) carry_out_piece(lock);
    });
    return stopped;
  }
  Result<void> stop() override {
    late_ = {};
    return {};
  }
  void reset() override {
    late_ = {};
    Card::reset();
  }

 private:
  std::jthread late_;
};

class CountsInStop : public Card {
 public:
  Result<void> start() override {
    stopped_ = false;
    return Card::start();
  }
  Result<void> stop() override {
    stopped_ = true;
    return {};
  }
  void reset() override {
    stopped_ = false;
    Card::reset();
  }
  Result<void> read(RegionIndex region, std::uint64_t offset, std::span<std::byte> out) override {
    if (stopped_ && region == kRegisters) {
      std::scoped_lock lock(mutex_);
      ++registers_.dma_done;
    }
    return Card::read(region, offset, out);
  }

 private:
  bool stopped_ = false;
};

// Does something when a SET has brought the device to a state in which it is stopped.
class OnStop : public FaultyMigration {
 public:
  using FaultyMigration::FaultyMigration;
  Result<void> set_state(std::uint32_t number) override {
    const bool before = contract::is_stopped(real_state());
    Result<void> done = Migration::set_state(number);
    if (!before && contract::is_stopped(real_state())) stopped();
    return done;
  }

 protected:
  virtual void stopped() = 0;
};

class InterruptInStop : public OnStop {
 public:
  using OnStop::OnStop;

 protected:
  void stopped() override {
    interrupts().hold(false);
    interrupts().trigger(IrqType::Msi, kEndVector);
    interrupts().hold(true);
  }
};

class InterruptSetupLostInStop : public OnStop {
 public:
  using OnStop::OnStop;

 protected:
  void stopped() override { interrupts().clear(); }
};

class LoadOverwritesConfig : public FaultyMigration {
 public:
  using FaultyMigration::FaultyMigration;
  Result<void> set_state(std::uint32_t number) override {
    const DeviceState before = real_state();
    Result<void> done = Migration::set_state(number);
    if (!done || before == real_state()) return done;
    if (real_state() == Resuming) {
      std::ignore = endpoint().read(to_number(RegionIndex::Config), kHeader, header_);
    } else if (before == Resuming) {
      std::ignore = endpoint().write(to_number(RegionIndex::Config), kHeader, header_);
    }
    return done;
  }

 private:
  static constexpr std::uint64_t kHeader = 0x04;  // COMMAND to the last BAR
  std::array<std::byte, 0x28 - kHeader> header_{};
};

bool is_config(std::uint32_t region) { return region == to_number(RegionIndex::Config); }

class ConfigDeadInStop : public FaultyEndpoint {
 public:
  using FaultyEndpoint::FaultyEndpoint;
  Result<void> read(std::uint32_t region, std::uint64_t offset, std::span<std::byte> out) override {
    Result<void> done = Endpoint::read(region, offset, out);
    if (done && is_config(region) && migration() != nullptr && migration()->stopped()) {
      std::ranges::fill(out, std::byte{0xff});
    }
    return done;
  }
};

class ConfigWritesRefusedInStop : public FaultyEndpoint {
 public:
  using FaultyEndpoint::FaultyEndpoint;
  Result<void> write(std::uint32_t region, std::uint64_t offset, std::span<const std::byte> in) override {
    if (is_config(region) && migration() != nullptr && migration()->stopped()) return fail(EBUSY, "stopped");
    return Endpoint::write(region, offset, in);
  }
};

// A register that nobody writes, so that no driver's own work shows it.
class AccessLeavesStop : public FaultyEndpoint {
 public:
  using FaultyEndpoint::FaultyEndpoint;
  Result<void> write(std::uint32_t region, std::uint64_t offset, std::span<const std::byte> in) override {
    const bool wakes =
        region == to_number(kRegisters) && offset == kStatus && migration() != nullptr && migration()->state() == Stop;
    if (wakes) return migration()->set_state(static_cast<std::uint32_t>(Running));
    return Endpoint::write(region, offset, in);
  }
};

class P2pAccessesDead : public FaultyEndpoint {
 public:
  using FaultyEndpoint::FaultyEndpoint;
  Result<void> read(std::uint32_t region, std::uint64_t offset, std::span<std::byte> out) override {
    Result<void> done = Endpoint::read(region, offset, out);
    const bool dead = !is_config(region) && migration() != nullptr && contract::is_p2p(migration()->state());
    if (done && dead) std::ranges::fill(out, std::byte{0xff});
    return done;
  }
};

}  // namespace

std::vector<Defect> stopped_defects() {
  return {
      {"dma_in_stop", "STP-QUIET", "a job goes on in STOP",
       "libvfio-user pull request 609: a device was not quiesced before its state changed", kFaultyCard<DmaInStop>},
      {"interrupt_in_stop", "STP-QUIET", "an interrupt is raised when the device is already stopped",
       "kind: the queue is stopped, its completion handler is not", kFaultyMigration<InterruptInStop>},
      {"registers_move_in_stop", "STP-QUIET", "a count goes on in STOP, without any DMA",
       "kind: a timer that is not part of what is stopped", kFaultyCard<CountsInStop>},
      {"config_dead_in_stop", "STP-CONFIG", "config space reads as all ones in STOP",
       "kind: a function powered down to stop it", kFaultyEndpoint<ConfigDeadInStop>},
      {"config_writes_refused_in_stop", "STP-CONFIG", "config space cannot be written in STOP",
       "libvfio-user issue 458: commands are refused because the device is in a stopped state",
       kFaultyEndpoint<ConfigWritesRefusedInStop>},
      {"load_overwrites_config", "STP-CONFIG", "config space restored before the data is overwritten by the load",
       "kind: a driver that was only tried with a VMM that restores config space last",
       kFaultyMigration<LoadOverwritesConfig>},
      {"interrupt_setup_lost_in_stop", "STP-CONFIG", "STOP forgets the client's eventfds",
       "spdk issue 2410: after a migration no interrupt arrived for a completed request",
       kFaultyMigration<InterruptSetupLostInStop>},
      {"access_leaves_stop", "STP-ACCESS", "a write to a register that is read only takes a stopped device to RUNNING",
       "kind: a device that wakes up when it is touched", kFaultyEndpoint<AccessLeavesStop>},
      {"dma_in_p2p", "P2P-INITIATE", "a job goes on in RUNNING_P2P, and ends with STOP",
       "kind: P2P advertised and made the same as RUNNING", kFaultyCard<DmaInP2p>, Shows::WithP2p},
      {"p2p_leaves_dma_outstanding", "P2P-INITIATE", "a piece is written after the arc to RUNNING_P2P returned",
       "libvfio-user pull request 609: outstanding requests were not waited for", kFaultyCard<P2pLeavesDma>,
       Shows::WithP2p},
      {"p2p_accesses_dead", "P2P-INITIATE", "accesses read all ones in RUNNING_P2P", "kind: P2P made the same as STOP",
       kFaultyEndpoint<P2pAccessesDead>, Shows::WithP2p},
  };
}

}  // namespace gangway::faulty
