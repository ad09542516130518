#include "migrate/device_receiver.h"

#include <utility>

#include <fmt/format.h>

#include "base/bytes.h"
#include "base/log.h"
#include "migrate/config_space.h"
#include "migrate/message.h"

namespace gangway::migrate {
namespace {

std::unexpected<Error> of_device(const MachineDevice& device, Error error) {
  return fail_within(fmt::format("device {}", device.id), std::move(error));
}

}  // namespace

Result<DeviceReceiver::Addressed> DeviceReceiver::address(std::span<const std::byte> payload) const {
  const auto index = load_at<std::uint32_t>(payload);
  if (!index) return fail(EPROTO, fmt::format("a device's message of {} bytes", payload.size()));
  if (*index >= progress_.size()) return fail(EPROTO, fmt::format("device {} of {}", *index, progress_.size()));
  return Addressed{*index, payload.subspan(kDeviceHeadBytes)};
}

Result<void> DeviceReceiver::set_state(std::size_t index, DeviceState state) {
  const MachineDevice& device = machine_.devices()[index];
  if (auto set = device.handle->set_state(state); !set) {
    return of_device(device,
                     Error{set.error().code, fmt::format("to {}: {}", contract::name(state), set.error().message),
                           set.error().clause});
  }
  return {};
}

// A SET that failed may have come so far (FSM-FAIL), and one whose answer did not come in time may yet be carried out:
// only a device that says that it stands still did not run. ERROR says nothing of what was before.
Result<void> DeviceReceiver::set_running(std::size_t index, DeviceState state) {
  auto set = set_state(index, state);
  if (set) {
    ran_ = true;
    return set;
  }
  const auto now = machine_.devices()[index].handle->state();
  if (!now || !contract::is_stopped(*now) || *now == DeviceState::Error) ran_ = true;
  return set;
}

Result<void> DeviceReceiver::receive_config(std::span<const std::byte> payload) {
  auto to = address(payload);
  if (!to) return std::unexpected(to.error());
  const MachineDevice& device = machine_.devices()[to->index];
  Progress& progress = progress_[to->index];
  if (!progress.touched) {
    progress.touched = true;
    if (auto prepared = machine_.prepare_device(to->index); !prepared) return of_device(device, prepared.error());
  }
  if (auto restored = restore_config(*device.handle, to->body); !restored) return of_device(device, restored.error());
  if (progress.resuming) return {};
  // From whatever state it is in, without a reset (RST-NOT-REQUIRED).
  if (auto set = set_state(to->index, DeviceState::Resuming); !set) return set;
  progress.resuming = true;
  return {};
}

Result<void> DeviceReceiver::receive_data(std::span<const std::byte> payload) {
  auto to = address(payload);
  if (!to) return std::unexpected(to.error());
  const MachineDevice& device = machine_.devices()[to->index];
  if (!progress_[to->index].resuming) return of_device(device, Error{EPROTO, "data before its config space", {}});
  if (to->body.empty()) return of_device(device, Error{EPROTO, "a message without data", {}});
  progress_[to->index].settled = false;
  if (auto written = device.handle->write_behind(to->body); !written) return of_device(device, written.error());
  bytes_received_ += to->body.size();
  return {};
}

Result<void> DeviceReceiver::settle() {
  for (std::size_t i = 0; i < progress_.size(); ++i) {
    if (std::exchange(progress_[i].settled, true)) continue;
    const MachineDevice& device = machine_.devices()[i];
    if (auto settled = device.handle->settle(); !settled) return of_device(device, settled.error());
  }
  return {};
}

Result<void> DeviceReceiver::load() {
  if (auto settled = settle(); !settled) return settled;
  for (std::size_t i = 0; i < progress_.size(); ++i) {
    const MachineDevice& device = machine_.devices()[i];
    if (!progress_[i].resuming) return of_device(device, Error{ENODATA, "nothing of it came", {}});
    if (auto set = set_state(i, DeviceState::Stop); !set) return set;
  }
  return {};
}

Result<void> DeviceReceiver::run() {
  for (std::size_t i = 0; i < progress_.size(); ++i) {
    auto flags = machine_.devices()[i].handle->migration_flags();
    if (!flags) return of_device(machine_.devices()[i], flags.error());
    if (!flags->p2p) continue;
    if (auto set = set_running(i, DeviceState::RunningP2p); !set) return set;
  }
  for (std::size_t i = 0; i < progress_.size(); ++i) {
    if (auto set = set_running(i, DeviceState::Running); !set) return set;
  }
  return {};
}

void DeviceReceiver::reset() {
  for (std::size_t i = 0; i < progress_.size(); ++i) {
    if (!progress_[i].touched) continue;
    const MachineDevice& device = machine_.devices()[i];
    if (auto reset = device.handle->reset(); !reset) log::warn("device {}: {}", device.id, reset.error().message);
    progress_[i] = {};
  }
}

}  // namespace gangway::migrate
