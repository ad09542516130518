// VFIO's structures that the kernel and vfio-user have alike, as they lie in memory. Host byte order.
//
// They are defined here because Debian's header lacks the newer ones; kernel/uapi_check.cpp holds them against those it
// has. Source: Linux include/uapi/linux/vfio.h.
#pragma once

#include <cstdint>

namespace gangway::vfio {

struct DeviceInfo {
  std::uint32_t argsz = 0;
  std::uint32_t flags = 0;
  std::uint32_t regions = 0;
  std::uint32_t irqs = 0;
};
static_assert(sizeof(DeviceInfo) == 16);
inline constexpr std::uint32_t kDeviceReset = 1U << 0;
inline constexpr std::uint32_t kDevicePci = 1U << 1;

struct RegionInfo {
  std::uint32_t argsz = 0;
  std::uint32_t flags = 0;
  std::uint32_t index = 0;
  std::uint32_t cap_offset = 0;
  std::uint64_t size = 0;
  std::uint64_t offset = 0;
};
static_assert(sizeof(RegionInfo) == 32);
inline constexpr std::uint32_t kRegionRead = 1U << 0;
inline constexpr std::uint32_t kRegionWrite = 1U << 1;
inline constexpr std::uint32_t kRegionMmap = 1U << 2;
inline constexpr std::uint32_t kRegionCaps = 1U << 3;

struct CapHeader {
  std::uint16_t id = 0;
  std::uint16_t version = 1;
  std::uint32_t next = 0;  // from the start of RegionInfo; 0 ends the list
};
static_assert(sizeof(CapHeader) == 8);
inline constexpr std::uint16_t kCapSparseMmap = 1;
inline constexpr std::uint16_t kCapType = 2;

struct CapSparseMmap {
  CapHeader header{.id = kCapSparseMmap};
  std::uint32_t areas = 0;
  std::uint32_t reserved = 0;
};
static_assert(sizeof(CapSparseMmap) == 16);
struct SparseArea {
  std::uint64_t offset = 0;
  std::uint64_t size = 0;
};
static_assert(sizeof(SparseArea) == 16);

struct CapType {
  CapHeader header{.id = kCapType};
  std::uint32_t type = 0;
  std::uint32_t subtype = 0;
};
static_assert(sizeof(CapType) == 16);

struct IrqInfo {
  std::uint32_t argsz = 0;
  std::uint32_t flags = 0;
  std::uint32_t index = 0;
  std::uint32_t count = 0;
};
static_assert(sizeof(IrqInfo) == 16);

struct IrqSet {
  std::uint32_t argsz = 0;
  std::uint32_t flags = 0;
  std::uint32_t index = 0;
  std::uint32_t start = 0;
  std::uint32_t count = 0;
};
static_assert(sizeof(IrqSet) == 20);
inline constexpr std::uint32_t kIrqDataNone = 1U << 0;
inline constexpr std::uint32_t kIrqDataBool = 1U << 1;
inline constexpr std::uint32_t kIrqDataEventfd = 1U << 2;
inline constexpr std::uint32_t kIrqActionMask = 1U << 3;
inline constexpr std::uint32_t kIrqActionUnmask = 1U << 4;
inline constexpr std::uint32_t kIrqActionTrigger = 1U << 5;

struct FeatureHeader {
  std::uint32_t argsz = 0;
  std::uint32_t flags = 0;
};
static_assert(sizeof(FeatureHeader) == 8);
inline constexpr std::uint32_t kFeatureMask = 0xffff;
inline constexpr std::uint32_t kFeatureGet = 1U << 16;
inline constexpr std::uint32_t kFeatureSet = 1U << 17;
inline constexpr std::uint32_t kFeatureProbe = 1U << 18;

struct FeatureMigration {
  std::uint64_t flags = 0;
};
struct FeatureDeviceState {
  std::uint32_t state = 0;
  std::int32_t data_fd = -1;  // of the kernel; -1 over vfio-user
};
static_assert(sizeof(FeatureDeviceState) == 8);
// What is pointed to in the kernel's, by a last member, follows in vfio-user: the ranges, the bitmap.
struct FeatureLoggingControl {
  std::uint64_t page_size = 0;
  std::uint32_t ranges = 0;
  std::uint32_t reserved = 0;
};
static_assert(sizeof(FeatureLoggingControl) == 16);
struct FeatureLoggingReport {
  std::uint64_t iova = 0;
  std::uint64_t length = 0;
  std::uint64_t page_size = 0;
};
static_assert(sizeof(FeatureLoggingReport) == 24);
struct LoggingRange {
  std::uint64_t iova = 0;
  std::uint64_t length = 0;
};
static_assert(sizeof(LoggingRange) == 16);
struct FeatureDataSize {
  std::uint64_t stop_copy_length = 0;
};
struct FeaturePrecopyInfo {  // struct vfio_precopy_info
  std::uint32_t argsz = 0;
  std::uint32_t flags = 0;
  std::uint64_t initial_bytes = 0;
  std::uint64_t dirty_bytes = 0;
};
static_assert(sizeof(FeaturePrecopyInfo) == 24);
inline constexpr std::uint32_t kPrecopyReinit = 1U << 0;

}  // namespace gangway::vfio
