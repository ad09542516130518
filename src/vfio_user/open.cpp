#include <fmt/format.h>

#include "vfio_user/client.h"

namespace gangway {

Result<std::unique_ptr<DeviceHandle>> open_device(std::string_view target, const OpenOptions& options) {
  constexpr std::string_view kVfioUser = "vfio-user:";
  if (!target.starts_with(kVfioUser) || target.size() == kVfioUser.size()) {
    return fail(EINVAL, fmt::format("target '{}': say vfio-user:SOCKET", target));
  }
  return vfio_user::Client::connect(target.substr(kVfioUser.size()), {.open = options});
}

}  // namespace gangway
