#include "devices/nvme/namespace.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include <bit>
#include <utility>

#include <fmt/format.h>

namespace gangway::nvme {
namespace {

Result<std::uint64_t> size_of(int fd, const std::filesystem::path& path) {
  struct stat status{};
  if (::fstat(fd, &status) != 0) return fail_errno(fmt::format("image {}", path.string()));
  if (S_ISREG(status.st_mode)) return static_cast<std::uint64_t>(status.st_size);
  if (!S_ISBLK(status.st_mode)) {
    return fail(EINVAL, fmt::format("image {}: neither a regular file nor a block device", path.string()));
  }
  std::uint64_t size = 0;
  if (::ioctl(fd, BLKGETSIZE64, &size) != 0) return fail_errno(fmt::format("size of block device {}", path.string()));
  return size;
}

}  // namespace

Namespace::Namespace(std::filesystem::path path, Fd file, std::uint64_t blocks, std::uint32_t block_shift,
                     bool read_only)
    : path_(std::move(path)),
      file_(std::move(file)),
      blocks_(blocks),
      block_shift_(block_shift),
      read_only_(read_only),
      lock_(file_.get(), read_only ? LockKind::Shared : LockKind::Exclusive) {}

Result<Namespace> Namespace::open(const NamespaceOptions& options) {
  if (options.block_size != 512 && options.block_size != 4096) {
    return fail(EINVAL, fmt::format("image {}: a block size of {} is not offered; use 512 or 4096",
                                    options.path.string(), options.block_size));
  }
  // Without O_NONBLOCK the open of a FIFO would wait for its other end.
  const int mode = (options.read_only ? O_RDONLY : O_RDWR) | O_NONBLOCK | O_CLOEXEC;
  Fd file(::open(options.path.c_str(), mode));
  if (!file) return fail_errno(fmt::format("open image {}", options.path.string()));
  auto size = size_of(file.get(), options.path);
  if (!size) return std::unexpected(std::move(size.error()));
  if (::fcntl(file.get(), F_SETFL, options.read_only ? O_RDONLY : O_RDWR) != 0) {
    return fail_errno(fmt::format("image {}", options.path.string()));
  }
  const std::uint64_t blocks = *size / options.block_size;
  if (blocks == 0) {
    return fail(EINVAL, fmt::format("image {}: its {} bytes hold no block of {}", options.path.string(), *size,
                                    options.block_size));
  }
  const auto shift = static_cast<std::uint32_t>(std::countr_zero(options.block_size));
  return Namespace(options.path, std::move(file), blocks, shift, options.read_only);
}

}  // namespace gangway::nvme
