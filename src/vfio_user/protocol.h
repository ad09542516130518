// The messages of vfio-user, as they lie in memory. Host byte order.
// Source: QEMU docs/interop/vfio-user.rst; Linux include/uapi/linux/vfio.h for what it borrows.
#pragma once

#include <cstddef>
#include <cstdint>

#include "handle/vfio.h"

namespace gangway::vfio_user {

// What it has from VFIO unchanged.
using vfio::CapHeader;
using vfio::CapSparseMmap;
using vfio::CapType;
using vfio::DeviceInfo;
using vfio::FeatureDataSize;
using vfio::FeatureDeviceState;
using vfio::FeatureHeader;
using vfio::FeatureLoggingControl;
using vfio::FeatureLoggingReport;
using vfio::FeatureMigration;
using vfio::FeaturePrecopyInfo;
using vfio::IrqInfo;
using vfio::IrqSet;
using vfio::kCapSparseMmap;
using vfio::kCapType;
using vfio::kDevicePci;
using vfio::kDeviceReset;
using vfio::kFeatureGet;
using vfio::kFeatureMask;
using vfio::kFeatureProbe;
using vfio::kFeatureSet;
using vfio::kIrqActionMask;
using vfio::kIrqActionTrigger;
using vfio::kIrqActionUnmask;
using vfio::kIrqDataBool;
using vfio::kIrqDataEventfd;
using vfio::kIrqDataNone;
using vfio::kPrecopyReinit;
using vfio::kRegionCaps;
using vfio::kRegionMmap;
using vfio::kRegionRead;
using vfio::kRegionWrite;
using vfio::LoggingRange;
using vfio::RegionInfo;
using vfio::SparseArea;

enum class Command : std::uint16_t {
  Version = 1,
  DmaMap = 2,
  DmaUnmap = 3,
  DeviceGetInfo = 4,
  DeviceGetRegionInfo = 5,
  DeviceGetRegionIoFds = 6,
  DeviceGetIrqInfo = 7,
  DeviceSetIrqs = 8,
  RegionRead = 9,
  RegionWrite = 10,
  DmaRead = 11,   // server to client
  DmaWrite = 12,  // server to client
  DeviceReset = 13,
  RegionWriteMulti = 15,
  DeviceFeature = 16,
  MigDataRead = 17,
  MigDataWrite = 18,
  // Ours, far from those that the specification numbers upward; only where our key was negotiated.
  MigDataReadShared = 0xff01,
  MigDataWriteShared = 0xff02,
};

// Whether descriptors may come with the reply: the twin socket, a region's file, eventfds, our shared memory.
constexpr bool reply_brings_descriptors(Command command) {
  return command == Command::Version || command == Command::DeviceGetRegionInfo ||
         command == Command::DeviceGetRegionIoFds || command == Command::DeviceFeature;
}

struct Header {
  std::uint16_t id = 0;
  std::uint16_t command = 0;
  std::uint32_t size = 0;  // of the whole message, this header included
  std::uint32_t flags = 0;
  std::uint32_t error = 0;
};
static_assert(sizeof(Header) == 16);

inline constexpr std::uint32_t kTypeMask = 0xf;
inline constexpr std::uint32_t kTypeCommand = 0;
inline constexpr std::uint32_t kTypeReply = 1;
inline constexpr std::uint32_t kNoReply = 1U << 4;
inline constexpr std::uint32_t kError = 1U << 5;

// VERSION: followed by JSON, NUL-terminated.
struct Version {
  std::uint16_t major = 0;
  std::uint16_t minor = 0;
};
static_assert(sizeof(Version) == 4);
inline constexpr std::uint16_t kMajor = 0;
inline constexpr std::uint16_t kMinor = 1;

// What the specification has a peer assume about one that does not say.
inline constexpr std::uint32_t kDefaultMaxMsgFds = 1;
inline constexpr std::uint32_t kDefaultMaxDataXferSize = 1U << 20;
inline constexpr std::uint64_t kDefaultMaxDmaMaps = 65'535;
inline constexpr std::uint64_t kDefaultPageSizes = 4096;

// What we say of ourselves. A released client refuses more than 16 descriptors.
inline constexpr std::uint32_t kMaxMsgFds = 8;

// Bounds on what a peer makes us keep or do.
inline constexpr std::size_t kMaxVersionJson = 64U << 10;       // bytes
inline constexpr std::uint64_t kMaxDirtyBitmap = 512ULL << 20;  // bytes in one reply: 16 TiB of 4 KiB pages
inline constexpr std::uint32_t kMessageOverhead = 72U << 10;    // the largest command beyond its data: 4096 log ranges
inline constexpr std::size_t kSharedDataSize = 2U << 20;  // of ours: it stays in the cache from one side to the other
inline constexpr std::uint32_t kLargestDataXferSize = 64U << 20;  // of ours, and used of a peer's

struct DmaMap {
  std::uint32_t argsz = 0;
  std::uint32_t flags = 0;
  std::uint64_t offset = 0;
  std::uint64_t address = 0;
  std::uint64_t size = 0;
};
static_assert(sizeof(DmaMap) == 32);
inline constexpr std::uint32_t kDmaMapRead = 1U << 0;
inline constexpr std::uint32_t kDmaMapWrite = 1U << 1;

struct DmaUnmap {
  std::uint32_t argsz = 0;
  std::uint32_t flags = 0;
  std::uint64_t address = 0;
  std::uint64_t size = 0;
};
static_assert(sizeof(DmaUnmap) == 24);
inline constexpr std::uint32_t kUnmapGetDirtyBitmap = 1U << 0;  // VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP
inline constexpr std::uint32_t kUnmapAll = 1U << 1;             // VFIO_DMA_UNMAP_FLAG_ALL

// Follows DmaUnmap with kUnmapGetDirtyBitmap, in the request without and in the reply with `size` bytes behind it.
struct Bitmap {
  std::uint64_t page_size = 0;
  std::uint64_t size = 0;  // bytes
};
static_assert(sizeof(Bitmap) == 16);

struct RegionIoFds {
  std::uint32_t argsz = 0;
  std::uint32_t flags = 0;
  std::uint32_t index = 0;
  std::uint32_t count = 0;
};
static_assert(sizeof(RegionIoFds) == 16);
struct SubRegionIoeventfd {
  std::uint64_t offset = 0;
  std::uint64_t size = 0;
  std::uint32_t fd_index = 0;
  std::uint32_t type = 0;  // VFIO_USER_IO_FD_TYPE_IOEVENTFD
  std::uint32_t flags = 0;
  std::uint32_t padding = 0;
  std::uint64_t datamatch = 0;
};
static_assert(sizeof(SubRegionIoeventfd) == 40);

// REGION_READ and REGION_WRITE; data follows in the reply and in the request.
struct RegionAccess {
  std::uint64_t offset = 0;
  std::uint32_t region = 0;
  std::uint32_t count = 0;
};
static_assert(sizeof(RegionAccess) == 16);

// DMA_READ and DMA_WRITE; data follows in the reply and in the request.
struct DmaAccessMessage {
  std::uint64_t address = 0;
  std::uint64_t count = 0;
};
static_assert(sizeof(DmaAccessMessage) == 16);

// What QEMU has instead (hw/vfio-user/protocol.h, VFIOUserDMARW, to 11.1 at least): a count of 4 bytes, data right
// behind it, and behind that as many bytes as make the message as long as the specification's.
inline constexpr std::size_t kPackedDmaHead = 12;
inline constexpr std::size_t kPackedDmaPadding = sizeof(DmaAccessMessage) - kPackedDmaHead;
// Nor does QEMU send the rest of a reply that its socket's buffer took in part (hw/vfio-user/proxy.c,
// vfio_user_send_qio). So it is asked for no more than always fits: the smallest buffer that Linux gives by default is
// three times as large.
inline constexpr std::uint32_t kPackedMostRead = 64U << 10;

struct RegionWriteMulti {
  std::uint64_t count = 0;
};
struct SingleWrite {
  std::uint64_t offset = 0;
  std::uint32_t region = 0;
  std::uint32_t count = 0;  // 1..8
  std::uint64_t data = 0;
};
static_assert(sizeof(SingleWrite) == 24);

// What VFIO asks of a migration data descriptor by VFIO_MIG_GET_PRECOPY_INFO, as a feature of our own: GET only, and
// only where our key was negotiated. VFIO numbers its features upward from 0.
inline constexpr std::uint16_t kFeaturePrecopyInfo = 0xff00;
// The memory that MIG_DATA_READ_SHARED and MIG_DATA_WRITE_SHARED use: GET only, likewise.
inline constexpr std::uint16_t kFeatureSharedData = 0xff01;

// MIG_DATA_READ and MIG_DATA_WRITE; data follows in the reply and in the request.
struct MigData {
  std::uint32_t argsz = 0;
  std::uint32_t size = 0;
};
static_assert(sizeof(MigData) == 8);

// MIG_DATA_READ_SHARED and MIG_DATA_WRITE_SHARED; the data lies at `offset` of the shared memory. Begins as MigData.
struct MigDataShared {
  std::uint32_t argsz = 0;
  std::uint32_t size = 0;
  std::uint64_t offset = 0;
};
static_assert(sizeof(MigDataShared) == 16);
struct FeatureSharedDataSize {
  std::uint64_t size = 0;  // of the file whose descriptor comes with the reply
};

}  // namespace gangway::vfio_user
