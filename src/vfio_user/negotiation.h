// What two peers tell each other in VERSION.
//
// Limits (descriptors, transfer size, maps, page sizes) are what a side says of itself: each keeps to the other's.
// Abilities (write_multiple, twin_socket, and ours under the key "gangway") hold when both have them; a peer that does
// not know our key gets the plain protocol. docs/vfio-user.md lists them.
//
// Source: QEMU docs/interop/vfio-user.rst, VFIO_USER_VERSION; clause WIR-NEGOTIATE.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include <gangway/error.h>

#include "vfio_user/protocol.h"

namespace gangway::vfio_user {

// A plain value: what one side said. The defaults are what its silence means.
struct Capabilities {
  std::uint32_t max_msg_fds = kDefaultMaxMsgFds;
  std::uint32_t max_data_xfer_size = kDefaultMaxDataXferSize;  // 0: takes no data messages
  std::uint64_t max_dma_maps = kDefaultMaxDmaMaps;
  std::uint64_t page_sizes = kDefaultPageSizes;
  bool write_multiple = false;
  bool twin_socket = false;
  std::optional<std::uint32_t> twin_fd_index;
  bool enomsg = false;                 // MIG_DATA_READ answers ENOMSG for the temporary end of pre-copy
  bool precopy_info = false;           // PRECOPY_INFO and PRECOPY_INFOv2 are served
  bool named_migration = false;        // the key that the specification had until migration became a device feature
  bool named_dma_limits = false;       // pgsizes or max_dma_maps
  bool named_transfer_limits = false;  // max_msg_fds and max_data_xfer_size
  bool shared_data = false;            // migration data may be handed over in shared memory

  friend bool operator==(const Capabilities&, const Capabilities&) = default;
};

// The JSON behind struct Version: absent, empty, NUL-terminated or not. Unknown keys are ignored, values beyond what a
// type holds are cut to its greatest. EINVAL for what is no JSON object and for known keys of a wrong type.
Result<Capabilities> parse_capabilities(std::span<const std::byte> json);

// Every limit, and those abilities that are set. Ends with a NUL.
std::string to_json(const Capabilities& capabilities);

// What the sample client of libvfio-user says, and hardly anybody else: limits of messages, none of DMA, and none of
// the abilities that others name. Source: nutanix/libvfio-user samples/client.c, send_version.
[[nodiscard]] bool is_libvfio_user_client(const Capabilities& client);

// `own` without the abilities that `peer` did not name.
Capabilities common(Capabilities own, const Capabilities& peer);

}  // namespace gangway::vfio_user
