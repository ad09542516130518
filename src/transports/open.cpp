#include <fmt/format.h>

#include <gangway/device_handle.h>

#include "kernel/device.h"
#include "vfio_user/client.h"

namespace gangway {
namespace {

// What follows a transport's prefix, or the whole target where the prefix is part of a path.
struct Transport {
  std::string_view prefix;
  bool is_path;
  Result<std::unique_ptr<DeviceHandle>> (*open)(std::string_view rest, const OpenOptions& options);
};

constexpr Transport kTransports[] = {
    {"vfio-user:", false,
     [](std::string_view socket, const OpenOptions& options) -> Result<std::unique_ptr<DeviceHandle>> {
       return vfio_user::Client::connect(socket, {.open = options});
     }},
    {"vfio:", false,
     [](std::string_view name, const OpenOptions& options) -> Result<std::unique_ptr<DeviceHandle>> {
       return kernel::Device::open_named(name, options);
     }},
    {"/dev/vfio/devices/", true,
     [](std::string_view node, const OpenOptions& options) -> Result<std::unique_ptr<DeviceHandle>> {
       return kernel::Device::open_node(node, options);
     }},
};

}  // namespace

Result<std::unique_ptr<DeviceHandle>> open_device(std::string_view target, const OpenOptions& options) {
  for (const Transport& transport : kTransports) {
    if (!target.starts_with(transport.prefix) || target.size() == transport.prefix.size()) continue;
    return transport.open(transport.is_path ? target : target.substr(transport.prefix.size()), options);
  }
  return fail(EINVAL, fmt::format("target '{}': say vfio-user:SOCKET, vfio:ADDRESS (or vfio:UUID), or "
                                  "/dev/vfio/devices/vfioN",
                                  target));
}

}  // namespace gangway
