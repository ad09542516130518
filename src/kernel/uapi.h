// The kernel's calls and what their structures have beyond handle/vfio.h: groups, containers, cdevs, iommufd.
//
// Defined here because Debian's headers lack the newer ones and iommufd's altogether; uapi_check.cpp holds them against
// the system's. Source: Linux include/uapi/linux/vfio.h and include/uapi/linux/iommufd.h.
#pragma once

#include <sys/ioctl.h>

#include <cstdint>

#include "handle/vfio.h"

namespace gangway::kernel {

// _IO(';', number): VFIO counts from 100, iommufd from 0x80.
[[nodiscard]] constexpr std::uint32_t call_number(std::uint32_t number) { return (std::uint32_t{';'} << 8) | number; }

enum class Call : std::uint32_t {
  // a container
  GetApiVersion = call_number(100),
  CheckExtension = call_number(101),
  SetIommu = call_number(102),
  MapDma = call_number(113),
  UnmapDma = call_number(114),
  // a group
  GroupGetStatus = call_number(103),
  GroupSetContainer = call_number(104),
  GroupGetDeviceFd = call_number(106),
  // a device
  DeviceGetInfo = call_number(107),
  DeviceGetRegionInfo = call_number(108),
  DeviceGetIrqInfo = call_number(109),
  DeviceSetIrqs = call_number(110),
  DeviceReset = call_number(111),
  DeviceFeature = call_number(117),
  DeviceBindIommufd = call_number(118),
  DeviceAttachIommufd = call_number(119),
  // migration data
  GetPrecopyInfo = call_number(121),
  // iommufd
  IoasAlloc = call_number(0x81),
  IoasMap = call_number(0x85),
  IoasUnmap = call_number(0x86),
  HwptAlloc = call_number(0x89),
};

// As ioctl: -1 and errno, or what the call returns.
inline int call(int fd, Call number) { return ::ioctl(fd, static_cast<unsigned long>(number)); }
inline int call(int fd, Call number, void* argument) {
  return ::ioctl(fd, static_cast<unsigned long>(number), argument);
}
inline int call(int fd, Call number, unsigned long argument) {
  return ::ioctl(fd, static_cast<unsigned long>(number), argument);
}

inline constexpr int kApiVersion = 0;
inline constexpr unsigned long kType1v2 = 3;  // VFIO_TYPE1v2_IOMMU

struct GroupStatus {
  std::uint32_t argsz = 0;
  std::uint32_t flags = 0;
};
inline constexpr std::uint32_t kGroupViable = 1U << 0;

struct ContainerMap {
  std::uint32_t argsz = 0;
  std::uint32_t flags = 0;  // 1: the device may read, 2: it may write
  std::uint64_t address = 0;
  std::uint64_t iova = 0;
  std::uint64_t size = 0;
};
inline constexpr std::uint32_t kContainerMapRead = 1U << 0;
inline constexpr std::uint32_t kContainerMapWrite = 1U << 1;

struct ContainerUnmap {
  std::uint32_t argsz = 0;
  std::uint32_t flags = 0;
  std::uint64_t iova = 0;
  std::uint64_t size = 0;  // out: what was unmapped
};

// As kernels before 7 have it; later ones take a token behind it.
struct BindIommufd {
  std::uint32_t argsz = 0;
  std::uint32_t flags = 0;
  std::int32_t iommufd = -1;
  std::uint32_t device_id = 0;  // out
};

struct AttachIommufd {
  std::uint32_t argsz = 0;
  std::uint32_t flags = 0;
  std::uint32_t ioas = 0;  // or a HWPT; out: the HWPT that translates
};

struct IoasAlloc {
  std::uint32_t size = 0;  // of the structure
  std::uint32_t flags = 0;
  std::uint32_t ioas = 0;  // out
};

struct IoasMap {
  std::uint32_t size = 0;  // of the structure
  std::uint32_t flags = 0;
  std::uint32_t ioas = 0;
  std::uint32_t reserved = 0;
  std::uint64_t address = 0;
  std::uint64_t length = 0;
  std::uint64_t iova = 0;
};
inline constexpr std::uint32_t kIoasMapFixed = 1U << 0;
inline constexpr std::uint32_t kIoasMapWrite = 1U << 1;
inline constexpr std::uint32_t kIoasMapRead = 1U << 2;

struct IoasUnmap {
  std::uint32_t size = 0;  // of the structure
  std::uint32_t ioas = 0;
  std::uint64_t iova = 0;
  std::uint64_t length = 0;  // out: what was unmapped
};

// The front of it: what it is made of, and what it is.
struct HwptAlloc {
  std::uint32_t size = 0;  // of the structure
  std::uint32_t flags = 0;
  std::uint32_t device_id = 0;
  std::uint32_t ioas = 0;  // or a HWPT that it nests in
  std::uint32_t hwpt = 0;  // out
};

struct LoggingStart {
  vfio::FeatureLoggingControl control;
  std::uint64_t ranges = 0;  // address of vfio::LoggingRange[control.ranges]
};

struct LoggingReport {
  vfio::FeatureLoggingReport report;
  std::uint64_t bitmap = 0;  // address of its words
};

}  // namespace gangway::kernel
