#include "migrate/take_back.h"

#include <fmt/format.h>

#include "base/log.h"

namespace gangway::migrate {

Result<void> take_back(std::span<const MachineDevice> devices) {
  // A stopped device could be addressed by one that runs already, so all answer again before any initiates (P2P-ORDER).
  for (const MachineDevice& device : devices) {
    const auto flags = device.handle->migration_flags();
    const auto state = device.handle->state();
    if (flags && flags->p2p && state && contract::is_stopped(*state)) {
      (void)device.handle->set_state(DeviceState::RunningP2p);
    }
  }
  Result<void> first;
  for (const MachineDevice& device : devices) {
    auto back = device.handle->set_state(DeviceState::Running);
    if (back) continue;
    back = fail_within(fmt::format("device {}: to RUNNING", device.id), back.error());
    log::error("{}; it is reset, and has lost its state", back.error().message);
    if (auto reset = device.handle->reset(); !reset) {
      back = fail_within(fmt::format("device {}", device.id), reset.error());
    }
    if (first) first = std::move(back);
  }
  return first;
}

}  // namespace gangway::migrate
