#include <gangway/migration.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <new>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include "device/load_session.h"
#include "device/save_session.h"
#include "device/state_interrupts.h"

namespace gangway {

struct Migration::Arc {
  DeviceState from;
  DeviceState to;
  std::array<Step, 3> steps{};  // in order; unused ones are null
};

// Every arc of the contract, for devices with P2P and without, and exactly the calls that it makes. The states decide
// whether the data session lives on: it is opened on entering the saving group and closed on leaving it (DAT-SESSION).
const std::vector<Migration::Arc>& Migration::arcs() {
  using enum DeviceState;
  using M = Migration;
  static const std::vector<Arc> table{
      // Running, and what surrounds it.
      {Running, RunningP2p, {&M::stop_initiating}},
      {RunningP2p, Running, {&M::start}},
      {RunningP2p, Stop, {&M::stop}},
      {Stop, RunningP2p, {}},
      {Running, Stop, {&M::stop_initiating, &M::stop}},
      {Stop, Running, {&M::start}},
      // Saving.
      {Stop, StopCopy, {&M::open_save, &M::complete_save}},
      {StopCopy, Stop, {&M::close_save}},
      {Running, PreCopy, {&M::open_pre_copy}},
      {PreCopy, Running, {&M::close_save}},
      {RunningP2p, PreCopyP2p, {&M::open_pre_copy}},
      {PreCopyP2p, RunningP2p, {&M::close_save}},
      {PreCopy, PreCopyP2p, {&M::stop_initiating}},
      {PreCopyP2p, PreCopy, {&M::start}},
      {PreCopyP2p, StopCopy, {&M::stop, &M::complete_save}},
      {PreCopy, StopCopy, {&M::stop_initiating, &M::stop, &M::complete_save}},
      // Loading.
      {Stop, Resuming, {&M::open_load}},
      {Resuming, Stop, {&M::complete_load}},
  };
  return table;
}

Migration::Migration(Migratable& device, MigrationFlags flags, Interrupts& interrupts)
    : device_(device), flags_(flags), interrupts_(interrupts), memories_(device.state_memory()) {
  interrupts_.hold(true);
}

Migration::~Migration() { end_sessions(); }

DeviceState Migration::state() const {
  std::scoped_lock lock(mutex_);
  return state_;
}

bool Migration::stopped() const { return contract::is_stopped(Migration::state()); }

Result<void> Migration::set_state(std::uint32_t state) {
  std::scoped_lock lock(mutex_);
  const auto target = static_cast<DeviceState>(state);
  if (!contract::advertised(target, flags_)) {
    return fail(EINVAL,
                fmt::format("set device state {} ({}): the device does not have it", state, contract::name(target)),
                "FSM-INVALID");
  }
  if (state_ == DeviceState::Error) {
    return fail(EIO, "set device state: the device is in ERROR; reset it", "FSM-ERROR");
  }
  while (state_ != target) {
    const std::optional<DeviceState> next = contract::next_state(state_, target, flags_);
    if (!next) {
      return fail(EINVAL, fmt::format("no way from {} to {}", contract::name(state_), contract::name(target)),
                  "FSM-BLOCKED");
    }
    if (Result<void> taken = take_arc(*next); !taken) return taken;
  }
  return {};
}

Result<void> Migration::reset() {
  std::scoped_lock lock(mutex_);
  end_sessions();
  clear_device();
  if (Result<void> started = start(); !started) {
    state_ = DeviceState::Error;
    return fail_within("reset", std::move(started.error()));
  }
  state_ = DeviceState::Running;
  unsaved_ = true;
  return {};
}

Result<StreamRead> Migration::read(std::span<std::byte> out) {
  std::scoped_lock lock(mutex_);
  if (!save_) return no_data_to_read();
  StreamRead done;
  do {
    // In pieces, so that what is made ready is copied while it is in the cache.
    constexpr std::size_t kPiece = std::size_t{64} * 1024;
    const StreamView view = save_->read_view(std::min(out.size() - done.size, kPiece));
    for (const std::span<const std::byte> part : view.parts) {
      std::memcpy(out.data() + done.size, part.data(), part.size());
      done.size += part.size();
    }
    done.end = view.end;
  } while (done.size < out.size() && done.end == StreamEnd::More);
  return done;
}

Result<StreamView> Migration::read_view(std::size_t max) {
  std::scoped_lock lock(mutex_);
  if (!save_) return no_data_to_read();
  StreamView view = save_->read_view(max);
  view.owner = save_;
  return view;
}

void Migration::read_to_end() {
  std::scoped_lock lock(mutex_);
  if (state_ == DeviceState::StopCopy) unsaved_ = false;
}

bool Migration::has_unsaved_state() const {
  std::scoped_lock lock(mutex_);
  return unsaved_;
}

std::unexpected<Error> Migration::no_data_to_read() const {
  return fail(EINVAL,
              fmt::format("read migration data: the device is in {}, which yields none", contract::name(state_)),
              "DAT-DIRECTION");
}

Result<void> Migration::write(std::span<const std::byte> in) {
  std::scoped_lock lock(mutex_);
  if (!load_) return no_data_to_write();
  try {
    return load_->write(in);
  } catch (const std::bad_alloc&) {
    load_->refuse({ENOMEM, "write migration data: out of memory", "DAT-VALIDATE"});
    return load_->write({});
  }
}

Result<std::span<std::byte>> Migration::landing(std::size_t max) {
  std::scoped_lock lock(mutex_);
  if (!load_) return no_data_to_write();
  if (const Result<void> alive = load_->write({}); !alive) return std::unexpected(alive.error());
  return load_->landing(max);
}

Result<void> Migration::landed(std::size_t size) {
  std::scoped_lock lock(mutex_);
  if (!load_) return no_data_to_write();
  return load_->landed(size);
}

std::unexpected<Error> Migration::no_data_to_write() const {
  return fail(EINVAL,
              fmt::format("write migration data: the device is in {}, which takes none", contract::name(state_)),
              "DAT-DIRECTION");
}

void Migration::refuse_load(Error error) {
  std::scoped_lock lock(mutex_);
  if (load_) load_->refuse(std::move(error));
}

std::uint64_t Migration::data_size() const {
  std::scoped_lock lock(mutex_);
  return save_ ? save_->bytes_left() : SaveSession::estimate(device_, memories_);
}

Result<PrecopyInfo> Migration::precopy_info() {
  std::scoped_lock lock(mutex_);
  if (!contract::is_pre_copy(state_)) {
    return fail(EINVAL, fmt::format("pre-copy information: the device is in {}", contract::name(state_)),
                "PRE-INFO-STATE");
  }
  return save_->precopy_info();
}

Result<PrecopyInfo> Migration::precopy_info_v2() {
  bool renewed = false;
  {
    std::scoped_lock lock(mutex_);
    renewed = contract::is_pre_copy(state_) && save_->renew_initial();
  }
  Result<PrecopyInfo> info = precopy_info();
  if (info && renewed) info->reinit = true;
  return info;
}

Result<void> Migration::take_arc(DeviceState to) {
  const auto arc = std::ranges::find_if(arcs(), [&](const Arc& a) { return a.from == state_ && a.to == to; });
  for (const Step step : arc->steps) {
    if (step == nullptr) break;
    if (Result<void> done = take_step(step); !done) {
      keep_state();
      return fail_within(fmt::format("{} to {}", contract::name(arc->from), contract::name(to)),
                         std::move(done.error()));
    }
  }
  state_ = to;
  if (!contract::is_stopped(to)) unsaved_ = true;
  return {};
}

Result<void> Migration::take_step(Step step) {
  try {
    return (this->*step)();
  } catch (const std::bad_alloc&) {
    return fail(ENOMEM, "out of memory");
  }
}

// An arc failed half-way: the state it set out from is made true again (FSM-FAIL), or else it is ERROR (FSM-ERROR).
// A device that was already stopped needs nothing for a P2P state: it starts nothing until start().
void Migration::keep_state() {
  if (!contract::in_saving_group(state_)) drop_save();
  const bool should_run = state_ == DeviceState::Running || state_ == DeviceState::PreCopy;
  if (!should_run || started_) return;
  if (start()) return;
  end_sessions();
  state_ = DeviceState::Error;
}

// Power-on state, whatever came before; the client's interrupt setup and config space stay as they are.
void Migration::clear_device() {
  interrupts_.hold(true);
  device_.reset();
  interrupts_.reset();
  started_ = false;
  unsaved_ = false;
}

void Migration::drop_save() {
  if (save_) save_->close();
  save_.reset();
}

void Migration::end_sessions() {
  drop_save();
  load_.reset();
}

Result<void> Migration::start() {
  if (Result<void> started = device_.start(); !started) return fail_within("start", std::move(started.error()));
  started_ = true;
  interrupts_.hold(false);
  return {};
}

// An interrupt is a write of the device's, so none leaves in a P2P state either (P2P-INITIATE). What the device still
// raised while it drained has left.
Result<void> Migration::stop_initiating() {
  if (Result<void> stopped = device_.stop_initiating(); !stopped) {
    return fail_within("stop initiating", std::move(stopped.error()));
  }
  started_ = false;
  interrupts_.hold(true);
  return {};
}

Result<void> Migration::stop() {
  if (Result<void> stopped = device_.stop(); !stopped) return fail_within("stop", std::move(stopped.error()));
  return {};
}

Result<void> Migration::open_save() {
  Result<std::shared_ptr<SaveSession>> session = SaveSession::open(device_, memories_);
  if (!session) return std::unexpected(std::move(session.error()));
  save_ = std::move(*session);
  return {};
}

Result<void> Migration::open_pre_copy() {
  Result<void> opened = open_save();
  if (opened) save_->enter_pre_copy();
  return opened;
}

Result<void> Migration::complete_save() { return save_->complete(encode_interrupts(interrupts_)); }

Result<void> Migration::close_save() {
  drop_save();
  return {};
}

// RST-NOT-REQUIRED: whoever loads need not have reset the device, so it is always done here.
Result<void> Migration::open_load() {
  clear_device();
  load_ = std::make_unique<LoadSession>(device_.identity(), memories_,
                                        [this](std::string_view section, std::span<const std::byte> bytes) {
                                          return device_.check_requirement(section, bytes);
                                        });
  return {};
}

// A failure leaves the device cleared and in RESUMING, its session dead: RESUMING is a valid state on the path, no
// other may be reached with a half-loaded device, and of the ways out only a reset is left (RST-ABORTS).
Result<void> Migration::complete_load() {
  Result<LoadSession::Loaded> loaded = load_->finish();
  Result<void> done;
  if (!loaded) {
    done = std::unexpected(loaded.error());
  } else if (done = device_.load(loaded->state); done) {
    done = restore_interrupts(interrupts_, loaded->interrupts);
  }
  if (done) {
    load_.reset();
    return {};
  }
  load_->refuse(done.error());
  clear_device();
  return fail_within("load", std::move(done.error()));
}

}  // namespace gangway
