// How the controller is enabled, disabled, shut down, started and stopped.
#include <fmt/format.h>

#include "base/log.h"
#include "devices/nvme/core.h"

namespace gangway::nvme {

// The host's write of CC was answered before this, and CSTS tells the host when it has come about. So the write need
// not wait for this thread, which may itself be waiting for the host: some VMMs serve no DMA during a register access.
bool Core::take_configuration() {
  if (!running_ || noted_.load(std::memory_order_relaxed) == 0) return false;
  carry_out_configuration();
  return true;
}

void Core::carry_out_configuration() {
  if ((noted_.exchange(0) & kNotedDisable) != 0) apply({});
  apply(state_.registers.configuration());
}

void Core::apply(Cc cc) {
  if (!cc.enable()) {
    if (phase_ == Phase::Enabled) begin_disable();
    if (phase_ == Phase::Disabled) {
      // Without a host's queues there is nothing to shut down but the medium, which nothing was written to since.
      state_.registers.csts = cc.shutdown() != 0 ? kCstsShutdownComplete : 0;
    }
    return;
  }
  if (phase_ == Phase::Disabled && !state_.registers.fatal()) enable();
  if (phase_ == Phase::Enabled && cc.shutdown() != 0) begin_shutdown();
}

void Core::enable() {
  auto ready = check_configuration();
  if (ready) ready = lock_images();
  if (!ready) {
    fail(ready.error());
    return;
  }
  state_.memory.set_page_size(1U << state_.registers.configuration().page_shift());
  create_admin_queues();
  state_.registers.csts = kCstsReady;
  phase_ = Phase::Enabled;
}

Result<void> Core::check_configuration() const {
  const Cc cc = state_.registers.configuration();
  if (cc.command_set() != 0) {
    return gangway::fail(EINVAL, fmt::format("CC.CSS {}: only the NVM command set is offered", cc.command_set()));
  }
  if (cc.arbitration() != 0) {
    return gangway::fail(EINVAL, fmt::format("CC.AMS {}: only round robin is offered", cc.arbitration()));
  }
  if (cc.page_shift() > kMaxPageShift) {
    return gangway::fail(EINVAL, fmt::format("CC.MPS: pages of 2^{} bytes are not offered", cc.page_shift()));
  }
  const std::uint32_t aqa = state_.registers.aqa;
  if ((aqa & 0xfffU) == 0 || (aqa >> 16) == 0) {
    return gangway::fail(EINVAL, fmt::format("AQA {:#x}: an admin queue has at least 2 entries", aqa));
  }
  const std::uint64_t page_mask = (1ULL << cc.page_shift()) - 1;
  if (((state_.registers.asq | state_.registers.acq) & page_mask) != 0) {
    return gangway::fail(EINVAL, fmt::format("ASQ {:#x}, ACQ {:#x}: not aligned to the memory page size",
                                             state_.registers.asq.load(), state_.registers.acq.load()));
  }
  return {};
}

void Core::create_admin_queues() {
  const std::uint32_t aqa = state_.registers.aqa;
  state_.doorbells.clear();
  state_.queues.add(CompletionQueue{
      .id = 0, .base = {state_.registers.acq}, .size = (aqa >> 16 & 0xfffU) + 1, .vector = 0, .interrupts = true});
  state_.queues.add(SubmissionQueue{.id = 0, .cq_id = 0, .base = {state_.registers.asq}, .size = (aqa & 0xfffU) + 1});
}

void Core::begin_disable() {
  phase_ = Phase::Disabling;
  io_.abandon();
  if (io_.in_flight() == 0) finish_disable();
}

void Core::finish_disable() {
  state_.clear_session();
  unlock_images();
  phase_ = Phase::Disabled;
  apply(state_.registers.configuration());  // the host may have enabled it again meanwhile
}

void Core::begin_shutdown() {
  if ((state_.registers.csts & kCstsShutdownMask) != 0) return;
  if (io_.free_tasks() == 0) {
    // Everything that could be in flight is: what completes now was written before the shutdown.
    drain();
  }
  state_.registers.set_status(kCstsShutdownMask, kCstsShutdownOccurring);
  io_.flush_all();
  backend_.submit();
}

// A host that is told that the shutdown is complete takes the power away.
void Core::finish_shutdown(const IoTask& task) {
  if (phase_ != Phase::Enabled) return;
  if (task.error() == 0) {
    state_.registers.set_status(kCstsShutdownMask, kCstsShutdownComplete);
    return;
  }
  const Namespace& space = state_.namespaces[task.ImageRequest::file()];
  fail(fail_errno(fmt::format("shutdown: flush {}", space.path().string()), task.error()).error());
}

Result<void> Core::lock_images() {
  for (Namespace& space : state_.namespaces) {
    if (auto locked = space.lock(); !locked) {
      unlock_images();
      return locked;
    }
  }
  return {};
}

void Core::unlock_images() {
  for (Namespace& space : state_.namespaces) space.unlock();
}

void Core::drain() {
  while (io_.in_flight() != 0) {
    backend_.submit();
    if (!collect() && io_.in_flight() != 0) backend_.wait(std::nullopt);
  }
  if (phase_ == Phase::Enabled && !state_.registers.fatal()) flush();
}

Result<void> Core::start() {
  if (phase_ == Phase::Enabled) {
    if (auto locked = lock_images(); !locked) return locked;
  }
  running_ = true;
  state_.logs.start_clock();
  state_.lines.update(state_.queues.waiting_vectors());
  took_ = true;                          // events and completions of a loaded state may wait to be delivered
  noted_.fetch_or(kNotedConfiguration);  // a loaded CC was written on another host
  take_configuration();
  return {};
}

void Core::stop_initiating() {
  take_configuration();
  drain();
  running_ = false;
}

// What the host asked for in P2P is carried out before the state is saved: that it was asked is not part of the state.
void Core::stop() {
  if (noted_.load() != 0) {
    carry_out_configuration();
    drain();
  }
  state_.logs.stop_clock();
  unlock_images();
}

void Core::reset() {
  running_ = false;
  phase_ = Phase::Disabling;  // completions are dropped
  io_.abandon();
  drain();
  state_.clear_session();
  state_.registers.clear();
  state_.logs.clear();
  unlock_images();
  stray_doorbell_ = false;
  noted_ = 0;
  took_ = false;
  phase_ = Phase::Disabled;
}

void Core::adopt_state() {
  noted_ = 0;
  state_.memory.set_page_size(1U << state_.registers.configuration().page_shift());
  phase_ = state_.registers.ready() ? Phase::Enabled : Phase::Disabled;
}

}  // namespace gangway::nvme
