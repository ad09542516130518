#include "guest/userfaultfd.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif
#ifndef UFFD_FEATURE_WP_HUGETLBFS_SHMEM
#define UFFD_FEATURE_WP_HUGETLBFS_SHMEM (1 << 12)
#endif
#ifndef UFFD_FEATURE_WP_UNPOPULATED
#define UFFD_FEATURE_WP_UNPOPULATED (1 << 13)
#endif
#ifndef UFFD_FEATURE_WP_ASYNC
#define UFFD_FEATURE_WP_ASYNC (1 << 15)
#endif
#ifndef USERFAULTFD_IOC_NEW
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00)
#endif

namespace gangway::guest {
namespace {

uffdio_range range_of(std::span<std::byte> memory) {
  return {.start = reinterpret_cast<std::uintptr_t>(memory.data()), .len = memory.size()};
}

int open_through_device() {
  const Fd device(::open("/dev/userfaultfd", O_RDWR | O_CLOEXEC));
  return device ? ::ioctl(device.get(), USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK) : -1;
}

// With faults of the kernel (a system call that writes) where we may, else of user mode alone. Asynchronous protection
// never stops anybody, so it catches both in either case.
int open_file(Userfaultfd::Mode mode) {
  const auto by_call = [](int flags) {
    return static_cast<int>(::syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | flags));
  };
  if (mode == Userfaultfd::Mode::Asynchronous) return by_call(UFFD_USER_MODE_ONLY);
  if (const int file = by_call(0); file >= 0) return file;
  if (const int file = open_through_device(); file >= 0) return file;
  return by_call(UFFD_USER_MODE_ONLY);
}

}  // namespace

Result<Userfaultfd> Userfaultfd::open(Mode mode) {
  Fd file(open_file(mode));
  if (!file) return fail_errno("open a userfaultfd");
  std::uint64_t features = UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_WP_HUGETLBFS_SHMEM;
  if (mode == Mode::Asynchronous) features |= UFFD_FEATURE_WP_ASYNC | UFFD_FEATURE_WP_UNPOPULATED;
  uffdio_api api{.api = UFFD_API, .features = features, .ioctls = 0};
  if (::ioctl(file.get(), UFFDIO_API, &api) != 0) return fail_errno("userfaultfd: ask for write protection");
  return Userfaultfd(std::move(file));
}

Result<void> Userfaultfd::watch(std::span<std::byte> memory) {
  uffdio_register request{.range = range_of(memory), .mode = UFFDIO_REGISTER_MODE_WP, .ioctls = 0};
  if (::ioctl(file_.get(), UFFDIO_REGISTER, &request) != 0) return fail_errno("userfaultfd: register memory");
  return {};
}

Result<void> Userfaultfd::unwatch(std::span<std::byte> memory) {
  uffdio_range range = range_of(memory);
  if (::ioctl(file_.get(), UFFDIO_UNREGISTER, &range) != 0) return fail_errno("userfaultfd: unregister memory");
  return {};
}

Result<void> Userfaultfd::protect(std::span<std::byte> memory, bool on) {
  uffdio_writeprotect request{.range = range_of(memory), .mode = on ? UFFDIO_WRITEPROTECT_MODE_WP : 0U};
  // EAGAIN: the address space was changing; nothing is half done that doing it again does not complete.
  while (::ioctl(file_.get(), UFFDIO_WRITEPROTECT, &request) != 0) {
    if (errno != EAGAIN && errno != EINTR) return fail_errno("userfaultfd: write-protect memory");
  }
  return {};
}

}  // namespace gangway::guest
