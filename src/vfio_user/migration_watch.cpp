#include "vfio_user/migration_watch.h"

namespace gangway::vfio_user {
namespace {

// Where the state still changes: whoever saved the device left it in STOP_COPY or STOP.
bool runs(DeviceState state) {
  return state == DeviceState::Running || state == DeviceState::RunningP2p || state == DeviceState::PreCopy ||
         state == DeviceState::PreCopyP2p;
}

}  // namespace

std::optional<std::string> MigrationWatch::carried_out(Command command, Endpoint& endpoint) {
  if (command == Command::DeviceFeature) asked_ = true;
  if (drives_ || !endpoint.bus_master()) return std::nullopt;
  drives_ = true;
  if (asked_ || endpoint.migration() == nullptr) return std::nullopt;
  return "the client drives the device and has not asked whether it can migrate; a client that never asks leaves the "
         "device's state behind when its guest migrates";
}

std::optional<std::string> MigrationWatch::gone(Endpoint& endpoint) const {
  const bool drove = endpoint.bus_master() && endpoint.dma().used();
  if (!drove || endpoint.migration() == nullptr || !runs(endpoint.migration()->state())) return std::nullopt;
  return "the client is gone and had not saved the device, which was running and had done DMA; if its guest goes on "
         "elsewhere, it goes on without the device's state";
}

}  // namespace gangway::vfio_user
