// Lets a device reach memory of this process: by a container of groups, or by an address space of iommufd.
//
// Thread-safety: everything may be called from any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>

#include <gangway/dma.h>
#include <gangway/error.h>
#include <gangway/fd.h>
#include <gangway/types.h>

namespace gangway::kernel {

class DmaMapper {
 public:
  virtual ~DmaMapper() = default;
  // `memory` is as long as the range.
  virtual Result<void> map(IovaRange range, std::span<std::byte> memory, DmaPermissions permissions) = 0;
  virtual Result<void> unmap(IovaRange range) = 0;
};

// VFIO_TYPE1v2_IOMMU. `container` has its IOMMU set.
class ContainerMapper : public DmaMapper {
 public:
  explicit ContainerMapper(Fd container) : container_(std::move(container)) {}
  Result<void> map(IovaRange range, std::span<std::byte> memory, DmaPermissions permissions) override;
  Result<void> unmap(IovaRange range) override;

 private:
  Fd container_;
};

// iommufd. The address space is made, and the device attached to it, with the first mapping: a device that is only
// inspected, or does no DMA, needs none.
class IoasMapper : public DmaMapper {
 public:
  IoasMapper(Fd iommufd, std::shared_ptr<const Fd> device) : iommufd_(std::move(iommufd)), device_(std::move(device)) {}
  Result<void> map(IovaRange range, std::span<std::byte> memory, DmaPermissions permissions) override;
  Result<void> unmap(IovaRange range) override;

 private:
  Result<std::uint32_t> attached();

  Fd iommufd_;
  std::shared_ptr<const Fd> device_;
  std::mutex mutex_;
  std::optional<std::uint32_t> ioas_;
  bool is_attached_ = false;
};

}  // namespace gangway::kernel
