#include "vfio_user/shared_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fmt/format.h>

namespace gangway::vfio_user {

Result<SharedMemory> SharedMemory::create(std::size_t size) {
  Fd file(::memfd_create("gangway-migration-data", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!file) return fail_errno("make shared memory");
  if (::ftruncate(file.get(), static_cast<off_t>(size)) != 0 ||
      ::fcntl(file.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
    return fail_errno(fmt::format("make shared memory of {} bytes", size));
  }
  return map(std::move(file), size);
}

Result<SharedMemory> SharedMemory::adopt(Fd file, std::size_t size) {
  const int seals = ::fcntl(file.get(), F_GET_SEALS);
  if (seals < 0 || (seals & F_SEAL_SHRINK) == 0) {
    return fail(EPROTO, "shared memory in a file that its owner can shorten", "WIR-FDS");
  }
  struct stat info{};
  if (::fstat(file.get(), &info) != 0) return fail_errno("look at shared memory");
  if (std::cmp_less(info.st_size, size)) {
    return fail(EPROTO, fmt::format("shared memory of {} bytes in a file of {}", size, info.st_size), "WIR-FDS");
  }
  return map(std::move(file), size);
}

Result<SharedMemory> SharedMemory::map(Fd file, std::size_t size) {
  void* at = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, file.get(), 0);
  if (at == MAP_FAILED) return fail_errno(fmt::format("map {} bytes of shared memory", size));
  return SharedMemory(std::move(file), {static_cast<std::byte*>(at), size});
}

SharedMemory::~SharedMemory() {
  if (!bytes_.empty()) ::munmap(bytes_.data(), bytes_.size());
}

std::optional<std::span<std::byte>> SharedMemory::stretch(std::uint64_t offset, std::uint64_t size) const {
  if (offset > bytes_.size() || size > bytes_.size() - offset) return std::nullopt;
  return bytes_.subspan(offset, size);
}

}  // namespace gangway::vfio_user
