// Takes a machine's devices into RESUMING, loads them, and makes them run.
//
// Thread-safety: one thread.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include <gangway/error.h>

#include "migrate/machine.h"

namespace gangway::migrate {

class DeviceReceiver {
 public:
  explicit DeviceReceiver(Machine& machine) : machine_(machine) { progress_.resize(machine.devices().size()); }

  // DEVICE_CONFIG. The first one for a device also prepares it and takes it to RESUMING.
  Result<void> receive_config(std::span<const std::byte> payload);
  // DEVICE_DATA.
  Result<void> receive_data(std::span<const std::byte> payload);
  // Waits until the devices have taken what came, which is where they refuse it: before anything else is received, so
  // that a wrong destination is found out before any memory comes (DAT-IDENTITY). Costs nothing when nothing came.
  Result<void> settle();
  // Everything came: RESUMING → STOP, which is where a device refuses a bad stream (DAT-VALIDATE).
  Result<void> load();
  // All to RUNNING_P2P, then all to RUNNING (P2P-ORDER).
  Result<void> run();

  // True once a device may have reached the outside world: it was told to run, and did, or does not say that it stands
  // still. RUNNING_P2P counts as running: a device that tells P2P DMA from other DMA stops the former alone there.
  [[nodiscard]] bool ran() const { return ran_; }
  // After a failure: every device that was touched is as new.
  void reset();

  [[nodiscard]] std::uint64_t bytes_received() const { return bytes_received_; }

 private:
  struct Progress {
    bool touched = false;
    bool resuming = false;
    bool settled = true;  // it has taken all that came
  };
  struct Addressed {
    std::uint32_t index = 0;
    std::span<const std::byte> body;
  };
  Result<Addressed> address(std::span<const std::byte> payload) const;
  Result<void> set_state(std::size_t index, DeviceState state);
  Result<void> set_running(std::size_t index, DeviceState state);

  Machine& machine_;
  std::vector<Progress> progress_;
  std::uint64_t bytes_received_ = 0;
  bool ran_ = false;
};

}  // namespace gangway::migrate
