#include "devices/nvme/image_lock.h"

#include <fcntl.h>
#include <unistd.h>

#include <fmt/format.h>

namespace gangway::nvme {
namespace {

// A length of 0 is the whole file, however it grows.
struct flock whole_file(short type) {
  struct flock range{};
  range.l_type = type;
  range.l_whence = SEEK_SET;
  return range;
}

}  // namespace

Result<void> ImageLock::take(const std::filesystem::path& image) {
  if (held_) return {};
  struct flock range = whole_file(kind_ == LockKind::Exclusive ? F_WRLCK : F_RDLCK);
  if (::fcntl(fd_, F_OFD_SETLK, &range) != 0) {
    if (errno == EAGAIN || errno == EACCES) {
      return fail(EBUSY, fmt::format("image {}: another controller has it {}", image.string(),
                                     kind_ == LockKind::Exclusive ? "in use" : "open for writing"));
    }
    return fail_errno(fmt::format("lock image {}", image.string()));
  }
  held_ = true;
  return {};
}

void ImageLock::release() {
  if (!held_) return;
  struct flock range = whole_file(F_UNLCK);
  ::fcntl(fd_, F_OFD_SETLK, &range);
  held_ = false;
}

}  // namespace gangway::nvme
