#include "conformance/card_workload.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <thread>

#include "base/bytes.h"
#include "guest/pci_setup.h"

namespace gangway::conformance {
namespace {

constexpr std::uint16_t kVendor = 0x1b36;
constexpr std::uint16_t kDevice = 0x0fa1;

constexpr std::uint32_t kBar0 = to_number(RegionIndex::Bar0);
constexpr std::uint32_t kBar2 = to_number(RegionIndex::Bar2);
constexpr std::uint64_t kStatus = 0x04;
constexpr std::uint64_t kScratch = 0x08;
constexpr std::uint64_t kAddress = 0x10;
constexpr std::uint64_t kLength = 0x18;
constexpr std::uint64_t kWindow = 0x1c;
constexpr std::uint64_t kPieces = 0x20;
constexpr std::uint64_t kPattern = 0x24;
constexpr std::uint64_t kPace = 0x28;
constexpr std::uint64_t kControl = 0x2c;
constexpr std::uint64_t kKick = 0x30;
constexpr std::uint32_t kInterruptAlways = 3;  // of each piece and at the end
constexpr std::uint32_t kBusy = 0xffffffff;

constexpr std::uint64_t kPage = guest::kPageSize;
constexpr std::uint64_t kMemory = 4 * guest::GuestMemory::kGranule;
constexpr Iova kBuffers{(2U << 20) + 32 * kPage};
constexpr std::uint32_t kJob = 16;  // pieces
// Slow enough to be met in the middle, quick enough for thousands.
constexpr std::uint32_t kPaceUs = 200;
constexpr std::uint32_t kWritePaceUs = 50;  // reports meet it, and nobody waits long
constexpr std::uint32_t kStretches = 8;
constexpr std::uint32_t kVectors = 2;
constexpr std::chrono::seconds kAnswer{5};

template <class T>
Result<void> write_register(DeviceHandle& device, std::uint64_t offset, T value) {
  return device.write(kBar0, offset, bytes_of(value));
}

Iova stretch(unsigned round) { return kBuffers + std::uint64_t{round % kStretches} * 2 * kJob * kPage; }

}  // namespace

bool CardWorkload::fits(const Abilities& abilities) {
  return abilities.vendor == kVendor && abilities.device == kDevice;
}

Result<void> CardWorkload::set_up(DeviceHandle& device) {
  auto memory = guest::GuestMemory::create({.size = kMemory});
  if (!memory) return std::unexpected(memory.error());
  memory_ = *std::move(memory);
  if (Result<void> mapped = memory_->map_into(device); !mapped) return mapped;
  if (Result<void> enabled = guest::enable_function(device); !enabled) return enabled;
  IrqSet request{
      .type = IrqType::Msi, .action = IrqAction::Trigger, .data = IrqSet::Data::Eventfd, .start = 0, .count = kVectors};
  interrupts_.clear();
  for (std::uint32_t vector = 0; vector < kVectors; ++vector) {
    Fd& interrupt = interrupts_.emplace_back(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!interrupt) return fail_errno("create an eventfd");
    Result<Fd> copy = interrupt.duplicate();
    if (!copy) return std::unexpected(copy.error());
    request.eventfds.push_back(*std::move(copy));
  }
  return device.set_irqs(std::move(request));
}

std::vector<Workload::Block> CardWorkload::memory() const {
  std::vector<Block> blocks;
  for (const guest::GuestMemory::Block& block : memory_->blocks()) {
    blocks.push_back({block.range, block.cpus.bytes()});
  }
  return blocks;
}

Result<void> CardWorkload::start(DeviceHandle& device, unsigned round, std::uint32_t pace_us) {
  const std::array<std::pair<std::uint64_t, std::uint32_t>, 7> registers{
      {{kLength, static_cast<std::uint32_t>(kPage)},
       {kWindow, kJob},
       {kPieces, kJob},
       {kPattern, 0x1000'0000U * (round + 1) + round},
       {kPace, pace_us},
       {kControl, kInterruptAlways},
       {kKick, 1}}};
  if (Result<void> set = write_register(device, kAddress, stretch(round).value); !set) return set;
  for (const auto& [offset, value] : registers) {
    if (Result<void> set = write_register(device, offset, value); !set) return set;
  }
  return {};
}

Result<void> CardWorkload::kick(DeviceHandle& device, unsigned round) { return start(device, round, kPaceUs); }

Result<void> CardWorkload::await(DeviceHandle& device) {
  const auto deadline = std::chrono::steady_clock::now() + kAnswer;
  for (;;) {
    std::uint32_t status = 0;
    if (Result<void> read = device.read(kBar0, kStatus, std::as_writable_bytes(std::span(&status, 1))); !read)
      return read;
    if (status == 0) return {};
    if (status != kBusy) return fail(EIO, "the card's job fails");
    if (std::chrono::steady_clock::now() > deadline) return fail(EIO, "the card's job does not end");
    std::this_thread::sleep_for(std::chrono::microseconds(50));
  }
}

Result<Workload::Written> CardWorkload::write_pages(DeviceHandle& device, unsigned round) {
  if (Result<void> started = start(device, round, kWritePaceUs); !started) return std::unexpected(started.error());
  if (Result<void> done = await(device); !done) return std::unexpected(done.error());
  Pages pages;
  for (std::uint32_t piece = 0; piece < kJob; ++piece) pages.insert(stretch(round).value + piece * kPage);
  return Written{.must = pages, .may = pages};
}

Result<void> CardWorkload::change(DeviceHandle& device, unsigned round) {
  const std::uint64_t value = 0x0101'0101'0101'0101ULL * (round + 1);
  if (Result<void> written = write_register(device, kScratch, value); !written) return written;
  return device.write(kBar2, std::uint64_t{round % 16} * kPage, bytes_of(value));
}

std::uint64_t CardWorkload::take_interrupts() {
  std::uint64_t all = 0;
  for (const Fd& interrupt : interrupts_) {
    std::uint64_t count = 0;
    if (::read(interrupt.get(), &count, sizeof count) == sizeof count) all += count;
  }
  return all;
}

}  // namespace gangway::conformance
