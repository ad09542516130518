// FSM-*: arcs, refusals, and migrating again.
#include "devices/faulty/defect.h"

namespace gangway::faulty {
namespace {

using enum DeviceState;

class StateMachine : public FaultyMigration {
 public:
  using FaultyMigration::FaultyMigration;

 protected:
  [[nodiscard]] static DeviceState as_state(std::uint32_t number) { return static_cast<DeviceState>(number); }
  // STOP_COPY to a pre-copy state that the device has (FSM-BLOCKED).
  [[nodiscard]] bool refused_pair(std::uint32_t number) const {
    return real_state() == StopCopy && contract::is_pre_copy(as_state(number)) &&
           contract::advertised(as_state(number), flags());
  }
};

class RefusedPairAccepted : public StateMachine {
 public:
  using StateMachine::StateMachine;
  Result<void> set_state(std::uint32_t number) override {
    if (refused_pair(number)) {
      if (Result<void> gone = go(Running); !gone) return gone;
    }
    return Migration::set_state(number);
  }
};

class RefusedPairHangs : public StateMachine {
 public:
  using StateMachine::StateMachine;
  Result<void> set_state(std::uint32_t number) override {
    return refused_pair(number) ? endpoint().hang() : Migration::set_state(number);
  }
};

class RefusedPairStopsDevice : public StateMachine {
 public:
  using StateMachine::StateMachine;
  Result<void> set_state(std::uint32_t number) override {
    if (refused_pair(number)) {
      if (Result<void> gone = go(Stop); !gone) return gone;
      return fail(EINVAL, "no way on from STOP");
    }
    return Migration::set_state(number);
  }
};

// A state that the device claims to be in and is not.
class Claims : public StateMachine {
 public:
  using StateMachine::StateMachine;
  [[nodiscard]] DeviceState state() const override { return claimed_.value_or(real_state()); }
  Result<void> set_state(std::uint32_t number) override {
    if (claimable(number)) {
      claimed_ = as_state(number);
      return {};
    }
    if (claimed_ == Error) return fail(EIO, "in ERROR");
    claimed_.reset();
    return Migration::set_state(number);
  }
  Result<void> reset() override {
    claimed_.reset();
    return Migration::reset();
  }

 protected:
  [[nodiscard]] virtual bool claimable(std::uint32_t number) const = 0;

 private:
  std::optional<DeviceState> claimed_;
};

class ErrorAccepted : public Claims {
 public:
  using Claims::Claims;

 protected:
  [[nodiscard]] bool claimable(std::uint32_t number) const override { return as_state(number) == Error; }
};

class UnadvertisedAccepted : public Claims {
 public:
  using Claims::Claims;

 protected:
  [[nodiscard]] bool claimable(std::uint32_t number) const override {
    return number != 0 && number < kDeviceStates && !contract::advertised(as_state(number), flags());
  }
};

class UnknownAccepted : public StateMachine {
 public:
  using StateMachine::StateMachine;
  Result<void> set_state(std::uint32_t number) override {
    if (number >= kDeviceStates) return {};
    return Migration::set_state(number);
  }
};

class InvalidPoisons : public StateMachine {
 public:
  using StateMachine::StateMachine;
  Result<void> set_state(std::uint32_t number) override {
    if (poisoned_) return fail(EINVAL, "the last request failed");
    Result<void> done = Migration::set_state(number);
    poisoned_ = !done && done.error().code == EINVAL && real_state() != Resuming;
    return done;
  }
  Result<void> reset() override {
    poisoned_ = false;
    return Migration::reset();
  }

 private:
  bool poisoned_ = false;
};

class RefusedSetEndsSession : public StateMachine {
 public:
  using StateMachine::StateMachine;
  Result<void> set_state(std::uint32_t number) override {
    Result<void> done = Migration::set_state(number);
    dead_ = !done && contract::in_saving_group(real_state());
    return done;
  }
  Result<void> reset() override {
    dead_ = false;
    return Migration::reset();
  }
  Result<StreamView> read_view(std::size_t max) override {
    if (dead_) return fail(EBADF, "the session is closed");
    return Migration::read_view(max);
  }

 private:
  bool dead_ = false;
};

class SameStateRefused : public StateMachine {
 public:
  using StateMachine::StateMachine;
  Result<void> set_state(std::uint32_t number) override {
    if (as_state(number) == real_state()) return fail(EINVAL, "already there");
    return Migration::set_state(number);
  }
};

class StateReportedLate : public StateMachine {
 public:
  using StateMachine::StateMachine;
  [[nodiscard]] DeviceState state() const override {
    const DeviceState told = before_.value_or(real_state());
    before_.reset();
    return told;
  }
  Result<void> set_state(std::uint32_t number) override {
    const DeviceState before = real_state();
    Result<void> done = Migration::set_state(number);
    before_.reset();
    if (done) before_ = before;
    return done;
  }
  Result<void> reset() override {
    before_.reset();
    return Migration::reset();
  }

