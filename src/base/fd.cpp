#include <gangway/fd.h>

#include <fcntl.h>
#include <unistd.h>

namespace gangway {

void Fd::reset(int fd) noexcept {
  if (fd_ >= 0) ::close(fd_);
  fd_ = fd;
}

Result<Fd> Fd::duplicate() const {
  const int copy = ::fcntl(fd_, F_DUPFD_CLOEXEC, 0);
  if (copy < 0) return fail_errno("duplicate a descriptor");
  return Fd(copy);
}

}  // namespace gangway
