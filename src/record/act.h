// What a client and a device did, one act at a time: the view of a recording that everything above the file shares.
//
// An act is a request with its answer, whichever transport carried it: SetState is the same in a recording of vfio-user
// and in one of the kernel. What a transport has of its own, and what nobody knows, is Other.
//
// Thread-safety: values.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include <gangway/contract.h>
#include <gangway/types.h>

#include "record/record.h"

namespace gangway::record {

// --- the connection, or the opened device ---

struct Open {  // a client came; a file under /dev/vfio was opened
  std::string what;
};
struct Close {  // it went; the descriptor was closed
  std::string what;
};
struct CloseData {  // a descriptor of migration data was closed, which only a recording of the kernel shows
  std::string what;
  bool current = true;  // that of the last session which a SET began
};
struct Negotiate {
  std::uint16_t major = 0;
  std::uint16_t minor = 0;
  std::string proposed;  // JSON
  std::uint16_t answered_major = 0;
  std::uint16_t answered_minor = 0;
  std::string answered;
};

// --- what the device is ---

struct GetInfo {
  std::uint32_t flags = 0;
  std::uint32_t regions = 0;
  std::uint32_t irqs = 0;
};
struct GetRegion {
  std::uint32_t region = 0;
  std::uint32_t room = 0;  // argsz
  std::uint32_t flags = 0;
  std::uint64_t size = 0;
  std::optional<std::pair<std::uint32_t, std::uint32_t>> type;    // and sub-type
  std::vector<std::pair<std::uint64_t, std::uint64_t>> mappable;  // offset and size
};
struct GetIrq {
  std::uint32_t type = 0;
  std::uint32_t flags = 0;
  std::uint32_t count = 0;
};
struct GetRegionFds {
  std::uint32_t region = 0;
  std::uint32_t count = 0;
};

// --- its use ---

struct ReadRegion {
  std::uint32_t region = 0;
  std::uint64_t offset = 0;
  std::uint32_t size = 0;
  std::vector<std::byte> data;  // or
  Payload payload;              // where it is migration data, or long
};
struct WriteRegion {
  std::uint32_t region = 0;
  std::uint64_t offset = 0;
  std::uint32_t size = 0;
  std::vector<std::byte> data;
  Payload payload;
};
struct WriteRegions {
  std::vector<WriteRegion> writes;
  std::uint64_t done = 0;
};
struct MapRegion {  // into memory, which only a recording of the kernel shows
  std::uint64_t offset = 0;
  std::uint64_t size = 0;
};
struct SetIrqs {
  std::uint32_t type = 0;
  std::uint32_t flags = 0;  // VFIO_IRQ_SET_*
  std::uint32_t start = 0;
  std::uint32_t count = 0;
  std::vector<std::byte> bools;
  std::uint32_t descriptors = 0;
};
struct MapDma {
  IovaRange range;
  std::uint32_t flags = 0;   // 1 read, 2 write
  std::uint64_t offset = 0;  // in the file
  bool with_memory = false;  // a descriptor came along, or an address
};
struct UnmapDma {
  IovaRange range;
  std::uint32_t flags = 0;
  Payload bitmap;  // of dirty pages, where it was asked for
};
struct DeviceReads {  // memory of the client, by message
  Iova iova;
  std::uint64_t size = 0;
  Payload payload;
};
struct DeviceWrites {
  Iova iova;
  std::uint64_t size = 0;
  Payload payload;
};
struct Reset {};

// --- features ---

struct ProbeFeature {
  std::uint16_t feature = 0;
  bool get = false;
  bool set = false;
};
struct GetFeature {  // one that has no act of its own
  std::uint16_t feature = 0;
  std::vector<std::byte> argument;
  std::vector<std::byte> answer;
};
struct SetFeature {
  std::uint16_t feature = 0;
  std::vector<std::byte> argument;
};
struct GetMigrationFlags {
  std::uint64_t flags = 0;
};
struct GetState {
  std::uint32_t state = 0;
};
struct SetState {
  std::uint32_t state = 0;  // that was asked for
};
struct GetDataSize {
  std::uint64_t size = 0;
};
struct GetPrecopyInfo {
  std::uint32_t flags = 0;
  std::uint64_t initial = 0;
  std::uint64_t dirty = 0;
};
struct StartLogging {
  std::uint64_t page_size = 0;
  std::vector<IovaRange> ranges;
  std::uint64_t answered_page_size = 0;
};
struct StopLogging {};
struct ReportLogging {
  IovaRange range;
  std::uint64_t page_size = 0;
  Payload bitmap;
};

// --- migration data ---

struct ReadData {
  std::uint64_t asked = 0;
  Payload got;
  bool shared = false;  // by shared memory
  bool by_descriptor = false;

  // A message that is shorter than was asked for tells the end (WIR-MIGREAD); of a descriptor only 0 bytes do.
  [[nodiscard]] bool met_end() const { return got.size == 0 || (!by_descriptor && got.size < asked); }
};
struct WriteData {
  Payload given;
  bool shared = false;
};

// --- the rest ---

struct Other {
  std::string name;  // "command 14", "VFIO_IOMMU_GET_INFO"
  std::vector<std::byte> argument;
  std::vector<std::byte> answer;
};

using Doing =
    std::variant<Open, Close, CloseData, Negotiate, GetInfo, GetRegion, GetIrq, GetRegionFds, ReadRegion, WriteRegion,
                 WriteRegions, MapRegion, SetIrqs, MapDma, UnmapDma, DeviceReads, DeviceWrites, Reset, ProbeFeature,
                 GetFeature, SetFeature, GetMigrationFlags, GetState, SetState, GetDataSize, GetPrecopyInfo,
                 StartLogging, StopLogging, ReportLogging, ReadData, WriteData, Other>;

struct Act {
  Doing doing;
  bool by_device = false;  // it asked, and the client answered
  Time time{};             // of the request
  Time took{};             // until the answer
  // Of vfio-user the connection; of the kernel the device that the act is about, by the number of its opened file in
  // the recording; of an opened file that leads to no device, that file's own.
  std::uint32_t connection = 0;
  std::vector<std::uint32_t> also;  // further devices: those that share a container or an iommufd
  std::int32_t thread = 0;          // of the kernel only
  bool answered = false;            // false: no reply was wanted, or the recording ends before it
  bool wants_reply = true;
  int error = 0;  // errno of the answer

  [[nodiscard]] bool succeeded() const { return answered && error == 0; }
  [[nodiscard]] bool is_about(std::uint32_t one) const {
    return connection == one || std::ranges::find(also, one) != also.end();
  }
};

// "set_state", "read_region", ...: one word for each of Doing.
[[nodiscard]] std::string_view name(const Doing& doing);
[[nodiscard]] std::span<const std::string_view> names();

}  // namespace gangway::record
