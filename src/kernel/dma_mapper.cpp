#include "kernel/dma_mapper.h"

#include <fmt/format.h>

#include "kernel/uapi.h"

namespace gangway::kernel {
namespace {

std::uint64_t address_of(std::span<std::byte> memory) { return reinterpret_cast<std::uintptr_t>(memory.data()); }

std::unexpected<Error> cannot_map(IovaRange range, int error_number) {
  const std::string doing = fmt::format("map {:#x} bytes at {:#x}", range.size, range.start.value);
  if (error_number == ENOMEM) {
    return fail(ENOMEM, doing + ": no memory may be pinned any more: raise the limit of locked memory (ulimit -l)");
  }
  if (error_number == EINVAL) return fail(EINVAL, doing + ": addresses and size must be whole pages, and not wrap");
  return fail_errno(doing, error_number);
}

std::unexpected<Error> cannot_unmap(IovaRange range, int error_number) {
  return fail_errno(fmt::format("unmap {:#x} bytes at {:#x}", range.size, range.start.value), error_number);
}

// The kernel unmaps what lies in the range and says how much that was.
Result<void> was_unmapped(IovaRange range, std::uint64_t size) {
  if (size != 0) return {};
  return cannot_unmap(range, ENOENT);
}

}  // namespace

Result<void> ContainerMapper::map(IovaRange range, std::span<std::byte> memory, DmaPermissions permissions) {
  ContainerMap asked{.argsz = sizeof asked,
                     .flags = (permissions.read ? kContainerMapRead : 0) | (permissions.write ? kContainerMapWrite : 0),
                     .address = address_of(memory),
                     .iova = range.start.value,
                     .size = range.size};
  if (call(container_.get(), Call::MapDma, &asked) != 0) return cannot_map(range, errno);
  return {};
}

Result<void> ContainerMapper::unmap(IovaRange range) {
  ContainerUnmap asked{.argsz = sizeof asked, .iova = range.start.value, .size = range.size};
  if (call(container_.get(), Call::UnmapDma, &asked) != 0) return cannot_unmap(range, errno);
  return was_unmapped(range, asked.size);
}

Result<std::uint32_t> IoasMapper::attached() {
  const std::scoped_lock lock(mutex_);
  if (!ioas_) {
    IoasAlloc space{.size = sizeof space};
    if (call(iommufd_.get(), Call::IoasAlloc, &space) != 0) return fail_errno("make an address space of iommufd");
    ioas_ = space.ioas;
  }
  if (!is_attached_) {
    AttachIommufd asked{.argsz = sizeof asked, .ioas = *ioas_};
    if (call(device_->get(), Call::DeviceAttachIommufd, &asked) != 0) return fail_errno("attach the device to iommufd");
    is_attached_ = true;
  }
  return *ioas_;
}

Result<void> IoasMapper::map(IovaRange range, std::span<std::byte> memory, DmaPermissions permissions) {
  const Result<std::uint32_t> ioas = attached();
  if (!ioas) return std::unexpected(ioas.error());
  IoasMap asked{
      .size = sizeof asked,
      .flags = kIoasMapFixed | (permissions.read ? kIoasMapRead : 0) | (permissions.write ? kIoasMapWrite : 0),
      .ioas = *ioas,
      .address = address_of(memory),
      .length = range.size,
      .iova = range.start.value};
  if (call(iommufd_.get(), Call::IoasMap, &asked) != 0) return cannot_map(range, errno);
  return {};
}

Result<void> IoasMapper::unmap(IovaRange range) {
  const std::scoped_lock lock(mutex_);
  if (!ioas_) return cannot_unmap(range, ENOENT);
  IoasUnmap asked{.size = sizeof asked, .ioas = *ioas_, .iova = range.start.value, .length = range.size};
  if (call(iommufd_.get(), Call::IoasUnmap, &asked) != 0) return cannot_unmap(range, errno);
  return was_unmapped(range, asked.length);
}

}  // namespace gangway::kernel
