#include "devices/faulty/card.h"

#include <algorithm>
#include <chrono>
#include <cstring>

#include <fmt/format.h>

namespace gangway::faulty {

Card::Card() : memory_(kMemorySize), dirty_(kMemorySize / kMemoryPage), thread_([this] { run(); }) {}

Card::~Card() {
  {
    std::scoped_lock lock(mutex_);
    quit_ = true;
    changed_.notify_all();
  }
  thread_.join();
}

DeviceInfo Card::info() const {
  DeviceInfo info;
  info.pci.identity = kIdentity;
  info.pci.bars[to_number(kRegisters)] = {.size = kRegistersSize};
  info.pci.bars[to_number(kMemory)] = {.size = kMemorySize};
  info.pci.msi = MsiSpec{.vectors = kVectors};
  info.pci.pcie = PcieSpec{.function_level_reset = true};
  return info;
}

void Card::attach(Bus bus) {
  std::scoped_lock lock(mutex_);
  bus_.emplace(bus);
}

Result<void> Card::read(RegionIndex region, std::uint64_t offset, std::span<std::byte> out) {
  std::scoped_lock lock(mutex_);
  if (region == kMemory) {
    std::ranges::copy(std::span(memory_).subspan(offset, out.size()), out.begin());
    return {};
  }
  if ((out.size() != 4 && out.size() != 8) || offset % out.size() != 0) {
    return fail(EINVAL, fmt::format("registers: a read of {} bytes at {:#x}: use 4 or 8, aligned", out.size(), offset));
  }
  const std::uint64_t low = read_register(offset);
  const std::uint64_t value = low | (out.size() == 8 ? read_register(offset + 4) << 32 : 0);
  std::memcpy(out.data(), &value, out.size());
  return {};
}

Result<void> Card::write(RegionIndex region, std::uint64_t offset, std::span<const std::byte> in) {
  std::scoped_lock lock(mutex_);
  if (region == kMemory) {
    std::ranges::copy(in, memory_.begin() + static_cast<std::ptrdiff_t>(offset));
    for (std::size_t at = offset / kMemoryPage; at * kMemoryPage < offset + in.size(); ++at) dirty_[at] = true;
    return {};
  }
  if ((in.size() != 4 && in.size() != 8) || offset % in.size() != 0) {
    return fail(EINVAL, fmt::format("registers: a write of {} bytes at {:#x}: use 4 or 8, aligned", in.size(), offset));
  }
  std::uint64_t value = 0;
  std::memcpy(&value, in.data(), in.size());
  return write_register(offset, in.size(), value);
}

// The 32 bits at an offset, a half of those registers that have 64.
std::uint64_t Card::read_register(std::uint64_t offset) const {
  const auto half = [&](std::uint64_t value) { return offset % 8 == 0 ? value & 0xffffffff : value >> 32; };
  switch (offset) {
    case kIdent:
      return kIdentValue;
    case kStatus:
      return registers_.status;
    case kScratch:
    case kScratch + 4:
      return half(registers_.scratch);
    case kDmaAddress:
    case kDmaAddress + 4:
      return half(registers_.dma_address);
    case kDmaLength:
      return registers_.dma_length;
    case kDmaWindow:
      return registers_.dma_window;
    case kDmaPieces:
      return registers_.dma_pieces;
    case kPattern:
      return registers_.pattern;
    case kPace:
      return registers_.pace_us;
    case kControl:
      return registers_.control;
    case kDmaDone:
    case kDmaDone + 4:
      return half(registers_.dma_done);
    default:
      return 0;
  }
}

Result<void> Card::write_register(std::uint64_t offset, std::size_t size, std::uint64_t value) {
  const auto narrow = static_cast<std::uint32_t>(value);
  const bool wide = offset == kScratch || offset == kDmaAddress;
  if (wide != (size == 8)) {
    return fail(EINVAL, fmt::format("registers: a write of {} bytes at {:#x}: another size is meant", size, offset));
  }
  switch (offset) {
    case kScratch:
      registers_.scratch = value;
      return {};
    case kDmaAddress:
      registers_.dma_address = value;
      return {};
    case kDmaLength:
      registers_.dma_length = narrow;
      return {};
    case kDmaWindow:
      registers_.dma_window = narrow;
      return {};
    case kDmaPieces:
      registers_.dma_pieces = narrow;
      return {};
    case kPattern:
      registers_.pattern = narrow;
      return {};
    case kPace:
      registers_.pace_us = narrow;
      return {};
    case kControl:
      registers_.control = narrow;
      return {};
    case kKick:
      return kick(narrow != 0);
    case kTrigger:
      bus_->interrupts.trigger(IrqType::Msi, narrow);
      return {};
    default:
      return fail(EINVAL, fmt::format("registers: nothing can be written at {:#x}", offset));
  }
}

Result<void> Card::kick(bool go) {
  if (!go) {
    registers_.status = kStatusIdle;
    return {};
  }
  if (registers_.dma_length == 0 || registers_.dma_length % 4 != 0 || registers_.dma_length > kMaxPiece) {
    return fail(EINVAL, fmt::format("kick: pieces of {} bytes; a multiple of 4 up to {} is needed",
                                    registers_.dma_length, kMaxPiece));
  }
  registers_.dma_done = 0;
  registers_.status = kStatusBusy;
  changed_.notify_all();
  return {};
}

void Card::reset() {
  std::unique_lock lock(mutex_);
  initiating_ = false;
  changed_.notify_all();
  changed_.wait(lock, [this] { return in_flight_ == 0; });
  registers_ = {};
  std::ranges::fill(memory_, std::byte{0});
  dirty_.assign(dirty_.size(), true);  // zeroed, which is a change
}

Result<void> Card::start() {
  std::scoped_lock lock(mutex_);
  initiating_ = true;
  changed_.notify_all();
  return {};
}

// P2P-INITIATE: a piece that is being written is written to its end.
Result<void> Card::stop_initiating() {
  std::unique_lock lock(mutex_);
  initiating_ = false;
  changed_.notify_all();
  changed_.wait(lock, [this] { return in_flight_ == 0; });
  return {};
}

void Card::track_dirty(bool on) {
  std::scoped_lock lock(mutex_);
  tracking_ = on;
  dirty_.assign(dirty_.size(), false);
}

std::vector<Card::DirtyRange> Card::take_dirty(std::size_t) {
  std::scoped_lock lock(mutex_);
  std::vector<DirtyRange> ranges;
  for (std::size_t page = 0; page < dirty_.size(); ++page) {
    if (dirty_[page]) ranges.push_back({page * kMemoryPage, kMemoryPage});
    dirty_[page] = false;
  }
  return ranges;
}

std::uint64_t Card::dirty_bytes() const {
  std::scoped_lock lock(mutex_);
  return tracking_ ? static_cast<std::uint64_t>(std::count(dirty_.begin(), dirty_.end(), true)) * kMemoryPage : 0;
}

void Card::await_piece() {
  std::unique_lock lock(mutex_);
  const std::uint64_t done = registers_.dma_done;
  changed_.wait(lock, [&] { return quit_ || !initiating_ || !job_active() || registers_.dma_done != done; });
}

void Card::run() {
  std::unique_lock lock(mutex_);
  const auto may_go_on = [this] { return initiating_ && job_active(); };
  while (!quit_) {
    changed_.wait(lock, [&] { return quit_ || may_go_on(); });
    const auto pace = std::chrono::microseconds(registers_.pace_us);
    if (pace.count() != 0) changed_.wait_for(lock, pace, [&] { return quit_ || !may_go_on(); });
    if (!quit_ && may_go_on()) carry_out_piece(lock);
  }
}

void Card::carry_out_piece(std::unique_lock<std::mutex>& lock) {
  const std::uint64_t number = registers_.dma_done;
  const std::uint64_t slot = number % std::max<std::uint32_t>(registers_.dma_window, 1);
  const Iova address{registers_.dma_address + slot * registers_.dma_length};
  std::vector<std::uint32_t> words(registers_.dma_length / sizeof(std::uint32_t),
                                   registers_.pattern + static_cast<std::uint32_t>(number));
  ++in_flight_;
  lock.unlock();
  const Result<void> written = bus_->dma.write(address, std::as_bytes(std::span(words)));
  lock.lock();
  --in_flight_;
  if (written) ++registers_.dma_done;
  if (!written) registers_.status = static_cast<std::uint32_t>(written.error().code);
  if (job_active() && registers_.dma_pieces != 0 && registers_.dma_done >= registers_.dma_pieces) {
    registers_.status = kStatusIdle;
  }
  if ((registers_.control & kInterruptEachPiece) != 0) bus_->interrupts.trigger(IrqType::Msi, kPieceVector);
  if (!job_active() && (registers_.control & kInterruptAtEnd) != 0) {
    bus_->interrupts.trigger(IrqType::Msi, kEndVector);
  }
  changed_.notify_all();
}

}  // namespace gangway::faulty
