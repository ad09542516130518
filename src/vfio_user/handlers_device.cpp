#include "vfio_user/handlers.h"

namespace gangway::vfio_user {

Result<void> handle_get_info(Session& session, const Request& request, Answer& answer) {
  const auto info = fixed_part<DeviceInfo>(request);
  if (Result<void> fits = check_argsz("GET_INFO", info.argsz, sizeof info); !fits) return fits;
  answer.put(DeviceInfo{.argsz = sizeof info,
                        .flags = kDeviceReset | kDevicePci,
                        .regions = session.endpoint.region_count(),
                        .irqs = session.endpoint.irq_count()});
  return {};
}

Result<void> handle_reset(Session& session, const Request&, Answer&) { return session.endpoint.reset(); }

}  // namespace gangway::vfio_user
