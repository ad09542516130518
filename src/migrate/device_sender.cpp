#include "migrate/device_sender.h"

#include <algorithm>
#include <limits>

#include <fmt/format.h>

#include "base/bytes.h"
#include "base/log.h"
#include "migrate/config_space.h"
#include "migrate/take_back.h"

namespace gangway::migrate {
namespace {

// A device that changes faster than it is read would never come to a temporary end: a visit takes what it says it has
// and a little more.
constexpr std::uint64_t kVisitMargin = 4ULL << 20;

std::unexpected<Error> of_device(std::string_view id, Error error) {
  return fail_within(fmt::format("device {}", id), std::move(error));
}

}  // namespace

DeviceSender::DeviceSender(std::span<const MachineDevice> devices, const Setup& setup, Channel& channel, Meter& meter)
    : machine_devices_(devices), channel_(channel), meter_(meter), buffer_(kDeviceDataBytes) {
  for (std::size_t i = 0; i < devices.size(); ++i) {
    const auto flags = MigrationFlags::from_bits(setup.devices[i].flags).value_or(MigrationFlags{});
    devices_.push_back({.id = devices[i].id, .handle = devices[i].handle, .flags = flags});
  }
}

Result<void> DeviceSender::send_configs() {
  for (std::uint32_t i = 0; i < devices_.size(); ++i) {
    auto config = save_config(*devices_[i].handle);
    if (!config) return of_device(devices_[i].id, config.error());
    if (auto sent = channel_.send(MessageType::DeviceConfig, bytes_of(i), *config); !sent) return sent;
  }
  return {};
}

Result<void> DeviceSender::set_state(Device& device, DeviceState state) {
  touched_ = true;
  if (auto set = device.handle->set_state(state); !set) {
    return of_device(device.id,
                     Error{set.error().code, fmt::format("to {}: {}", contract::name(state), set.error().message),
                           set.error().clause});
  }
  return {};
}

Result<void> DeviceSender::start_pre_copy() {
  for (Device& device : devices_) {
    if (!device.flags.pre_copy) continue;
    if (auto set = set_state(device, DeviceState::PreCopy); !set) return set;
  }
  return {};
}

Result<void> DeviceSender::send_pre_copy() {
  for (std::size_t i = 0; i < devices_.size(); ++i) {
    if (!devices_[i].flags.pre_copy) continue;
    if (auto sent = send_data(i, Until::TemporaryEnd); !sent) return sent;
  }
  return {};
}

Result<void> DeviceSender::send_rest() {
  for (std::size_t i = 0; i < devices_.size(); ++i) {
    if (auto sent = send_data(i, Until::End); !sent) return sent;
  }
  return {};
}

Result<void> DeviceSender::send_data(std::size_t index, Until until) {
  Device& device = devices_[index];
  std::uint64_t room = std::numeric_limits<std::uint64_t>::max();
  if (until == Until::TemporaryEnd) {
    auto left = remaining_of(device);
    if (!left) return of_device(device.id, left.error());
    room = *left + kVisitMargin;
  }
  const auto number = static_cast<std::uint32_t>(index);
  while (room != 0) {
    const std::span out = std::span(buffer_).first(std::min<std::uint64_t>(buffer_.size(), room));
    auto read = until == Until::End ? device.handle->read_ahead(out) : device.handle->read_data(out);
    if (!read) return of_device(device.id, read.error());
    if (read->size > out.size()) return of_device(device.id, Error{EPROTO, "more migration data than asked for", {}});
    if (read->size != 0) {
      auto sent = channel_.send(MessageType::DeviceData, bytes_of(number), out.first(read->size));
      if (!sent) return sent;
      meter_.sent_device(read->size);
      meter_.tick();
    }
    if (read->end != StreamEnd::More) return {};
    if (read->size == 0) return of_device(device.id, Error{EPROTO, "no migration data and no end of it", {}});
    room -= read->size;
  }
  return {};
}

Result<std::uint64_t> DeviceSender::remaining() {
  std::uint64_t sum = 0;
  for (Device& device : devices_) {
    auto left = remaining_of(device);
    if (!left) return of_device(device.id, left.error());
    sum += *left;
  }
  return sum;
}

Result<std::uint64_t> DeviceSender::remaining_of(Device& device) {
  if (device.flags.pre_copy) {
    if (auto info = device.handle->precopy_info()) return info->initial_bytes + info->dirty_bytes;
    // A transport that cannot ask, a device that does not say: the estimate of the whole serves.
  }
  auto size = device.handle->data_size();
  if (!size && size.error().code == ENOTTY) return 0;
  return size;
}

Result<void> DeviceSender::stop_initiating() {
  for (Device& device : devices_) {
    if (!device.flags.p2p) continue;
    const DeviceState state = device.flags.pre_copy ? DeviceState::PreCopyP2p : DeviceState::RunningP2p;
    if (auto set = set_state(device, state); !set) return set;
  }
  return {};
}

Result<void> DeviceSender::stop() {
  for (Device& device : devices_) {
    if (auto set = set_state(device, DeviceState::StopCopy); !set) return set;
  }
  return {};
}

void DeviceSender::leave() {
  for (Device& device : devices_) {
    if (auto set = set_state(device, DeviceState::Stop); !set) log::warn("{}", set.error().message);
  }
}

Result<void> DeviceSender::take_back() {
  if (!touched_) return {};
  return migrate::take_back(machine_devices_);
}

}  // namespace gangway::migrate
