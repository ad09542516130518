#include "vfio_user/io_fds.h"

#include <memory>

#include <fmt/format.h>

#include "base/bytes.h"
#include "vfio_user/protocol.h"

namespace gangway::vfio_user {

// An entry may be longer than what is known of it: all are as long as the first.
Result<std::vector<DeviceHandle::IoFd>> to_io_fds(std::uint64_t region_size, std::uint32_t count,
                                                  std::span<const std::byte> entries, std::vector<Fd> fds) {
  const auto wrong = [](std::string_view what) {
    return fail(EPROTO, fmt::format("GET_REGION_IO_FDS: {}", what), "WIR-FRAME");
  };
  std::vector<DeviceHandle::IoFd> found;
  if (count == 0) return found;
  const std::size_t stride = entries.size() / count;
  if (stride < sizeof(SubRegionIoeventfd) || entries.size() % count != 0) {
    return wrong(fmt::format("{} stretches in {} bytes", count, entries.size()));
  }
  std::vector<std::shared_ptr<const Fd>> files;
  for (Fd& fd : fds) files.push_back(std::make_shared<const Fd>(std::move(fd)));
  for (std::uint32_t i = 0; i < count; ++i) {
    const auto entry = *load_at<SubRegionIoeventfd>(entries, i * stride);
    if (entry.fd_index >= files.size()) {
      return wrong(fmt::format("descriptor {} of the {} that came", entry.fd_index, files.size()));
    }
    if (entry.offset >= region_size || entry.size > region_size - entry.offset) {
      return wrong(fmt::format("{} bytes at {:#x} cross the end of the region (size {:#x})", entry.size, entry.offset,
                               region_size));
    }
    found.push_back({.offset = entry.offset,
                     .size = entry.size,
                     .type = entry.type,
                     .flags = entry.flags,
                     .data = entry.datamatch,
                     .file = files[entry.fd_index]});
  }
  return found;
}

}  // namespace gangway::vfio_user
