// What a client reads out of a server's list of the stretches whose writes a descriptor tells.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include <gangway/device_handle.h>
#include <gangway/error.h>
#include <gangway/fd.h>

namespace gangway::vfio_user {

// `entries` is what followed the structure of GET_REGION_IO_FDS, `fds` what came beside it. EPROTO when they are not
// `count` entries of one length, name a descriptor that did not come, or do not lie in a region of that size.
Result<std::vector<DeviceHandle::IoFd>> to_io_fds(std::uint64_t region_size, std::uint32_t count,
                                                  std::span<const std::byte> entries, std::vector<Fd> fds);

}  // namespace gangway::vfio_user
