// Structures of NVM Express 1.4 as they lie in the host's memory, and the numbers in them. Little-endian, as every
// machine gangway runs on.
// Source: NVM Express 1.4: 4.2 (submission queue entry), 4.6 (completion queue entry), 5.14 (log pages), 5.15
// (identify), 6.7 (dataset management).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace gangway::nvme {

inline constexpr std::uint32_t kBroadcastNamespace = 0xffff'ffff;

enum class AdminOpcode : std::uint8_t {
  DeleteSubmissionQueue = 0x00,
  CreateSubmissionQueue = 0x01,
  GetLogPage = 0x02,
  DeleteCompletionQueue = 0x04,
  CreateCompletionQueue = 0x05,
  Identify = 0x06,
  Abort = 0x08,
  SetFeatures = 0x09,
  GetFeatures = 0x0a,
  AsyncEventRequest = 0x0c,
  DoorbellBufferConfig = 0x7c,
};

enum class IoOpcode : std::uint8_t {
  Flush = 0x00,
  Write = 0x01,
  Read = 0x02,
  Compare = 0x05,
  WriteZeroes = 0x08,
  DatasetManagement = 0x09,
};

struct Command {
  std::uint8_t opcode = 0;
  std::uint8_t flags = 0;  // fused operation in bits 1:0, PRP or SGL in bits 7:6
  std::uint16_t cid = 0;
  std::uint32_t nsid = 0;
  std::uint32_t cdw2 = 0;
  std::uint32_t cdw3 = 0;
  std::uint64_t metadata = 0;
  std::uint64_t prp1 = 0;
  std::uint64_t prp2 = 0;
  std::uint32_t cdw10 = 0;
  std::uint32_t cdw11 = 0;
  std::uint32_t cdw12 = 0;
  std::uint32_t cdw13 = 0;
  std::uint32_t cdw14 = 0;
  std::uint32_t cdw15 = 0;
};
static_assert(sizeof(Command) == 64);

// Neither fused operations nor SGLs are offered.
[[nodiscard]] constexpr bool plain(const Command& command) { return (command.flags & 0xc3) == 0; }

struct Completion {
  std::uint32_t result = 0;
  std::uint32_t reserved = 0;
  std::uint16_t sq_head = 0;
  std::uint16_t sq_id = 0;
  std::uint16_t cid = 0;
  std::uint16_t status = 0;  // bit 0 is the phase, the rest status_field()
};
static_assert(sizeof(Completion) == 16);

inline constexpr std::uint32_t kRwForceUnitAccess = 1U << 30;      // cdw12
inline constexpr std::uint32_t kWriteZeroesDeallocate = 1U << 25;  // cdw12
inline constexpr std::uint32_t kDatasetDeallocate = 1U << 2;       // cdw11

struct DatasetRange {
  std::uint32_t attributes = 0;
  std::uint32_t blocks = 0;
  std::uint64_t start = 0;
};
static_assert(sizeof(DatasetRange) == 16);

struct PowerState {
  std::uint16_t max_power = 0;  // centiwatts
  std::uint16_t reserved0 = 0;
  std::uint32_t entry_latency = 0;
  std::uint32_t exit_latency = 0;
  std::array<std::uint8_t, 20> rest{};
};
static_assert(sizeof(PowerState) == 32);

struct IdentifyController {
  std::uint16_t vid = 0;
  std::uint16_t ssvid = 0;
  std::array<char, 20> sn{};
  std::array<char, 40> mn{};
  std::array<char, 8> fr{};
  std::uint8_t rab = 0;
  std::array<std::uint8_t, 3> ieee{};
  std::uint8_t cmic = 0;
  std::uint8_t mdts = 0;  // in powers of two of the smallest page
  std::uint16_t cntlid = 0;
  std::uint32_t ver = 0;
  std::uint32_t rtd3r = 0;
  std::uint32_t rtd3e = 0;
  std::uint32_t oaes = 0;
  std::uint32_t ctratt = 0;
  std::uint16_t rrls = 0;
  std::array<std::uint8_t, 9> reserved102{};
  std::uint8_t cntrltype = 0;
  std::array<std::uint8_t, 16> fguid{};
  std::array<std::uint8_t, 128> reserved128{};
  std::uint16_t oacs = 0;
  std::uint8_t acl = 0;
  std::uint8_t aerl = 0;
  std::uint8_t frmw = 0;
  std::uint8_t lpa = 0;
  std::uint8_t elpe = 0;
  std::uint8_t npss = 0;
  std::uint8_t avscc = 0;
  std::uint8_t apsta = 0;
  std::uint16_t wctemp = 0;
  std::uint16_t cctemp = 0;
  std::array<std::uint8_t, 242> reserved270{};
  std::uint8_t sqes = 0;
  std::uint8_t cqes = 0;
  std::uint16_t maxcmd = 0;
  std::uint32_t nn = 0;
  std::uint16_t oncs = 0;
  std::uint16_t fuses = 0;
  std::uint8_t fna = 0;
  std::uint8_t vwc = 0;
  std::uint16_t awun = 0;
  std::uint16_t awupf = 0;
  std::uint8_t nvscc = 0;
  std::uint8_t nwpc = 0;
  std::uint16_t acwu = 0;
  std::array<std::uint8_t, 2> reserved534{};
  std::uint32_t sgls = 0;
  std::uint32_t mnan = 0;
  std::array<std::uint8_t, 224> reserved544{};
  std::array<char, 256> subnqn{};
  std::array<std::uint8_t, 1024> reserved1024{};
  std::array<PowerState, 32> psd{};
  std::array<std::uint8_t, 1024> vendor{};
};
static_assert(sizeof(IdentifyController) == 4096);
static_assert(offsetof(IdentifyController, cntrltype) == 111);
static_assert(offsetof(IdentifyController, oacs) == 256);
static_assert(offsetof(IdentifyController, sqes) == 512);
static_assert(offsetof(IdentifyController, vwc) == 525);
static_assert(offsetof(IdentifyController, subnqn) == 768);
static_assert(offsetof(IdentifyController, psd) == 2048);

