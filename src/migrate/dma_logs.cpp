#include "migrate/dma_logs.h"

#include <algorithm>

#include "base/log.h"

namespace gangway::migrate {
namespace {

// Of one report: 256 KiB of bitmap, which every transport takes.
constexpr std::uint64_t kReportBytes = 8ULL << 30;

}  // namespace

DmaLogs::DmaLogs(std::span<const MachineDevice> devices, std::span<const MemoryBlock> memory)
    : devices_(devices), memory_(memory) {}

DmaLogs::~DmaLogs() { stop(); }

void DmaLogs::start() {
  for (const MachineDevice& device : devices_) {
    if (auto started = start_one(*device.handle); started) {
      logging_.push_back(device.handle);
    } else {
      log::warn("device {}: no DMA log ({}); all memory is sent while the machine stands still", device.id,
                started.error().message);
      exact_ = false;
    }
  }
}

Result<void> DmaLogs::start_one(DeviceHandle& device) {
  std::vector<IovaRange> ranges;
  for (const MemoryBlock& block : memory_) ranges.push_back(block.iova);
  auto started = device.dma_logging_start(ranges, kPageSize);
  if (!started && started.error().code != ENOTTY) {
    // A log that a migration before this one could not stop is in the way of a second START (LOG-START).
    if (device.dma_logging_stop()) started = device.dma_logging_start(ranges, kPageSize);
  }
  if (!started) return std::unexpected(started.error());
  return {};
}

void DmaLogs::collect(PageSet& pages) {
  for (DeviceHandle* device : logging_) {
    if (!exact_) break;
    if (auto collected = collect_one(*device, pages); !collected) {
      log::warn("{}: the DMA log failed ({}); all memory counts as written", device->target(),
                collected.error().message);
      exact_ = false;
    }
  }
  if (!exact_) pages.fill();
}

Result<void> DmaLogs::collect_one(DeviceHandle& device, PageSet& pages) {
  for (std::size_t i = 0; i < memory_.size(); ++i) {
    const IovaRange whole = memory_[i].iova;
    for (std::uint64_t at = 0; at < whole.size; at += kReportBytes) {
      const IovaRange part{.start = whole.start + at, .size = std::min(kReportBytes, whole.size - at)};
      const std::size_t words = (part.size / kPageSize + 63) / 64;
      auto reported = device.dma_logging_report(part, kPageSize, pages.bitmap(i).subspan(at / kPageSize / 64, words));
      if (!reported) return reported;
    }
  }
  return {};
}

void DmaLogs::stop() {
  for (DeviceHandle* device : logging_) {
    if (auto stopped = device->dma_logging_stop(); !stopped) {
      log::warn("{}: stop the DMA log: {}", device->target(), stopped.error().message);
    }
  }
  logging_.clear();
}

}  // namespace gangway::migrate
