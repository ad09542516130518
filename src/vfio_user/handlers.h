// One function a command of the client. The request's body is at least as long as the table in session.cpp says.
#pragma once

#include <fmt/format.h>

#include "base/bytes.h"
#include "vfio_user/session.h"

namespace gangway::vfio_user {

using Handler = Result<void> (*)(Session&, const Request&, Answer&);

Result<void> handle_version(Session& session, const Request& request, Answer& answer);
Result<void> handle_dma_map(Session& session, const Request& request, Answer& answer);
Result<void> handle_dma_unmap(Session& session, const Request& request, Answer& answer);
Result<void> handle_get_info(Session& session, const Request& request, Answer& answer);
Result<void> handle_get_region_info(Session& session, const Request& request, Answer& answer);
Result<void> handle_get_region_io_fds(Session& session, const Request& request, Answer& answer);
Result<void> handle_get_irq_info(Session& session, const Request& request, Answer& answer);
Result<void> handle_set_irqs(Session& session, const Request& request, Answer& answer);
Result<void> handle_region_read(Session& session, const Request& request, Answer& answer);
Result<void> handle_region_write(Session& session, const Request& request, Answer& answer);
Result<void> handle_region_write_multi(Session& session, const Request& request, Answer& answer);
Result<void> handle_reset(Session& session, const Request& request, Answer& answer);
Result<void> handle_feature(Session& session, const Request& request, Answer& answer);
Result<void> handle_mig_data_read(Session& session, const Request& request, Answer& answer);
Result<void> handle_mig_data_write(Session& session, const Request& request, Answer& answer);
Result<void> handle_mig_data_read_shared(Session& session, const Request& request, Answer& answer);
Result<void> handle_mig_data_write_shared(Session& session, const Request& request, Answer& answer);

// The fixed part of a request; the caller knows that the body holds it.
template <class T>
[[nodiscard]] T fixed_part(const Request& request) {
  return *load_at<T>(request.body);
}

// A client that announces room for less than the fixed part of a reply gets none (WIR-REPLY).
inline Result<void> check_argsz(std::string_view what, std::uint32_t argsz, std::uint64_t least) {
  if (argsz >= least) return {};
  return fail(EINVAL, fmt::format("{}: argsz {} is less than {}", what, argsz, least), "WIR-REPLY");
}

}  // namespace gangway::vfio_user
