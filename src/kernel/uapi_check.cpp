// Holds our structures and numbers against those of the system's headers, as far as it has them.
#include <linux/vfio.h>

#include <cstddef>

#include <gangway/contract.h>
#include <gangway/device_handle.h>
#include <gangway/types.h>

#include "kernel/uapi.h"

#if __has_include(<linux/iommufd.h>)
#include <linux/iommufd.h>
#endif

namespace gangway::kernel {
namespace {

using namespace vfio;
// Those that have a namesake one room up are named one by one.
using vfio::DeviceInfo;
using vfio::IrqInfo;
using vfio::IrqSet;
using vfio::RegionInfo;

#define SAME_NUMBER(ours, theirs) static_assert(static_cast<unsigned long>(ours) == static_cast<unsigned long>(theirs))
#define SAME_MEMBER(ours, member, theirs, name)                     \
  static_assert(offsetof(ours, member) == offsetof(theirs, name) && \
                sizeof(ours::member) == sizeof(decltype(theirs::name)))

SAME_NUMBER(Call::GetApiVersion, VFIO_GET_API_VERSION);
SAME_NUMBER(Call::CheckExtension, VFIO_CHECK_EXTENSION);
SAME_NUMBER(Call::SetIommu, VFIO_SET_IOMMU);
SAME_NUMBER(Call::MapDma, VFIO_IOMMU_MAP_DMA);
SAME_NUMBER(Call::UnmapDma, VFIO_IOMMU_UNMAP_DMA);
SAME_NUMBER(Call::GroupGetStatus, VFIO_GROUP_GET_STATUS);
SAME_NUMBER(Call::GroupSetContainer, VFIO_GROUP_SET_CONTAINER);
SAME_NUMBER(Call::GroupGetDeviceFd, VFIO_GROUP_GET_DEVICE_FD);
SAME_NUMBER(Call::DeviceGetInfo, VFIO_DEVICE_GET_INFO);
SAME_NUMBER(Call::DeviceGetRegionInfo, VFIO_DEVICE_GET_REGION_INFO);
SAME_NUMBER(Call::DeviceGetIrqInfo, VFIO_DEVICE_GET_IRQ_INFO);
SAME_NUMBER(Call::DeviceSetIrqs, VFIO_DEVICE_SET_IRQS);
SAME_NUMBER(Call::DeviceReset, VFIO_DEVICE_RESET);
SAME_NUMBER(Call::DeviceFeature, VFIO_DEVICE_FEATURE);
SAME_NUMBER(kApiVersion, VFIO_API_VERSION);
SAME_NUMBER(kType1v2, VFIO_TYPE1v2_IOMMU);
SAME_NUMBER(kGroupViable, VFIO_GROUP_FLAGS_VIABLE);
SAME_NUMBER(kContainerMapRead, VFIO_DMA_MAP_FLAG_READ);
SAME_NUMBER(kContainerMapWrite, VFIO_DMA_MAP_FLAG_WRITE);
SAME_NUMBER(kDeviceReset, VFIO_DEVICE_FLAGS_RESET);
SAME_NUMBER(kDevicePci, VFIO_DEVICE_FLAGS_PCI);
SAME_NUMBER(kRegionRead, VFIO_REGION_INFO_FLAG_READ);
SAME_NUMBER(kRegionWrite, VFIO_REGION_INFO_FLAG_WRITE);
SAME_NUMBER(kRegionMmap, VFIO_REGION_INFO_FLAG_MMAP);
SAME_NUMBER(kRegionCaps, VFIO_REGION_INFO_FLAG_CAPS);
SAME_NUMBER(kCapSparseMmap, VFIO_REGION_INFO_CAP_SPARSE_MMAP);
SAME_NUMBER(kCapType, VFIO_REGION_INFO_CAP_TYPE);
SAME_NUMBER(kIrqDataNone, VFIO_IRQ_SET_DATA_NONE);
SAME_NUMBER(kIrqDataBool, VFIO_IRQ_SET_DATA_BOOL);
SAME_NUMBER(kIrqDataEventfd, VFIO_IRQ_SET_DATA_EVENTFD);
SAME_NUMBER(kIrqActionMask, VFIO_IRQ_SET_ACTION_MASK);
SAME_NUMBER(kIrqActionUnmask, VFIO_IRQ_SET_ACTION_UNMASK);
SAME_NUMBER(kIrqActionTrigger, VFIO_IRQ_SET_ACTION_TRIGGER);
SAME_NUMBER(kFeatureMask, VFIO_DEVICE_FEATURE_MASK);
SAME_NUMBER(kFeatureGet, VFIO_DEVICE_FEATURE_GET);
SAME_NUMBER(kFeatureSet, VFIO_DEVICE_FEATURE_SET);
SAME_NUMBER(kFeatureProbe, VFIO_DEVICE_FEATURE_PROBE);

SAME_NUMBER(RegionIndex::Bar0, VFIO_PCI_BAR0_REGION_INDEX);
SAME_NUMBER(RegionIndex::Bar5, VFIO_PCI_BAR5_REGION_INDEX);
SAME_NUMBER(RegionIndex::Rom, VFIO_PCI_ROM_REGION_INDEX);
SAME_NUMBER(RegionIndex::Config, VFIO_PCI_CONFIG_REGION_INDEX);
SAME_NUMBER(RegionIndex::Vga, VFIO_PCI_VGA_REGION_INDEX);
SAME_NUMBER(RegionIndex::FirstDeviceSpecific, VFIO_PCI_NUM_REGIONS);
SAME_NUMBER(IrqType::Intx, VFIO_PCI_INTX_IRQ_INDEX);
SAME_NUMBER(IrqType::Msi, VFIO_PCI_MSI_IRQ_INDEX);
SAME_NUMBER(IrqType::Msix, VFIO_PCI_MSIX_IRQ_INDEX);
SAME_NUMBER(IrqType::Err, VFIO_PCI_ERR_IRQ_INDEX);
SAME_NUMBER(IrqType::Req, VFIO_PCI_REQ_IRQ_INDEX);
SAME_NUMBER(kIrqTypes, VFIO_PCI_NUM_IRQS);

static_assert(sizeof(GroupStatus) == sizeof(vfio_group_status));
static_assert(sizeof(ContainerMap) == sizeof(vfio_iommu_type1_dma_map));
static_assert(sizeof(RegionInfo) == sizeof(vfio_region_info));
static_assert(sizeof(CapHeader) == sizeof(vfio_info_cap_header));
static_assert(sizeof(SparseArea) == sizeof(vfio_region_sparse_mmap_area));
static_assert(sizeof(CapType) == sizeof(vfio_region_info_cap_type));
static_assert(sizeof(IrqInfo) == sizeof(vfio_irq_info));
static_assert(sizeof(FeatureHeader) == sizeof(vfio_device_feature));
SAME_MEMBER(DeviceInfo, irqs, vfio_device_info, num_irqs);
SAME_MEMBER(RegionInfo, cap_offset, vfio_region_info, cap_offset);
SAME_MEMBER(RegionInfo, offset, vfio_region_info, offset);
SAME_MEMBER(CapHeader, next, vfio_info_cap_header, next);
SAME_MEMBER(CapSparseMmap, areas, vfio_region_info_cap_sparse_mmap, nr_areas);
SAME_MEMBER(CapType, subtype, vfio_region_info_cap_type, subtype);
SAME_MEMBER(IrqInfo, count, vfio_irq_info, count);
SAME_MEMBER(IrqSet, count, vfio_irq_set, count);
static_assert(sizeof(IrqSet) == offsetof(vfio_irq_set, data));
SAME_MEMBER(ContainerMap, address, vfio_iommu_type1_dma_map, vaddr);
SAME_MEMBER(ContainerMap, iova, vfio_iommu_type1_dma_map, iova);
SAME_MEMBER(ContainerUnmap, size, vfio_iommu_type1_dma_unmap, size);

// Features and states by their numbers; the constants are macros and enumerators.
#ifdef VFIO_DEVICE_FEATURE_MIGRATION
SAME_NUMBER(Feature::Migration, VFIO_DEVICE_FEATURE_MIGRATION);
static_assert(sizeof(FeatureMigration) == sizeof(vfio_device_feature_migration));
static_assert(MigrationFlags{.p2p = false, .pre_copy = false}.bits() == VFIO_MIGRATION_STOP_COPY);
static_assert(MigrationFlags{.p2p = true, .pre_copy = false}.bits() == (VFIO_MIGRATION_STOP_COPY | VFIO_MIGRATION_P2P));
#endif
#ifdef VFIO_MIGRATION_PRE_COPY
static_assert(MigrationFlags{.p2p = false, .pre_copy = true}.bits() ==
              (VFIO_MIGRATION_STOP_COPY | VFIO_MIGRATION_PRE_COPY));
SAME_NUMBER(DeviceState::PreCopy, VFIO_DEVICE_STATE_PRE_COPY);
SAME_NUMBER(DeviceState::PreCopyP2p, VFIO_DEVICE_STATE_PRE_COPY_P2P);
#endif
#ifdef VFIO_DEVICE_FEATURE_DMA_LOGGING_START
SAME_NUMBER(Feature::DmaLoggingStart, VFIO_DEVICE_FEATURE_DMA_LOGGING_START);
SAME_NUMBER(Feature::DmaLoggingStop, VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP);
SAME_NUMBER(Feature::DmaLoggingReport, VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT);
#endif
#ifdef VFIO_DEVICE_FEATURE_MIG_DATA_SIZE
SAME_NUMBER(Feature::MigDataSize, VFIO_DEVICE_FEATURE_MIG_DATA_SIZE);
#endif
#ifdef VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2
SAME_NUMBER(Feature::MigPrecopyInfoV2, VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2);
#endif
#ifdef VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE
SAME_NUMBER(Feature::MigDeviceState, VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE);
SAME_NUMBER(DeviceState::Error, VFIO_DEVICE_STATE_ERROR);
SAME_NUMBER(DeviceState::Stop, VFIO_DEVICE_STATE_STOP);
SAME_NUMBER(DeviceState::Running, VFIO_DEVICE_STATE_RUNNING);
SAME_NUMBER(DeviceState::StopCopy, VFIO_DEVICE_STATE_STOP_COPY);
SAME_NUMBER(DeviceState::Resuming, VFIO_DEVICE_STATE_RESUMING);
SAME_NUMBER(DeviceState::RunningP2p, VFIO_DEVICE_STATE_RUNNING_P2P);
static_assert(sizeof(FeatureDeviceState) == sizeof(vfio_device_feature_mig_state));
SAME_MEMBER(FeatureDeviceState, data_fd, vfio_device_feature_mig_state, data_fd);
#endif
#ifdef VFIO_DEVICE_FEATURE_DMA_LOGGING_START
static_assert(sizeof(LoggingStart) == sizeof(vfio_device_feature_dma_logging_control));
static_assert(sizeof(LoggingReport) == sizeof(vfio_device_feature_dma_logging_report));
static_assert(sizeof(LoggingRange) == sizeof(vfio_device_feature_dma_logging_range));
SAME_MEMBER(LoggingStart, ranges, vfio_device_feature_dma_logging_control, ranges);
SAME_MEMBER(LoggingReport, bitmap, vfio_device_feature_dma_logging_report, bitmap);
#endif
#ifdef VFIO_DEVICE_BIND_IOMMUFD
SAME_NUMBER(Call::DeviceBindIommufd, VFIO_DEVICE_BIND_IOMMUFD);
SAME_NUMBER(Call::DeviceAttachIommufd, VFIO_DEVICE_ATTACH_IOMMUFD_PT);
SAME_MEMBER(BindIommufd, iommufd, vfio_device_bind_iommufd, iommufd);
SAME_MEMBER(AttachIommufd, ioas, vfio_device_attach_iommufd_pt, pt_id);
#endif
#ifdef VFIO_MIG_GET_PRECOPY_INFO
SAME_NUMBER(Call::GetPrecopyInfo, VFIO_MIG_GET_PRECOPY_INFO);
static_assert(sizeof(FeaturePrecopyInfo) == sizeof(vfio_precopy_info));
#endif
#ifdef IOMMU_IOAS_MAP
SAME_NUMBER(Call::IoasAlloc, IOMMU_IOAS_ALLOC);
SAME_NUMBER(Call::IoasMap, IOMMU_IOAS_MAP);
SAME_NUMBER(Call::IoasUnmap, IOMMU_IOAS_UNMAP);
SAME_NUMBER(kIoasMapFixed, IOMMU_IOAS_MAP_FIXED_IOVA);
SAME_NUMBER(kIoasMapWrite, IOMMU_IOAS_MAP_WRITEABLE);
SAME_NUMBER(kIoasMapRead, IOMMU_IOAS_MAP_READABLE);
static_assert(sizeof(IoasAlloc) == sizeof(iommu_ioas_alloc));
static_assert(sizeof(IoasMap) == sizeof(iommu_ioas_map));
static_assert(sizeof(IoasUnmap) == sizeof(iommu_ioas_unmap));
SAME_MEMBER(IoasMap, iova, iommu_ioas_map, iova);
#endif
#ifdef IOMMU_HWPT_ALLOC
SAME_NUMBER(Call::HwptAlloc, IOMMU_HWPT_ALLOC);
SAME_MEMBER(HwptAlloc, device_id, iommu_hwpt_alloc, dev_id);
SAME_MEMBER(HwptAlloc, ioas, iommu_hwpt_alloc, pt_id);
SAME_MEMBER(HwptAlloc, hwpt, iommu_hwpt_alloc, out_hwpt_id);
#endif

}  // namespace
}  // namespace gangway::kernel
