// The messages of vfio-user once more, read from the specification alone, so that the tests share no mistake with the
// server: payloads are written field by field in the order of the specification's tables.
// Source: QEMU docs/interop/vfio-user.rst; Linux include/uapi/linux/vfio.h for what it borrows.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace gangway::hostile {

using Bytes = std::vector<std::byte>;

inline constexpr std::uint32_t kMax32 = std::numeric_limits<std::uint32_t>::max();
inline constexpr std::uint64_t kMax64 = std::numeric_limits<std::uint64_t>::max();

// Command numbers; not an enum, for most of what the tests send is none.
inline constexpr std::uint16_t kVersion = 1;
inline constexpr std::uint16_t kDmaMap = 2;
inline constexpr std::uint16_t kDmaUnmap = 3;
inline constexpr std::uint16_t kGetInfo = 4;
inline constexpr std::uint16_t kGetRegionInfo = 5;
inline constexpr std::uint16_t kGetRegionIoFds = 6;
inline constexpr std::uint16_t kGetIrqInfo = 7;
inline constexpr std::uint16_t kSetIrqs = 8;
inline constexpr std::uint16_t kRegionRead = 9;
inline constexpr std::uint16_t kRegionWrite = 10;
inline constexpr std::uint16_t kDmaRead = 11;
inline constexpr std::uint16_t kDmaWrite = 12;
inline constexpr std::uint16_t kReset = 13;
inline constexpr std::uint16_t kRegionWriteMulti = 15;
inline constexpr std::uint16_t kFeature = 16;
inline constexpr std::uint16_t kMigDataRead = 17;
inline constexpr std::uint16_t kMigDataWrite = 18;

inline constexpr std::uint32_t kTypeReply = 1;
inline constexpr std::uint32_t kNoReply = 1U << 4;
inline constexpr std::uint32_t kErrorBit = 1U << 5;

inline constexpr std::uint32_t kFeatureGet = 1U << 16;
inline constexpr std::uint32_t kFeatureSet = 1U << 17;
inline constexpr std::uint32_t kFeatureProbe = 1U << 18;
inline constexpr std::uint32_t kFeatureMigration = 1;
inline constexpr std::uint32_t kFeatureDeviceState = 2;
inline constexpr std::uint32_t kFeatureLoggingStart = 6;
inline constexpr std::uint32_t kFeatureLoggingStop = 7;
inline constexpr std::uint32_t kFeatureLoggingReport = 8;
inline constexpr std::uint32_t kFeatureDataSize = 9;

inline constexpr std::uint32_t kIrqNone = 1U << 0;
inline constexpr std::uint32_t kIrqBool = 1U << 1;
inline constexpr std::uint32_t kIrqEventfds = 1U << 2;
inline constexpr std::uint32_t kIrqMask = 1U << 3;
inline constexpr std::uint32_t kIrqUnmask = 1U << 4;
inline constexpr std::uint32_t kIrqTrigger = 1U << 5;

inline constexpr std::uint32_t kUnmapDirtyBitmap = 1U << 0;
inline constexpr std::uint32_t kUnmapAll = 1U << 1;

inline constexpr std::size_t kHeaderSize = 16;
struct Header {
  std::uint16_t id = 0;
  std::uint16_t command = 0;
  std::uint32_t size = 0;
  std::uint32_t flags = 0;
  std::uint32_t error = 0;
};

// Writes fields one after the other.
class Fields {
 public:
  Fields& u16(std::uint16_t value) { return put(value); }
  Fields& u32(std::uint32_t value) { return put(value); }
  Fields& u64(std::uint64_t value) { return put(value); }
  Fields& bytes(std::span<const std::byte> data);
  Fields& text(std::string_view data) { return bytes(std::as_bytes(std::span(data))); }
  [[nodiscard]] Bytes take() { return std::move(bytes_); }

 private:
  template <class T>
  Fields& put(T value) {
    return bytes(std::as_bytes(std::span(&value, 1)));
  }
  Bytes bytes_;
};

// Reads a field. Throws when it does not lie within the bytes: the server sent too little.
template <class T>
[[nodiscard]] T field(std::span<const std::byte> bytes, std::size_t offset) {
  if (offset + sizeof(T) > bytes.size()) {
    throw std::runtime_error("a field at " + std::to_string(offset) + " of " + std::to_string(sizeof(T)) +
                             " bytes lies beyond a payload of " + std::to_string(bytes.size()));
  }
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof(T));
  return value;
}

[[nodiscard]] Bytes encode(const Header& header);
// Header and body as one.
[[nodiscard]] Bytes message(std::uint16_t id, std::uint16_t command, std::span<const std::byte> body,
                            std::uint32_t flags = 0);
