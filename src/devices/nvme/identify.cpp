#include "devices/nvme/identify.h"

#include <algorithm>
#include <cstring>

#include <fmt/format.h>

#include "base/bytes.h"
#include "devices/nvme/async_events.h"
#include "devices/nvme/features.h"
#include "devices/nvme/log_pages.h"
#include "devices/nvme/pci_identity.h"
#include "devices/nvme/registers.h"
#include "devices/nvme/spec.h"

namespace gangway::nvme {
namespace {

enum class Cns : std::uint8_t { Namespace = 0, Controller = 1, ActiveNamespaces = 2, NamespaceDescriptors = 3 };

constexpr std::uint16_t kOacsDoorbellBuffer = 1U << 8;
constexpr std::uint16_t kOncsCompare = 1U << 0;
constexpr std::uint16_t kOncsDatasetManagement = 1U << 2;
constexpr std::uint16_t kOncsWriteZeroes = 1U << 3;
constexpr std::uint16_t kOncsSaveSelect = 1U << 4;
constexpr std::uint8_t kLpaOffsets = 1U << 2;
constexpr std::uint8_t kVwcPresent = 1U << 0;
constexpr std::uint8_t kVwcFlushBroadcast = 3U << 1;  // FLUSH with NSID FFFFFFFFh is supported
constexpr std::uint8_t kFrmwSlot1ReadOnly = 1U << 0;
constexpr std::uint8_t kFrmwOneSlot = 1U << 1;
constexpr std::uint8_t kCntrlTypeIo = 1;
constexpr std::uint8_t kAbortLimit = 3;                  // 0-based
constexpr std::uint8_t kEntrySizes = 6U << 4 | 6U;       // 64-byte submission queue entries, at least and at most
constexpr std::uint8_t kCompletionSizes = 4U << 4 | 4U;  // 16-byte completion queue entries
constexpr std::uint32_t kShutdownMicroseconds = 10'000'000;

constexpr std::uint8_t kNsfeatPerformance = 1U << 4;  // NPWG to NOWS are given
constexpr std::uint8_t kDeallocatedReadsZero = 1U << 0;
constexpr std::uint8_t kDeallocateInWriteZeroes = 1U << 3;
constexpr std::uint8_t kNsattrWriteProtected = 1U << 0;
constexpr std::uint32_t kPreferredGranularity = 4096;  // bytes: a page of the page cache

constexpr std::uint8_t kDescriptorUuid = 3;
constexpr std::uint8_t kUuidSize = 16;

// ASCII, padded with spaces, without a terminator.
template <std::size_t N>
std::array<char, N> padded(std::string_view text) {
  std::array<char, N> field;
  field.fill(' ');
  std::copy_n(text.begin(), std::min(N, text.size()), field.begin());
  return field;
}

IdentifyController describe(const ControllerIdentity& identity, std::size_t namespaces) {
  IdentifyController data;
  data.vid = kPciVendor;
  data.ssvid = kPciVendor;
  data.sn = padded<kSerialLength>(identity.serial);
  data.mn = padded<kModelLength>(identity.model);
  data.fr = kFirmwareRevision;
  data.rab = 6;
  data.mdts = kMaxTransferShift;
  data.ver = kVersion14;
  data.rtd3e = kShutdownMicroseconds;
  data.cntrltype = kCntrlTypeIo;
  data.oacs = kOacsDoorbellBuffer;
  data.acl = kAbortLimit;
  data.aerl = AsyncEvents::kMaxRequests - 1;
  data.frmw = kFrmwSlot1ReadOnly | kFrmwOneSlot;
  data.lpa = kLpaOffsets;
  data.elpe = kErrorLogEntries - 1;
  data.wctemp = kWarningTemperature;
  data.cctemp = kCriticalTemperature;
  data.sqes = kEntrySizes;
  data.cqes = kCompletionSizes;
  data.nn = static_cast<std::uint32_t>(namespaces);
  data.oncs = kOncsCompare | kOncsDatasetManagement | kOncsWriteZeroes | kOncsSaveSelect;
  data.vwc = kVwcPresent | kVwcFlushBroadcast;
  data.psd[0].max_power = 2500;
  const std::string name = fmt::format("nqn.2024-11.org.gangway:nvme:{}", identity.serial);
  std::ranges::copy(name, data.subnqn.begin());
  return data;
}

IdentifyNamespace describe(const Namespace& space) {
  IdentifyNamespace data;
  data.nsze = space.blocks();
  data.ncap = space.blocks();
  data.nuse = space.blocks();
  data.nsfeat = kNsfeatPerformance;
  data.dlfeat = kDeallocatedReadsZero | kDeallocateInWriteZeroes;
  const auto preferred = static_cast<std::uint16_t>((kPreferredGranularity >> space.block_shift()) - 1);  // 0-based
  data.npwg = preferred;
  data.npwa = preferred;
  data.npdg = preferred;
  data.npda = preferred;
  data.nows = preferred;
  data.nsattr = space.read_only() ? kNsattrWriteProtected : 0;
  data.lbaf[0].data_size_shift = static_cast<std::uint8_t>(space.block_shift());
  return data;
}

// FNV-1a. Stable over versions: the identifier is what hosts know the namespace by.
std::uint64_t hash(std::string_view text, std::uint64_t seed) {
  std::uint64_t value = 0xcbf2'9ce4'8422'2325 ^ seed;
  for (const char c : text) {
    value ^= static_cast<unsigned char>(c);
    value *= 0x0000'0100'0000'01b3;
  }
  return value;
}

// A version 8 (custom) UUID out of the serial number and the namespace.
std::array<std::uint8_t, kUuidSize> uuid(std::string_view serial, std::uint32_t nsid) {
  std::array<std::uint8_t, kUuidSize> bytes{};
  const std::array<std::uint64_t, 2> words{hash(serial, nsid), hash(serial, std::uint64_t{nsid} << 32 | 0x5a)};
  std::memcpy(bytes.data(), words.data(), bytes.size());
  bytes[6] = static_cast<std::uint8_t>((bytes[6] & 0x0fU) | 0x80U);
  bytes[8] = static_cast<std::uint8_t>((bytes[8] & 0x3fU) | 0x80U);
  return bytes;
}

template <class T>
IdentifyData to_data(const T& structure) {
  IdentifyData data{};
  (void)store_at(data, 0, structure);
  return data;
}

IdentifyData active_namespaces(std::uint32_t above, std::size_t namespaces) {
  IdentifyData data{};
  std::size_t offset = 0;
  for (std::uint32_t nsid = above + 1; nsid <= namespaces && store_at(data, offset, nsid); ++nsid) {
    offset += sizeof(nsid);
  }
  return data;
}

IdentifyData descriptors(std::uint32_t nsid, std::string_view serial) {
  IdentifyData data{};
  (void)store_at(data, 0, kDescriptorUuid);
  (void)store_at(data, 1, kUuidSize);
  (void)store_at(data, 4, uuid(serial, nsid));
  return data;
}

}  // namespace

std::expected<IdentifyData, Status> identify(std::uint8_t cns, std::uint32_t nsid, const ControllerIdentity& identity,
                                             std::span<const Namespace> namespaces) {
  const bool present = nsid >= 1 && nsid <= namespaces.size();
  switch (static_cast<Cns>(cns)) {
    case Cns::Namespace:
      // The broadcast asks for what namespaces have in common, which takes namespace management.
      if (!present) return std::unexpected(Status::InvalidNamespace);
      return to_data(describe(namespaces[nsid - 1]));
    case Cns::Controller:
      return to_data(describe(identity, namespaces.size()));
    case Cns::ActiveNamespaces:
      if (nsid >= kBroadcastNamespace - 1) return std::unexpected(Status::InvalidNamespace);
      return active_namespaces(nsid, namespaces.size());
    case Cns::NamespaceDescriptors:
      if (!present) return std::unexpected(Status::InvalidNamespace);
      return descriptors(nsid, identity.serial);
  }
  return std::unexpected(Status::InvalidField);
}

}  // namespace gangway::nvme
