#include "vfio_user/session.h"

#include <algorithm>
#include <array>

#include "vfio_user/handlers.h"

namespace gangway::vfio_user {
namespace {

struct Entry {
  Command command;
  std::size_t least;  // bytes of body
  Handler handler;
};

// clang-format off
constexpr std::array kCommands{
    Entry{Command::Version,              sizeof(Version),          handle_version},
    Entry{Command::DmaMap,               sizeof(DmaMap),           handle_dma_map},
    Entry{Command::DmaUnmap,             sizeof(DmaUnmap),         handle_dma_unmap},
    Entry{Command::DeviceGetInfo,        sizeof(DeviceInfo),       handle_get_info},
    Entry{Command::DeviceGetRegionInfo,  sizeof(RegionInfo),       handle_get_region_info},
    Entry{Command::DeviceGetRegionIoFds, sizeof(RegionIoFds),      handle_get_region_io_fds},
    Entry{Command::DeviceGetIrqInfo,     sizeof(IrqInfo),          handle_get_irq_info},
    Entry{Command::DeviceSetIrqs,        sizeof(IrqSet),           handle_set_irqs},
    Entry{Command::RegionRead,           sizeof(RegionAccess),     handle_region_read},
    Entry{Command::RegionWrite,          sizeof(RegionAccess),     handle_region_write},
    Entry{Command::DeviceReset,          0,                        handle_reset},
    Entry{Command::RegionWriteMulti,     sizeof(RegionWriteMulti), handle_region_write_multi},
    Entry{Command::DeviceFeature,        sizeof(FeatureHeader),    handle_feature},
    Entry{Command::MigDataRead,          sizeof(MigData),          handle_mig_data_read},
    Entry{Command::MigDataWrite,         0,                        handle_mig_data_write},
    Entry{Command::MigDataReadShared,    sizeof(MigDataShared),    handle_mig_data_read_shared},
    Entry{Command::MigDataWriteShared,   0,                        handle_mig_data_write_shared},
};
// clang-format on

}  // namespace

Result<void> handle(Session& session, Message& message, Answer& answer) {
  const Entry* entry = std::ranges::find(kCommands, message.command(), &Entry::command);
  if (!session.negotiated && message.command() != Command::Version) {
    session.end = Error{EPROTO, fmt::format("command {} before VERSION", message.header.command), "WIR-NEGOTIATE"};
    return std::unexpected(*session.end);
  }
  if (entry == kCommands.end()) {
    return fail(ENOTSUP, fmt::format("command {}: unknown", message.header.command), "WIR-FRAME");
  }
  if (message.body.size() < entry->least) {
    return fail(EINVAL,
                fmt::format("command {}: {} bytes of body, at least {} are needed", message.header.command,
                            message.body.size(), entry->least),
                "WIR-FRAME");
  }
  return entry->handler(session, {message.header, message.body.bytes(), message.placed, message.fds}, answer);
}

Capabilities capabilities_of(Endpoint& endpoint, std::uint32_t max_data_xfer_size) {
  return {.max_msg_fds = kMaxMsgFds,
          .max_data_xfer_size = std::min(max_data_xfer_size, kLargestDataXferSize),
          .max_dma_maps = std::min<std::uint64_t>(endpoint.dma().max_maps(), kDefaultMaxDmaMaps),
          .page_sizes = kDefaultPageSizes,
          .write_multiple = true,
          .twin_socket = true,
          .enomsg = true,
          .precopy_info = true,
          .shared_data = endpoint.migration() != nullptr};
}

}  // namespace gangway::vfio_user
