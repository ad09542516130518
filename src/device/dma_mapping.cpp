#include "device/dma_mapping.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <limits>
#include <string>
#include <utility>

#include <fmt/format.h>

namespace gangway::detail {
namespace {

constexpr std::uint64_t kPageSize = 4096;

struct MappableFile {
  std::uint64_t size = 0;               // bytes
  std::uint64_t page_size = kPageSize;  // what offset and length of a mapping must be multiples of
};

std::unexpected<Error> refuse(const DmaSpace::MapRequest& request, int code, std::string_view why) {
  return fail(code, fmt::format("map {:#x} bytes at {:#x}: {}", request.range.size, request.range.start.value, why));
}

std::string_view kind_of(mode_t mode) {
  if (S_ISFIFO(mode)) return "a pipe";
  if (S_ISSOCK(mode)) return "a socket";
  if (S_ISDIR(mode)) return "a directory";
  if (S_ISCHR(mode)) return "a character device";
  return "no file";
}

Result<MappableFile> examine(const DmaSpace::MapRequest& request) {
  const int fd = request.file.get();
  struct stat status{};
  if (::fstat(fd, &status) != 0) return refuse(request, EINVAL, strerrordesc_np(errno));
  MappableFile file;
  if (S_ISREG(status.st_mode)) {
    file.size = static_cast<std::uint64_t>(status.st_size);
  } else if (!S_ISBLK(status.st_mode) || ::ioctl(fd, BLKGETSIZE64, &file.size) != 0) {
    return refuse(request, EINVAL, fmt::format("the descriptor is {}, which has no memory", kind_of(status.st_mode)));
  }
  struct statfs filesystem{};
  if (::fstatfs(fd, &filesystem) == 0 && filesystem.f_type == HUGETLBFS_MAGIC) {
    file.page_size = static_cast<std::uint64_t>(filesystem.f_bsize);
  }
  return file;
}

Result<void> check(const DmaSpace::MapRequest& request, const MappableFile& file) {
  if (request.offset % kPageSize != 0) {
    return refuse(request, EINVAL, fmt::format("offset {:#x} is not aligned to {:#x}", request.offset, kPageSize));
  }
  if (request.offset > file.size || request.range.size > file.size - request.offset) {
    return refuse(request, EINVAL,
                  fmt::format("the file has {:#x} bytes, too few for offset {:#x}", file.size, request.offset));
  }
  const int mode = ::fcntl(request.file.get(), F_GETFL);
  if (mode < 0 || (mode & O_PATH) != 0) return refuse(request, EINVAL, "the descriptor is not open");
  if ((mode & O_ACCMODE) == O_WRONLY) return refuse(request, EACCES, "the file is not open for reading");
  if (request.permissions.write && (mode & O_ACCMODE) != O_RDWR) {
    return refuse(request, EACCES, "the device may write, but the file is not open for writing");
  }
  return {};
}

}  // namespace

Result<std::unique_ptr<DmaMapping>> DmaMapping::create(const DmaSpace::MapRequest& request, std::atomic<bool>& failed) {
  std::unique_ptr<DmaMapping> mapping(new DmaMapping(request.range, request.permissions));
  if (!request.file) return mapping;
  const auto file = examine(request);
  if (!file) return std::unexpected(file.error());
  if (auto checked = check(request, *file); !checked) return std::unexpected(std::move(checked.error()));
  if (!request.permissions.read && !request.permissions.write) return mapping;

  // Huge pages: map whole ones, and use the part asked for.
  const std::uint64_t before = request.offset % file->page_size;
  if (request.range.size > std::numeric_limits<std::uint64_t>::max() - before - file->page_size) {
    return refuse(request, EINVAL, "the range is too large");
  }
  const std::uint64_t length = (before + request.range.size + file->page_size - 1) / file->page_size * file->page_size;
  const int protection = request.permissions.write ? PROT_READ | PROT_WRITE : PROT_READ;
  void* const base =
      ::mmap(nullptr, length, protection, MAP_SHARED, request.file.get(), static_cast<off_t>(request.offset - before));
  if (base == MAP_FAILED) {
    // A sealed file: EPERM. Whatever else the file system has against it is the descriptor's fault.
    const int code = errno == EPERM ? EACCES : errno == ENOMEM ? ENOMEM : EINVAL;
    return refuse(request, code, strerrordesc_np(errno));
  }
  mapping->mapped_ = std::span(static_cast<std::byte*>(base), length);
  mapping->bytes_ = mapping->mapped_.subspan(before, request.range.size);
  auto guard = SigbusGuard::watch(mapping->mapped_, failed);
  if (!guard) return std::unexpected(std::move(guard.error()));
  mapping->guard_ = std::move(*guard);
  return mapping;
}

DmaMapping::~DmaMapping() {
  guard_ = SigbusGuard();
  if (!mapped_.empty()) ::munmap(mapped_.data(), mapped_.size());
}

}  // namespace gangway::detail
