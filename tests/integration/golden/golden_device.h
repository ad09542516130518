// The devices whose streams are kept: each in a process of its own, brought into a state that is worth keeping.
//
// Thread-safety: one thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <gangway/device_handle.h>

#include "integration/served_process.h"

namespace gangway::golden {

using Bytes = std::vector<std::byte>;

// An access whose result tells the state; in order, since some take what they read.
struct Register {
  std::uint32_t region = 0;
  std::uint64_t offset = 0;
  std::uint32_t size = 0;
};

// What a device needs from its client as long as it works: mapped memory, a driver.
using Surroundings = std::shared_ptr<void>;

struct Kind {
  std::string_view name;                            // of the device, as its streams call it
  Result<Surroundings> (*shape)(DeviceHandle&);     // into the state that is saved
  Result<Surroundings> (*surround)(DeviceHandle&);  // before a stream is loaded
  std::vector<Register> registers;
};
[[nodiscard]] const std::vector<Kind>& kinds();
// nullptr: there is none of that name.
[[nodiscard]] const Kind* find_kind(std::string_view name);

// In a process of its own.
class Served {
 public:
  static Result<Served> start(const Kind& kind);
  [[nodiscard]] DeviceHandle& device() { return *device_; }
  // What the process said so far.
  [[nodiscard]] std::string output() const { return process_.output(); }

 private:
  Served(integration::ServedProcess process, std::unique_ptr<DeviceHandle> device)
      : process_(std::move(process)), device_(std::move(device)) {}

  integration::ServedProcess process_;
  std::unique_ptr<DeviceHandle> device_;
};

// To STOP_COPY and on to RUNNING.
Result<Bytes> save(DeviceHandle& device);
// To RESUMING, and to RUNNING with the stream.
Result<void> load(DeviceHandle& device, const Bytes& stream);

Result<std::vector<Bytes>> read_registers(DeviceHandle& device, const std::vector<Register>& registers);

}  // namespace gangway::golden
