// A machine with memory and served devices that write it.
#pragma once

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "served_device.h"
#include "test_machine.h"

namespace gangway::migrate {

struct Host {
  explicit Host(const std::vector<MigrationFlags>& flags, const ScribeOptions& options = {})
      : machine({{"ram0", 0, 512}, {"ram1", 0x100000000, 512}}) {
    for (std::size_t i = 0; i < flags.size(); ++i) {
      devices.push_back(std::make_unique<ServedDevice>(flags[i], options));
      ServedDevice& device = *devices.back();
      const std::string name = "dev" + std::to_string(i);
      device.handle().record_into(log, name);
      machine.devices_.push_back({.id = name, .handle = &device.handle()});
    }
  }
  // What a source has: mapped memory, and devices that write it.
  void start() {
    for (std::size_t i = 0; i < devices.size(); ++i) {
      devices[i]->map(machine);
      mapped_[i] = true;
      devices[i]->scribble(machine.memory()[i % 2]);
    }
  }
  // What a destination has: maps when a device is prepared.
  void wait() {
    machine.set_running(false);
    machine.on_prepare = [this](std::size_t i) -> Result<void> {
      devices[i]->handle().record("prepared");
      if (!mapped_[i]) devices[i]->map(machine);
      mapped_[i] = true;
      return {};
    };
  }
  [[nodiscard]] std::ptrdiff_t first(const std::string& entry) const {
    return std::ranges::find(*log, entry) - log->begin();
  }
  [[nodiscard]] bool has(const std::string& entry) const { return std::ranges::find(*log, entry) != log->end(); }

  TestMachine machine;
  std::shared_ptr<RecordingHandle::Log> log = std::make_shared<RecordingHandle::Log>();
  std::vector<std::unique_ptr<ServedDevice>> devices;

 private:
  std::map<std::size_t, bool> mapped_;
};

}  // namespace gangway::migrate
