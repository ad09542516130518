#include "kernel/node.h"

#include <fcntl.h>

#include <cstring>

#include <fmt/format.h>

namespace gangway::kernel {

Result<Fd> open_node(const std::filesystem::path& node, std::string_view absent) {
  const int fd = ::open(node.c_str(), O_RDWR | O_CLOEXEC);
  if (fd < 0) return std::unexpected(why_not_opened(node, errno, absent));
  return Fd(fd);
}

Error why_not_opened(const std::filesystem::path& node, int error_number, std::string_view absent) {
  const auto says = [&](std::string_view what) {
    return Error{error_number, fmt::format("{}: {}", node.native(), what), {}};
  };
  switch (error_number) {
    case ENOENT:
    case ENXIO:
      return says(absent);
    case EACCES:
    case EPERM:
      return says(
          fmt::format("permission denied: as root, chown USER {0} (or chgrp, and chmod g+rw {0})", node.native()));
    case EBUSY:
      return says("it is in use: by another process, or by another handle of this one");
    case ENODEV:
      return says("there is no driver behind it any more");
    default:
      return says(::strerrordesc_np(error_number));
  }
}

}  // namespace gangway::kernel
