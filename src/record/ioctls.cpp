#include "record/ioctls.h"

namespace gangway::record {
namespace {

using Role = CallRecord::Role;

// _IO(';', number); iommufd has the same type.
constexpr std::uint32_t kType = ';' << 8;
constexpr std::uint32_t vfio(std::uint32_t number) { return kType | (100 + number); }
constexpr std::uint32_t iommufd(std::uint32_t number) { return kType | (0x80 + number); }

constexpr IoctlKind kKinds[] = {
    {Role::Container, vfio(0), Ioctl::ApiVersion, Argument::None, "VFIO_GET_API_VERSION"},
    {Role::Container, vfio(1), Ioctl::CheckExtension, Argument::None, "VFIO_CHECK_EXTENSION"},
    {Role::Container, vfio(2), Ioctl::SetIommu, Argument::None, "VFIO_SET_IOMMU"},
    {Role::Container, vfio(12), Ioctl::IommuInfo, Argument::Sized, "VFIO_IOMMU_GET_INFO"},
    {Role::Container, vfio(13), Ioctl::MapDma, Argument::Sized, "VFIO_IOMMU_MAP_DMA"},
    {Role::Container, vfio(14), Ioctl::UnmapDma, Argument::Sized, "VFIO_IOMMU_UNMAP_DMA"},
    {Role::Container, vfio(17), Ioctl::DirtyPages, Argument::Sized, "VFIO_IOMMU_DIRTY_PAGES"},
    {Role::Group, vfio(3), Ioctl::GroupStatus, Argument::Sized, "VFIO_GROUP_GET_STATUS"},
    {Role::Group, vfio(4), Ioctl::GroupSetContainer, Argument::Number, "VFIO_GROUP_SET_CONTAINER"},
    {Role::Group, vfio(5), Ioctl::GroupUnsetContainer, Argument::None, "VFIO_GROUP_UNSET_CONTAINER"},
    {Role::Group, vfio(6), Ioctl::GroupGetDevice, Argument::Text, "VFIO_GROUP_GET_DEVICE_FD"},
    {Role::Device, vfio(7), Ioctl::DeviceInfo, Argument::Sized, "VFIO_DEVICE_GET_INFO"},
    {Role::Device, vfio(8), Ioctl::RegionInfo, Argument::Sized, "VFIO_DEVICE_GET_REGION_INFO"},
    {Role::Device, vfio(9), Ioctl::IrqInfo, Argument::Sized, "VFIO_DEVICE_GET_IRQ_INFO"},
    {Role::Device, vfio(10), Ioctl::SetIrqs, Argument::Sized, "VFIO_DEVICE_SET_IRQS"},
    {Role::Device, vfio(11), Ioctl::DeviceReset, Argument::None, "VFIO_DEVICE_RESET"},
    {Role::Device, vfio(12), Ioctl::HotResetInfo, Argument::Sized, "VFIO_DEVICE_GET_PCI_HOT_RESET_INFO"},
    {Role::Device, vfio(13), Ioctl::HotReset, Argument::Sized, "VFIO_DEVICE_PCI_HOT_RESET"},
    {Role::Device, vfio(16), Ioctl::Ioeventfd, Argument::Sized, "VFIO_DEVICE_IOEVENTFD"},
    {Role::Device, vfio(17), Ioctl::DeviceFeature, Argument::Sized, "VFIO_DEVICE_FEATURE"},
    {Role::Device, vfio(18), Ioctl::BindIommufd, Argument::Sized, "VFIO_DEVICE_BIND_IOMMUFD"},
    {Role::Device, vfio(19), Ioctl::Attach, Argument::Sized, "VFIO_DEVICE_ATTACH_IOMMUFD_PT"},
    {Role::Device, vfio(20), Ioctl::Detach, Argument::Sized, "VFIO_DEVICE_DETACH_IOMMUFD_PT"},
    {Role::MigrationData, vfio(21), Ioctl::PrecopyInfo, Argument::Sized, "VFIO_MIG_GET_PRECOPY_INFO"},
    {Role::Iommufd, iommufd(0), Ioctl::Iommufd, Argument::Sized, "IOMMU_DESTROY"},
    {Role::Iommufd, iommufd(1), Ioctl::Iommufd, Argument::Sized, "IOMMU_IOAS_ALLOC"},
    {Role::Iommufd, iommufd(2), Ioctl::Iommufd, Argument::Sized, "IOMMU_IOAS_ALLOW_IOVAS"},
    {Role::Iommufd, iommufd(3), Ioctl::Iommufd, Argument::Sized, "IOMMU_IOAS_COPY"},
    {Role::Iommufd, iommufd(4), Ioctl::Iommufd, Argument::Sized, "IOMMU_IOAS_IOVA_RANGES"},
    {Role::Iommufd, iommufd(5), Ioctl::IoasMap, Argument::Sized, "IOMMU_IOAS_MAP"},
    {Role::Iommufd, iommufd(6), Ioctl::IoasUnmap, Argument::Sized, "IOMMU_IOAS_UNMAP"},
    {Role::Iommufd, iommufd(7), Ioctl::Iommufd, Argument::Sized, "IOMMU_OPTION"},
    {Role::Iommufd, iommufd(8), Ioctl::Iommufd, Argument::Sized, "IOMMU_VFIO_IOAS"},
    {Role::Iommufd, iommufd(9), Ioctl::HwptAlloc, Argument::Sized, "IOMMU_HWPT_ALLOC"},
    {Role::Iommufd, iommufd(10), Ioctl::Iommufd, Argument::Sized, "IOMMU_GET_HW_INFO"},
    {Role::Iommufd, iommufd(11), Ioctl::Iommufd, Argument::Sized, "IOMMU_HWPT_SET_DIRTY_TRACKING"},
    {Role::Iommufd, iommufd(12), Ioctl::Iommufd, Argument::Sized, "IOMMU_HWPT_GET_DIRTY_BITMAP"},
};

}  // namespace

IoctlKind ioctl_kind(CallRecord::Role role, std::uint32_t request) {
  for (const IoctlKind& kind : kKinds) {
    if (kind.role == role && kind.request == request) return kind;
  }
  const bool sized = role == Role::Iommufd && (request & 0xff00U) == kType;
  return {role, request, Ioctl::Unknown, sized ? Argument::Sized : Argument::None, {}};
}

}  // namespace gangway::record