[[nodiscard]] Bytes joined(std::span<const std::byte> front, std::span<const std::byte> back);
[[nodiscard]] Bytes pattern(std::size_t size, std::uint8_t seed = 1);

// --- payloads; what is not given is what a well-behaved client sends ---

// The JSON as it is, a NUL behind it.
[[nodiscard]] Bytes version(std::string_view json, std::uint16_t minor = 0, std::uint16_t major = 0);

struct DmaMap {
  std::uint64_t address = 0x10000;
  std::uint64_t size = 0x1000;
  std::uint64_t offset = 0;
  std::uint32_t flags = 3;  // readable and writeable
  std::uint32_t argsz = 32;
};
[[nodiscard]] Bytes dma_map(const DmaMap& fields = {});

struct DmaUnmap {
  std::uint64_t address = 0x10000;
  std::uint64_t size = 0x1000;
  std::uint32_t flags = 0;
  std::uint32_t argsz = 24;
};
[[nodiscard]] Bytes dma_unmap(const DmaUnmap& fields = {});
// With the bitmap structure that follows for kUnmapDirtyBitmap.
[[nodiscard]] Bytes dma_unmap_bitmap(const DmaUnmap& fields, std::uint64_t page_size, std::uint64_t bitmap_size);

[[nodiscard]] Bytes get_info(std::uint32_t argsz = 16);
[[nodiscard]] Bytes get_region_info(std::uint32_t index, std::uint32_t argsz = 4096);
[[nodiscard]] Bytes get_region_io_fds(std::uint32_t index, std::uint32_t argsz = 4096);
[[nodiscard]] Bytes get_irq_info(std::uint32_t index, std::uint32_t argsz = 16);

struct SetIrqs {
  std::uint32_t flags = kIrqEventfds | kIrqTrigger;
  std::uint32_t index = 2;  // MSI-X
  std::uint32_t start = 0;
  std::uint32_t count = 1;
  Bytes data;
};
[[nodiscard]] Bytes set_irqs(const SetIrqs& fields);
[[nodiscard]] Bytes set_irqs(const SetIrqs& fields, std::uint32_t argsz);

[[nodiscard]] Bytes region_read(std::uint32_t region, std::uint64_t offset, std::uint32_t count);
[[nodiscard]] Bytes region_write(std::uint32_t region, std::uint64_t offset, std::span<const std::byte> data);
[[nodiscard]] Bytes region_write(std::uint32_t region, std::uint64_t offset, std::uint32_t count,
                                 std::span<const std::byte> data);

struct SingleWrite {
  std::uint64_t offset = 0;
  std::uint32_t region = 0;
  std::uint32_t count = 8;
  std::uint64_t data = 0;
};
[[nodiscard]] Bytes region_write_multi(std::uint64_t count, std::span<const SingleWrite> writes);

// `flags` holds the feature and GET, SET, PROBE.
[[nodiscard]] Bytes feature(std::uint32_t flags, std::span<const std::byte> data = {});
[[nodiscard]] Bytes feature(std::uint32_t flags, std::span<const std::byte> data, std::uint32_t argsz);
[[nodiscard]] Bytes set_state(std::uint32_t state);
[[nodiscard]] Bytes get_state();
struct LoggedRange {
  std::uint64_t iova = 0;
  std::uint64_t length = 0;
};
[[nodiscard]] Bytes logging_start(std::uint64_t page_size, std::span<const LoggedRange> ranges);
[[nodiscard]] Bytes logging_start(std::uint64_t page_size, std::uint32_t count, std::span<const LoggedRange> ranges);
[[nodiscard]] Bytes logging_stop();
[[nodiscard]] Bytes logging_report(std::uint64_t iova, std::uint64_t length, std::uint64_t page_size,
                                   std::uint32_t argsz = 1U << 20);

[[nodiscard]] Bytes mig_data_read(std::uint32_t size);
[[nodiscard]] Bytes mig_data_read(std::uint32_t size, std::uint32_t argsz);
[[nodiscard]] Bytes mig_data_write(std::span<const std::byte> data);
[[nodiscard]] Bytes mig_data_write(std::uint32_t size, std::uint32_t argsz, std::span<const std::byte> data);

// enum vfio_device_mig_state
inline constexpr std::uint32_t kStateError = 0;
inline constexpr std::uint32_t kStateStop = 1;
inline constexpr std::uint32_t kStateRunning = 2;
inline constexpr std::uint32_t kStateStopCopy = 3;
inline constexpr std::uint32_t kStateResuming = 4;
inline constexpr std::uint32_t kStateRunningP2p = 5;
inline constexpr std::uint32_t kStatePreCopy = 6;
inline constexpr std::uint32_t kStatePreCopyP2p = 7;

}  // namespace gangway::hostile
