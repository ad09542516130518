// The ioctls of VFIO and iommufd, by what their descriptor is.
//
// Source: Linux include/uapi/linux/vfio.h (type ';', numbers from 100) and include/uapi/linux/iommufd.h (from 0x80).
// Thread-safety: constant.
#pragma once

#include <cstdint>
#include <string_view>

#include "record/record.h"

namespace gangway::record {

// Some numbers mean one thing on a container and another on a device.
enum class Ioctl : std::uint8_t {
  Unknown,
  ApiVersion,
  CheckExtension,
  SetIommu,
  GroupStatus,
  GroupSetContainer,
  GroupUnsetContainer,
  GroupGetDevice,
  DeviceInfo,
  RegionInfo,
  IrqInfo,
  SetIrqs,
  DeviceReset,
  HotResetInfo,
  HotReset,
  Ioeventfd,
  DeviceFeature,
  BindIommufd,
  Attach,
  Detach,
  PrecopyInfo,
  IommuInfo,
  MapDma,
  UnmapDma,
  DirtyPages,
  IoasMap,
  IoasUnmap,
  HwptAlloc,
  Iommufd,  // another of iommufd
};

// How the argument is given.
enum class Argument : std::uint8_t {
  None,    // or a number
  Text,    // a string
  Number,  // a 32-bit integer behind a pointer
  Sized,   // a structure whose first 32 bits are its size
};

struct IoctlKind {
  CallRecord::Role role;
  std::uint32_t request;
  Ioctl ioctl;
  Argument argument;
  std::string_view name;
};

// Unknown, with an argument of Sized for numbers of iommufd and None else, when it is in no table.
[[nodiscard]] IoctlKind ioctl_kind(CallRecord::Role role, std::uint32_t request);

}  // namespace gangway::record