struct LbaFormat {
  std::uint16_t metadata_size = 0;
  std::uint8_t data_size_shift = 0;
  std::uint8_t relative_performance = 0;
};

struct IdentifyNamespace {
  std::uint64_t nsze = 0;
  std::uint64_t ncap = 0;
  std::uint64_t nuse = 0;
  std::uint8_t nsfeat = 0;
  std::uint8_t nlbaf = 0;  // count - 1
  std::uint8_t flbas = 0;
  std::uint8_t mc = 0;
  std::uint8_t dpc = 0;
  std::uint8_t dps = 0;
  std::uint8_t nmic = 0;
  std::uint8_t rescap = 0;
  std::uint8_t fpi = 0;
  std::uint8_t dlfeat = 0;
  std::uint16_t nawun = 0;
  std::uint16_t nawupf = 0;
  std::uint16_t nacwu = 0;
  std::uint16_t nabsn = 0;
  std::uint16_t nabo = 0;
  std::uint16_t nabspf = 0;
  std::uint16_t noiob = 0;
  std::array<std::uint8_t, 16> nvmcap{};
  std::uint16_t npwg = 0;
  std::uint16_t npwa = 0;
  std::uint16_t npdg = 0;
  std::uint16_t npda = 0;
  std::uint16_t nows = 0;
  std::array<std::uint8_t, 18> reserved74{};
  std::uint32_t anagrpid = 0;
  std::array<std::uint8_t, 3> reserved96{};
  std::uint8_t nsattr = 0;
  std::uint16_t nvmsetid = 0;
  std::uint16_t endgid = 0;
  std::array<std::uint8_t, 16> nguid{};
  std::array<std::uint8_t, 8> eui64{};
  std::array<LbaFormat, 16> lbaf{};
  std::array<std::uint8_t, 192> reserved192{};
  std::array<std::uint8_t, 3712> vendor{};
};
static_assert(sizeof(IdentifyNamespace) == 4096);
static_assert(offsetof(IdentifyNamespace, npwg) == 64);
static_assert(offsetof(IdentifyNamespace, nsattr) == 99);
static_assert(offsetof(IdentifyNamespace, nguid) == 104);
static_assert(offsetof(IdentifyNamespace, lbaf) == 128);

struct ErrorLogEntry {
  std::uint64_t error_count = 0;
  std::uint16_t sqid = 0;
  std::uint16_t cid = 0;
  std::uint16_t status = 0;  // as in the completion, phase included
  std::uint16_t parameter_location = 0;
  std::uint64_t lba = 0;
  std::uint32_t nsid = 0;
  std::uint8_t vendor_page = 0;
  std::uint8_t transport = 0;
  std::array<std::uint8_t, 2> reserved30{};
  std::uint64_t command_specific = 0;
  std::uint16_t transport_specific = 0;
  std::array<std::uint8_t, 22> reserved42{};
};
static_assert(sizeof(ErrorLogEntry) == 64);

// A 128-bit count, of which the upper half stays 0.
struct Count128 {
  std::uint64_t low = 0;
  std::uint64_t high = 0;
};

struct SmartLog {
  std::uint8_t critical_warning = 0;
  std::array<std::uint8_t, 2> composite_temperature{};  // kelvins; lies unaligned
  std::uint8_t available_spare = 0;                     // percent
  std::uint8_t available_spare_threshold = 0;
  std::uint8_t percentage_used = 0;
  std::uint8_t endurance_warning = 0;
  std::array<std::uint8_t, 25> reserved7{};
  Count128 data_units_read;  // thousands of 512 bytes, rounded up
  Count128 data_units_written;
  Count128 host_reads;
  Count128 host_writes;
  Count128 busy_minutes;
  Count128 power_cycles;
  Count128 power_on_hours;
  Count128 unsafe_shutdowns;
  Count128 media_errors;
  Count128 error_log_entries;
  std::array<std::uint8_t, 320> reserved192{};
};
static_assert(sizeof(SmartLog) == 512);
static_assert(offsetof(SmartLog, data_units_read) == 32);

struct FirmwareSlotLog {
  std::uint8_t active = 0;
  std::array<std::uint8_t, 7> reserved1{};
  std::array<std::array<char, 8>, 7> revision{};
  std::array<std::uint8_t, 448> reserved64{};
};
static_assert(sizeof(FirmwareSlotLog) == 512);

}  // namespace gangway::nvme
