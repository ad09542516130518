#include "record/syscall_filter.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <vector>

namespace gangway::record {
namespace {

#if defined(__x86_64__)
constexpr std::uint32_t kArchitecture = AUDIT_ARCH_X86_64;
#elif defined(__aarch64__)
constexpr std::uint32_t kArchitecture = AUDIT_ARCH_AARCH64;
#else
constexpr std::uint32_t kArchitecture = 0;
#endif

constexpr long kAlways[] = {
    SYS_openat, SYS_openat2, SYS_read,    SYS_write,   SYS_pread64,        SYS_pwrite64, SYS_readv,
    SYS_writev, SYS_preadv,  SYS_pwritev, SYS_preadv2, SYS_pwritev2,       SYS_close,    SYS_close_range,
    SYS_dup,    SYS_dup3,    SYS_fcntl,   SYS_sendmsg, SYS_io_uring_setup,
#ifdef SYS_open
    SYS_open,   SYS_dup2,
#endif
};

constexpr std::uint32_t kVfioType = ';';  // of VFIO's and iommufd's ioctls

sock_filter load(std::size_t offset) { return BPF_STMT(BPF_LD | BPF_W | BPF_ABS, static_cast<std::uint32_t>(offset)); }
constexpr std::size_t argument(std::size_t number) {
  return offsetof(seccomp_data, args) + number * sizeof(std::uint64_t);
}
sock_filter unless_equal_skip(std::uint32_t value, std::uint8_t count) {
  return BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, count);
}
sock_filter if_equal_skip(std::uint32_t value, std::uint8_t count) {
  return BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, count, 0);
}
sock_filter answer(std::uint32_t what) { return BPF_STMT(BPF_RET | BPF_K, what); }

std::vector<sock_filter> program() {
  std::vector<sock_filter> code{load(offsetof(seccomp_data, arch)), if_equal_skip(kArchitecture, 1),
                                answer(SECCOMP_RET_ALLOW), load(offsetof(seccomp_data, nr))};
  for (const long number : kAlways) {
    code.push_back(unless_equal_skip(static_cast<std::uint32_t>(number), 1));
    code.push_back(answer(SECCOMP_RET_TRACE));
  }
  // An ioctl: by its type. 6 instructions.
  code.push_back(unless_equal_skip(SYS_ioctl, 6));
  code.push_back(load(argument(1)));
  code.push_back(BPF_STMT(BPF_ALU | BPF_RSH | BPF_K, 8));
  code.push_back(BPF_STMT(BPF_ALU | BPF_AND | BPF_K, 0xff));
  code.push_back(unless_equal_skip(kVfioType, 1));
  code.push_back(answer(SECCOMP_RET_TRACE));
  code.push_back(answer(SECCOMP_RET_ALLOW));
  // A mapping: of a descriptor.
  code.push_back(unless_equal_skip(SYS_mmap, 3));
  code.push_back(load(argument(4)));
  code.push_back(if_equal_skip(~0U, 1));
  code.push_back(answer(SECCOMP_RET_TRACE));
  code.push_back(answer(SECCOMP_RET_ALLOW));
  return code;
}

}  // namespace

Result<void> install_syscall_filter() {
  if (kArchitecture == 0) return fail(ENOSYS, "this machine's system calls are not known");
  std::vector<sock_filter> code = program();
  const sock_fprog filter{.len = static_cast<unsigned short>(code.size()), .filter = code.data()};
  // Without the right to install one, it costs the program its set-user-ID rights.
  if (::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter) == 0) return {};
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
      ::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter) != 0) {
    return fail_errno("install a filter of system calls");
  }
  return {};
}

}  // namespace gangway::record
