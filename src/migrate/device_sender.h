// Takes a machine's devices from RUNNING to STOP_COPY and sends their data, or takes them back.
//
// All devices go through a step before any takes the next one: all start no more DMA before any is stopped
// (P2P-ORDER).
//
// Thread-safety: one thread.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include <gangway/error.h>

#include "migrate/channel.h"
#include "migrate/machine.h"
#include "migrate/meter.h"
#include "migrate/setup.h"

namespace gangway::migrate {

class DeviceSender {
 public:
  // `setup` describes the same devices.
  DeviceSender(std::span<const MachineDevice> devices, const Setup& setup, Channel& channel, Meter& meter);

  Result<void> send_configs();

  // Devices that have PRE_COPY enter it.
  Result<void> start_pre_copy();
  // What they have now, up to the temporary end.
  Result<void> send_pre_copy();
  // Bytes that would be left to send if they were stopped now, about.
  Result<std::uint64_t> remaining();

  Result<void> stop_initiating();
  Result<void> stop();
  Result<void> send_rest();

  // After the destination runs: STOP, so that nothing here is open any more.
  void leave();
  // All back to RUNNING from wherever they are; a device that cannot is reset. The first error, after trying all.
  Result<void> take_back();

 private:
  struct Device {
    std::string id;
    DeviceHandle* handle = nullptr;
    MigrationFlags flags;
  };
  enum class Until { TemporaryEnd, End };
  Result<void> set_state(Device& device, DeviceState state);
  Result<void> send_data(std::size_t index, Until until);
  Result<std::uint64_t> remaining_of(Device& device);

  const std::span<const MachineDevice> machine_devices_;
  std::vector<Device> devices_;
  Channel& channel_;
  Meter& meter_;
  std::vector<std::byte> buffer_;
  bool touched_ = false;  // a state was changed
};

}  // namespace gangway::migrate
