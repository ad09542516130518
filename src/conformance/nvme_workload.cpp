#include "conformance/nvme_workload.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "guest/pci_setup.h"

namespace gangway::conformance {
namespace {

constexpr std::uint32_t kClass = 0x010802;  // non-volatile memory, NVM Express
constexpr std::uint64_t kPage = guest::kPageSize;
constexpr std::uint64_t kMemory = 4 * guest::GuestMemory::kGranule;
constexpr Iova kBase{2U << 20};  // where GuestMemory begins
constexpr std::uint32_t kEntries = 64;
constexpr std::chrono::seconds kAnswer{5};

// A round reads this many blocks, each into a page of its own; rounds take turns in some stretches of memory.
constexpr std::uint32_t kReads = 16;
constexpr std::uint32_t kStretches = 8;
constexpr Iova kBuffers = kBase + 32 * kPage;
// Every other page, so that one marked too many is seen.
constexpr std::uint64_t kStride = 2 * kPage;
constexpr std::byte kUnread{0xa5};

Iova buffer(unsigned round, std::uint32_t read) {
  return kBuffers + (std::uint64_t{round % kStretches} * kReads + read) * kStride;
}

guest::DiskLayout layout() {
  return {.state = kBase,
          .driver = kBase + kPage,
          .admin_submission = kBase + 2 * kPage,
          .admin_completion = kBase + 3 * kPage,
          .identify = kBase + 4 * kPage,
          .queues = {{.submission = kBase + 5 * kPage, .completion = kBase + 6 * kPage, .entries = kEntries}},
          .table = kBase + 7 * kPage};
}

}  // namespace

bool NvmeWorkload::fits(const Abilities& abilities) { return abilities.class_code == kClass; }

Result<void> NvmeWorkload::set_up(DeviceHandle& device) {
  auto memory = guest::GuestMemory::create({.size = kMemory});
  if (!memory) return std::unexpected(memory.error());
  memory_ = *std::move(memory);
  if (Result<void> mapped = memory_->map_into(device); !mapped) return mapped;
  if (Result<void> enabled = guest::enable_function(device); !enabled) return enabled;
  Result<std::vector<Fd>> interrupts = guest::set_msix(device);
  if (!interrupts) return std::unexpected(interrupts.error());
  interrupts_ = *std::move(interrupts);
  driver_.emplace(device, *memory_, layout());
  return driver_->start();
}

std::vector<Workload::Block> NvmeWorkload::memory() const {
  std::vector<Block> blocks;
  for (const guest::GuestMemory::Block& block : memory_->blocks()) {
    blocks.push_back({block.range, block.cpus.bytes()});
  }
  return blocks;
}

Workload::Pages NvmeWorkload::pages_of(unsigned round) const {
  Pages pages{layout().queues[0].completion.value};
  for (std::uint32_t read = 0; read < kReads; ++read) pages.insert(buffer(round, read).value);
  return pages;
}

Result<void> NvmeWorkload::kick(DeviceHandle&, unsigned round) {
  const std::uint64_t blocks = kPage >> driver_->block_shift();
  for (std::uint32_t read = 0; read < kReads && outstanding_ + 1 < kEntries; ++read) {
    const Iova into = buffer(round, read);
    std::ranges::fill(memory_->at(into, kPage), kUnread);
    driver_->submit(0, {.opcode = static_cast<std::uint8_t>(guest::nvme::IoOpcode::Read),
                        .id = static_cast<std::uint16_t>(read),
                        .namespace_id = 1,
                        .prp1 = into.value,
                        .dword10 = static_cast<std::uint32_t>(read * blocks),
                        .dword12 = static_cast<std::uint32_t>(blocks - 1)});
    ++outstanding_;
  }
  const Result<void> rung = driver_->ring_submission(0);
  rung_ = rung.has_value();
  return rung;
}

Result<void> NvmeWorkload::await(DeviceHandle&) {
  if (!rung_) {
    if (Result<void> rung = driver_->ring_submission(0); !rung) return rung;
    rung_ = true;
  }
  const auto deadline = std::chrono::steady_clock::now() + kAnswer;
  while (outstanding_ != 0) {
    if (const auto completion = driver_->poll(0)) {
      --outstanding_;
      if (completion->status() != 0) return fail(EIO, "the controller fails a read");
      continue;
    }
    if (std::chrono::steady_clock::now() > deadline) return fail(EIO, "the controller completes no more reads");
    std::this_thread::sleep_for(std::chrono::microseconds(20));
  }
  return driver_->ring_completion(0);
}

Result<Workload::Written> NvmeWorkload::write_pages(DeviceHandle& device, unsigned round) {
  if (Result<void> kicked = kick(device, round); !kicked) return std::unexpected(kicked.error());
  if (Result<void> done = await(device); !done) return std::unexpected(done.error());
  const Pages pages = pages_of(round);
  return Written{.must = pages, .may = pages};
}

std::uint64_t NvmeWorkload::take_interrupts() {
  std::uint64_t all = 0;
  for (const Fd& interrupt : interrupts_) {
    std::uint64_t count = 0;
    if (::read(interrupt.get(), &count, sizeof count) == sizeof count) all += count;
  }
  return all;
}

}  // namespace gangway::conformance
