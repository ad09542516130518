#include "device/dma_log_bitmap.h"

#include <utility>

namespace gangway {
namespace {

constexpr std::uint64_t kAllBits = ~std::uint64_t{0};

// The bits of word number `index` that lie in [first, end).
std::uint64_t mask_within(std::size_t index, std::uint64_t first, std::uint64_t end) {
  const std::uint64_t base = index * DirtyBitmap::kWordBits;
  if (first >= base + DirtyBitmap::kWordBits || end <= base) return 0;
  std::uint64_t mask = kAllBits;
  if (first > base) mask &= kAllBits << (first - base);
  if (end < base + DirtyBitmap::kWordBits) mask &= kAllBits >> (base + DirtyBitmap::kWordBits - end);
  return mask;
}

std::size_t bytes_for(std::uint64_t bits) {
  return (bits + DirtyBitmap::kLineBits - 1) / DirtyBitmap::kLineBits * (DirtyBitmap::kLineBits / 8);
}

std::size_t summary_bytes_for(std::uint64_t bits) {
  return bytes_for((bits + DirtyBitmap::kLineBits - 1) / DirtyBitmap::kLineBits);
}

}  // namespace

Result<DirtyBitmap> DirtyBitmap::reserve(std::uint64_t bits) {
  auto words = SparseMemory::reserve(bytes_for(bits));
  if (!words) return std::unexpected(std::move(words.error()));
  auto summary = SparseMemory::reserve(summary_bytes_for(bits));
  if (!summary) return std::unexpected(std::move(summary.error()));
  return DirtyBitmap(std::move(*words), std::move(*summary));
}

Result<void> DirtyBitmap::cover(std::uint64_t bits, bool sparse) {
  // The summary first: a set() that finds its word covered goes on to the summary.
  if (auto opened = summary_.open_zeroed(summary_bytes_for(bits), false); !opened) return opened;
  return bits_.open_zeroed(bytes_for(bits), !sparse);
}

void DirtyBitmap::clear() {
  summary_.zero();
  bits_.zero();
}

void DirtyBitmap::set_range(std::uint64_t first, std::uint64_t end) noexcept {
  end = std::min<std::uint64_t>(end, bits_.opened_words() * kWordBits);
  if (first >= end) return;
  for (std::size_t index = first / kWordBits; index <= (end - 1) / kWordBits; ++index) {
    set_in_word(index, mask_within(index, first, end));
  }
}

bool DirtyBitmap::take_line(std::uint64_t first, std::uint64_t end, Line& line) {
  std::uint64_t any = 0;
  for (std::size_t i = 0; i < kLineWords; ++i) {
    const std::size_t index = line.first_word + i;
    const std::uint64_t mask = mask_within(index, first, end);
    AtomicWord bits = word(index);
    if ((bits.load() & mask) == 0) continue;
    line.words[i] = mask == kAllBits ? bits.exchange(0) : bits.fetch_and(~mask) & mask;
    any |= line.words[i];
  }
  return any != 0;
}

std::uint64_t DirtyBitmap::dirty_lines(std::uint64_t first, std::uint64_t end) const {
  end = std::min<std::uint64_t>(end, bits_.opened_words() * kWordBits);
  if (first >= end) return 0;
  const std::uint64_t first_line = first / kLineBits;
  const std::uint64_t end_line = (end - 1) / kLineBits + 1;
  std::uint64_t lines = 0;
  for (std::size_t group = first_line / kWordBits; group <= (end_line - 1) / kWordBits; ++group) {
    const std::uint64_t bits = summary(group).load(std::memory_order_relaxed);
    if (bits != 0) lines += static_cast<std::uint64_t>(std::popcount(bits & mask_within(group, first_line, end_line)));
  }
  return lines;
}

}  // namespace gangway
