// The migration engine: owns a device's state machine and data session, for every interface revision at once.
//
// A device author implements Migratable and never sees a state; a front end (v2 features, a migration region)
// translates its client's words into these calls and decides nothing. So every clause of FSM, RST, DAT, PRE, STP and
// P2P is kept in one place: the engine walks exactly the arcs of the contract, clears the device itself when it enters
// RESUMING (RST-NOT-REQUIRED), and lets a stream in only whole and intact.
//
// Source: Linux vfio.h, VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE and VFIO_MIG_GET_PRECOPY_INFO.
// Thread-safety: everything may be called from any thread; calls exclude each other (RST-CONCURRENT).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>

#include <gangway/contract.h>
#include <gangway/device.h>
#include <gangway/error.h>

namespace gangway {

// What a read of migration data ended on.
enum class StreamEnd : std::uint8_t {
  More,       // the buffer is full; there may be more
  Temporary,  // pre-copy: nothing now, perhaps later (the kernel's ENOMSG)
  Final,      // STOP_COPY: everything was read (the kernel's 0)
};
struct StreamRead {
  std::size_t size = 0;  // bytes put into the buffer; less than asked only at an end
  StreamEnd end = StreamEnd::More;
};

struct PrecopyInfo {
  bool reinit = false;  // VFIO_PRECOPY_INFO_REINIT (v2 only): new initial data
  std::uint64_t initial_bytes = 0;
  std::uint64_t dirty_bytes = 0;
};

class Migration {
 public:
  // The device must be attached. `quiesce` and `release` bracket stopped states: the endpoint holds interrupts
  // and fences accesses with them. The device starts stopped after reset(); begin() makes it RUNNING.
  Migration(Migratable& device, MigrationFlags flags, Interrupts& interrupts);
  ~Migration();
  Migration(const Migration&) = delete;
  Migration& operator=(const Migration&) = delete;

  [[nodiscard]] MigrationFlags flags() const { return flags_; }
  [[nodiscard]] DeviceState state() const;

  // Walks the arcs (FSM-ARC). `state` is as it came from the peer. On failure the state is the last one reached,
  // or ERROR when the device could not be kept in one. Errors: EINVAL (FSM-BLOCKED, FSM-INVALID), the device's own.
  Result<void> set_state(std::uint32_t state);

  // Reset in any state, to RUNNING (RST-*). Fails only if the device cannot start, in ERROR.
  Result<void> reset();

  // The next bytes of the stream. EINVAL outside the saving group (DAT-DIRECTION).
  Result<StreamRead> read(std::span<std::byte> out);

  // The next bytes of the stream. EINVAL outside RESUMING; the refusal's own error once one was found (DAT-VALIDATE).
  Result<void> write(std::span<const std::byte> in);

  // About how many bytes a save yields; any state (DAT-SIZE).
  [[nodiscard]] std::uint64_t data_size() const;

  // EINVAL outside PRE_COPY and PRE_COPY_P2P (PRE-INFO-STATE).
  Result<PrecopyInfo> precopy_info();

  // Access to the device's regions as the state allows. Stopped: no access may change the device (STP-QUIET).
  // Holds off state changes while it is held, so an access never meets half an arc.
  [[nodiscard]] bool stopped() const;
  // Runs `access` with the state held still; `stopped` tells it whether the device is stopped.
  template <class F>
  auto with_state(F&& access) {
    std::scoped_lock lock(mutex_);
    return access(contract::is_stopped(state_));
  }

 private:
  class Session;
  class Save;
  class Load;

  Result<void> take_arc(DeviceState to);
  Result<void> clear_device();

  Migratable& device_;
  const MigrationFlags flags_;
  Interrupts& interrupts_;
  mutable std::mutex mutex_;
  DeviceState state_ = DeviceState::Stop;
  std::unique_ptr<Save> save_;
  std::unique_ptr<Load> load_;
};

}  // namespace gangway
