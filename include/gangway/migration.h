// The migration engine: owns a device's state machine and data session, for every interface revision at once.
//
// A device author implements Migratable and never sees a state; a front end (v2 features, a migration region)
// translates its client's words into these calls and decides nothing. So every clause of FSM, RST, DAT, PRE, STP and
// P2P is kept in one place: the engine walks exactly the arcs of the contract, clears the device itself when it enters
// RESUMING (RST-NOT-REQUIRED), and lets a stream in only whole and intact.
//
// Source: Linux vfio.h, VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE and VFIO_MIG_GET_PRECOPY_INFO.
// A deriving engine may answer differently and forward the rest, as the faulty devices do that the conformance suite is
// tested with (src/devices/faulty/). Every device worth serving wants this one.
//
// Thread-safety: everything may be called from any thread; calls exclude each other (RST-CONCURRENT).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include <gangway/contract.h>
#include <gangway/device.h>
#include <gangway/error.h>

namespace gangway {

class SaveSession;
class LoadSession;

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

// Migration data where it lies, so that a transport can send it without a copy. Large parts are the device's own
// memory; smaller pieces are gathered, so there are about two parts to each 64 KiB at worst, and mostly one to three.
struct StreamView {
  std::span<const std::span<const std::byte>> parts;  // in order
  std::size_t size = 0;                               // of all parts; less than asked only at an end
  StreamEnd end = StreamEnd::More;
  std::shared_ptr<const void> owner;  // of `parts`
};

struct PrecopyInfo {
  bool reinit = false;  // VFIO_PRECOPY_INFO_REINIT (v2 only): new initial data
  std::uint64_t initial_bytes = 0;
  std::uint64_t dirty_bytes = 0;
};

class Migration {
 public:
  // The device must be attached. It counts as stopped until reset() is called, once, to make it RUNNING.
  Migration(Migratable& device, MigrationFlags flags, Interrupts& interrupts);
  virtual ~Migration();
  Migration(const Migration&) = delete;
  Migration& operator=(const Migration&) = delete;

  [[nodiscard]] MigrationFlags flags() const { return flags_; }
  [[nodiscard]] virtual DeviceState state() const;

  // Walks the arcs (FSM-ARC). `state` is as it came from the peer. On failure the state is the last one reached,
  // or ERROR when the device could not be kept in one. Errors: EINVAL (FSM-BLOCKED, FSM-INVALID), the device's own.
  virtual Result<void> set_state(std::uint32_t state);

  // Reset in any state, to RUNNING (RST-*). Fails only if the device cannot start, in ERROR.
  virtual Result<void> reset();

  // The next bytes of the stream. EINVAL outside the saving group (DAT-DIRECTION).
  virtual Result<StreamRead> read(std::span<std::byte> out);

  // As read(), without copying. What `parts` refers to stays as it is until the next read, read_view or set_state; a
  // reset in between leaves it readable, with other contents. At most `max` bytes are made ready at once, so keep it to
  // what is sent next (1 MiB is plenty).
  virtual Result<StreamView> read_view(std::size_t max);

  // The next bytes of the stream. EINVAL outside RESUMING; the refusal's own error once one was found (DAT-VALIDATE).
  // After a refusal, here or by set_state, only a reset leaves RESUMING (RST-ABORTS).
  virtual Result<void> write(std::span<const std::byte> in);

  // Where the next bytes of the stream belong, if that is bulk memory of the device, at most `max` bytes; else empty. A
  // transport may receive into it and then call landed() in place of write(), and so save a copy. From one call to the
  // other nobody else may drive the engine. Errors as write().
  virtual Result<std::span<std::byte>> landing(std::size_t max);
  // The first `size` bytes of the landing hold the next bytes of the stream.
  virtual Result<void> landed(std::size_t size);

  // A write that the front end could not take in (a malformed message): the stream is not whole any more, so the load
  // is refused from here on with this error. Without effect outside RESUMING.
  void refuse_load(Error error);

  // About how many bytes a save yields; any state (DAT-SIZE).
  [[nodiscard]] virtual std::uint64_t data_size() const;

  // A front end says that its client has the whole stream, since it alone knows what reached the client. Without effect
  // unless the device is in STOP_COPY.
  void read_to_end();
  // Whether the device ran since it was last cleared, or read to the end by a save: what is lost when it is cleared.
  [[nodiscard]] bool has_unsaved_state() const;

  // EINVAL outside PRE_COPY and PRE_COPY_P2P (PRE-INFO-STATE).
  virtual Result<PrecopyInfo> precopy_info();
  // The same for a client that opted in to VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2: where the device was set up anew
  // (Migratable::take_renewed), the stream goes on with all of its memory as initial data, and `reinit` says so, once.
  // For who did not opt in initial_bytes only ever falls.
  Result<PrecopyInfo> precopy_info_v2();

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
  // A call on the device or the session that is part of an arc. On failure it leaves all as it was.
  using Step = Result<void> (Migration::*)();
  struct Arc;
  static const std::vector<Arc>& arcs();

  Result<void> take_arc(DeviceState to);
  Result<void> take_step(Step step);
  void keep_state();
  void clear_device();
  void drop_save();
  void end_sessions();
  [[nodiscard]] std::unexpected<Error> no_data_to_read() const;
  [[nodiscard]] std::unexpected<Error> no_data_to_write() const;

  Result<void> start();
  Result<void> stop_initiating();
  Result<void> stop();
  Result<void> open_save();
  Result<void> open_pre_copy();
  Result<void> complete_save();
  Result<void> close_save();
  Result<void> open_load();
  Result<void> complete_load();

  Migratable& device_;
  const MigrationFlags flags_;
  Interrupts& interrupts_;
  const std::vector<StateMemory> memories_;
  mutable std::mutex mutex_;
  DeviceState state_ = DeviceState::Stop;
  bool started_ = false;  // the device may initiate
  bool unsaved_ = false;
  std::shared_ptr<SaveSession> save_;
  std::unique_ptr<LoadSession> load_;
};

}  // namespace gangway
