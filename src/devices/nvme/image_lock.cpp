#include "devices/nvme/image_lock.h"

#include <fcntl.h>
#include <unistd.h>

#include <chrono>
#include <thread>

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

constexpr int kTries = 100;
constexpr std::chrono::milliseconds kBetweenTries{10};

}  // namespace

Result<void> ImageLock::take(const std::filesystem::path& image) {
  if (held_) return {};
  struct flock range = whole_file(kind_ == LockKind::Exclusive ? F_WRLCK : F_RDLCK);
  // A process that was killed keeps its lock until the kernel has ended its io_uring, a little after it is gone.
  int result = ::fcntl(fd_, F_OFD_SETLK, &range);
  for (int tries = 0; result != 0 && (errno == EAGAIN || errno == EACCES) && tries < kTries; ++tries) {
    std::this_thread::sleep_for(kBetweenTries);
    result = ::fcntl(fd_, F_OFD_SETLK, &range);
  }
  if (result != 0) {
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