 private:
  mutable std::optional<DeviceState> before_;
};

class LeavingStopCopyHangs : public StateMachine {
 public:
  using StateMachine::StateMachine;
  Result<void> set_state(std::uint32_t number) override {
    if (real_state() == StopCopy && as_state(number) == Stop) return endpoint().hang();
    return Migration::set_state(number);
  }
};

class StopsAtEndOfStream : public StateMachine {
 public:
  using StateMachine::StateMachine;
  Result<StreamView> read_view(std::size_t max) override {
    Result<StreamView> view = Migration::read_view(max);
    if (view && view->size == 0 && view->end == StreamEnd::Final && max != 0) {
      if (Result<void> gone = go(Stop); !gone) return std::unexpected(gone.error());
    }
    return view;
  }
};

class P2pRefusedFromStop : public StateMachine {
 public:
  using StateMachine::StateMachine;
  Result<void> set_state(std::uint32_t number) override {
    if (real_state() == Stop && as_state(number) == RunningP2p) return fail(EINVAL, "P2P is left from RUNNING only");
    return Migration::set_state(number);
  }
};

class ResumingFromStopOnly : public StateMachine {
 public:
  using StateMachine::StateMachine;
  Result<void> set_state(std::uint32_t number) override {
    if (as_state(number) == Resuming && real_state() != Stop && real_state() != Resuming) {
      return fail(EINVAL, "RESUMING is entered from STOP");
    }
    return Migration::set_state(number);
  }
};

class CombinationThroughRunning : public StateMachine {
 public:
  using StateMachine::StateMachine;
  Result<void> set_state(std::uint32_t number) override {
    const bool both_stopped = contract::is_stopped(real_state()) && contract::is_stopped(as_state(number));
    if (both_stopped && contract::advertised(as_state(number), flags()) && as_state(number) != real_state()) {
      if (Result<void> gone = go(Running); !gone) return gone;
      card().await_piece();
    }
    return Migration::set_state(number);
  }
};

class SecondMigrationFails : public StateMachine {
 public:
  using StateMachine::StateMachine;
  Result<void> set_state(std::uint32_t number) override {
    const DeviceState before = real_state();
    const bool saves = contract::in_saving_group(as_state(number));
    if (open_ && saves && !contract::in_saving_group(before)) return fail(EBUSY, "a save is under way");
    Result<void> done = Migration::set_state(number);
    if (done && contract::is_pre_copy(before) && !saves) open_ = true;
    return done;
  }
  Result<void> reset() override {
    open_ = false;
    return Migration::reset();
  }

 private:
  bool open_ = false;
};

class HalfReadSaveBlocksNext : public StateMachine {
 public:
  using StateMachine::StateMachine;
  Result<void> set_state(std::uint32_t number) override {
    const DeviceState before = real_state();
    const bool saves = contract::in_saving_group(as_state(number));
    if (left_ && saves && !contract::in_saving_group(before)) return fail(EBUSY, "data of the last save is left");
    Result<void> done = Migration::set_state(number);
    if (done && before == StopCopy && !saves) left_ = !ended_;
    if (done && saves && before != StopCopy) ended_ = false;
    return done;
  }
  Result<void> reset() override {
    left_ = false;
    return Migration::reset();
  }
  Result<StreamView> read_view(std::size_t max) override {
    Result<StreamView> view = Migration::read_view(max);
    if (view && view->end == StreamEnd::Final) ended_ = true;
    return view;
  }

 private:
  bool ended_ = false;
  bool left_ = false;
};

class SourceCannotBecomeDestination : public StateMachine {
 public:
  using StateMachine::StateMachine;
  Result<void> set_state(std::uint32_t number) override {
    if (as_state(number) == Resuming && source_of_ == endpoint().clients()) {
      return fail(EBUSY, "the device has a file for saving");
    }
    Result<void> done = Migration::set_state(number);
    if (done && contract::in_saving_group(as_state(number))) source_of_ = endpoint().clients();
    return done;
  }

 private:
  std::optional<std::uint64_t> source_of_;
};

class RefusedLoadStartsDevice : public StateMachine {
 public:
  using StateMachine::StateMachine;
  Result<void> set_state(std::uint32_t number) override {
    const bool is_state = contract::advertised(as_state(number), flags());
    const bool leaves = real_state() == Resuming && is_state;
    Result<void> done = Migration::set_state(number);
    if (!done && leaves) std::ignore = Migration::reset();
    return done;
  }
};

}  // namespace

std::vector<Defect> state_machine_defects() {
  return {
      {"same_state_refused", "FSM-ARC", "asking for the state that the device is in fails",
       "kind: a transition table without its diagonal; such a table is in libvfio-user pull request 746",
       kFaultyMigration<SameStateRefused>},
      {"resuming_from_stop_only", "FSM-ARC RST-NOT-REQUIRED", "RUNNING to RESUMING in one call fails",
       "libvfio-user pull request 746: combinations of arcs are left to the client, as the kernel's core is missing",
       kFaultyMigration<ResumingFromStopOnly>},
      {"p2p_refused_from_stop", "FSM-ARC P2P-ORDER", "STOP to RUNNING_P2P fails, so a phased start is impossible",
       "kind: P2P taken for a way to stop and not for a way to start", kFaultyMigration<P2pRefusedFromStop>,
       Shows::WithP2p},
      {"combination_through_running", "FSM-ARC STP-QUIET",
       "on the way between two states in which it is stopped the device runs",
       "kind: STOP taken for the only state without data, and reached by way of RUNNING",
       kFaultyMigration<CombinationThroughRunning>},
      {"refused_pair_accepted", "FSM-BLOCKED", "STOP_COPY to PRE_COPY starts the device and a new save",
       "kind: a path search that does not leave out saving states", kFaultyMigration<RefusedPairAccepted>,
       Shows::WithPreCopy},
      {"refused_pair_hangs", "FSM-BLOCKED FSM-COMPLETE", "STOP_COPY to PRE_COPY never returns",
       "kind: a walk along next states that never checks for the blocked pair", kFaultyMigration<RefusedPairHangs>,
       Shows::WithPreCopy},
      {"refused_pair_stops_device", "FSM-BLOCKED", "STOP_COPY to PRE_COPY is refused, but from STOP",
       "kind: a refusal found only after the first arc was taken", kFaultyMigration<RefusedPairStopsDevice>,
       Shows::WithPreCopy},
      {"error_state_accepted", "FSM-INVALID FSM-ERROR", "a SET of ERROR is carried out",
       "kind: range check instead of a check of what may be asked for", kFaultyMigration<ErrorAccepted>},
      {"unknown_state_accepted", "FSM-INVALID", "a SET of a state from 8 on succeeds and does nothing",
       "kind: a switch without a default", kFaultyMigration<UnknownAccepted>},
      {"unadvertised_state_accepted", "FSM-INVALID", "a SET of a state whose flag is not advertised succeeds",
       "kind: states checked against the protocol's and not against the device's",
       kFaultyMigration<UnadvertisedAccepted>, Shows::WithoutAll},
      {"invalid_request_poisons", "FSM-INVALID", "after a refused SET every other fails until a reset",
       "kind: an error that is remembered and never cleared", kFaultyMigration<InvalidPoisons>},
      {"refused_set_ends_session", "FSM-INVALID DAT-SESSION", "a refused SET leaves the state with a dead session",
       "rust-vmm/vfio pull request 140, review: a data session closed on the way of a transition that failed",
       kFaultyMigration<RefusedSetEndsSession>},
      {"state_reported_late", "FSM-COMPLETE", "the first GET after a SET still tells the state before",
       "kind: the transition is handed to a worker and the reply does not wait for it",
       kFaultyMigration<StateReportedLate>},
      {"leaving_stop_copy_hangs", "FSM-COMPLETE", "STOP_COPY to STOP never returns",
       "spdk issue 2410: a device that waits for a request which can no longer complete",
       kFaultyMigration<LeavingStopCopyHangs>},
      {"stops_at_end_of_stream", "FSM-COMPLETE DAT-EOS-STOP", "reading the end of the stream takes the device to STOP",
       "kind: the iteration's end taken for the migration's end, as with v1's pending_bytes",
       kFaultyMigration<StopsAtEndOfStream>},
      {"second_migration_fails", "FSM-REPEAT", "leaving PRE_COPY does not end the save, so no other can begin",
       "Linux 6de042240b0f, mlx5: the firmware was not told that PRE_COPY was left for RUNNING",
       kFaultyMigration<SecondMigrationFails>, Shows::WithPreCopy},
      {"half_read_save_blocks_next", "FSM-REPEAT", "a save that was not read to its end blocks the next",
       "libvfio-user pull request 254: the iteration's state was kept over a change of state",
       kFaultyMigration<HalfReadSaveBlocksNext>},
      {"source_cannot_become_destination", "FSM-REPEAT",
       "a device that was a source cannot load, not even after a reset",
       "spdk issue 2362: migrating from A to B works, and back to A the target crashes",
       kFaultyMigration<SourceCannotBecomeDestination>},
      {"refused_load_starts_device", "FSM-FAIL", "a stream that is refused leaves the device RUNNING",
       "kind: an error path that resets the device and does not say so; nothing on the path from RESUMING is RUNNING "
       "before STOP",
       kFaultyMigration<RefusedLoadStartsDevice>},
  };
}

}  // namespace gangway::faulty
