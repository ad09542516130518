#include "device/dma_log_bitmap.h"

#include <algorithm>
#include <bit>
#include <utility>

namespace gangway {
namespace {

constexpr std::uint64_t kAllBits = ~std::uint64_t{0};
constexpr std::size_t kWordBits = DirtyBitmap::kWordBits;

// From this many dirty lines on, turning the sides over costs less than exchanging their words.
constexpr std::uint64_t kManyLines = 256;

// From this many dirty lines of 64 on, a group is handed out in one piece, clean lines and all.
constexpr int kDenseGroup = 16;

// The bits of word number `index` that lie in [first, end).
std::uint64_t mask_within(std::size_t index, std::uint64_t first, std::uint64_t end) {
  const std::uint64_t base = index * kWordBits;
  if (first >= base + kWordBits || end <= base) return 0;
  std::uint64_t mask = kAllBits;
  if (first > base) mask &= kAllBits << (first - base);
  if (end < base + kWordBits) mask &= kAllBits >> (base + kWordBits - end);
  return mask;
}

std::size_t bytes_for(std::uint64_t bits) {
  return (bits + DirtyBitmap::kLineBits - 1) / DirtyBitmap::kLineBits * (DirtyBitmap::kLineBits / 8);
}

std::size_t summary_bytes_for(std::uint64_t bits) {
  return bytes_for((bits + DirtyBitmap::kLineBits - 1) / DirtyBitmap::kLineBits);
}

}  // namespace

struct DirtyBitmap::Bounds {
  std::uint64_t first;
  std::uint64_t end;

  [[nodiscard]] bool empty() const { return first >= end; }
  [[nodiscard]] std::uint64_t first_line() const { return first / kLineBits; }
  [[nodiscard]] std::uint64_t end_line() const { return (end - 1) / kLineBits + 1; }
  [[nodiscard]] std::size_t first_group() const { return first_line() / kGroupLines; }
  [[nodiscard]] std::size_t end_group() const { return (end_line() - 1) / kGroupLines + 1; }
  // Lines of a group that the bounds touch, and those that they cover.
  [[nodiscard]] std::uint64_t touched(std::size_t group) const { return mask_within(group, first_line(), end_line()); }
  [[nodiscard]] std::uint64_t covered(std::size_t group) const {
    return mask_within(group, (first + kLineBits - 1) / kLineBits, end / kLineBits);
  }
};

Result<DirtyBitmap::Space> DirtyBitmap::reserve(std::uint64_t bits) {
  const auto reserve_side = [bits]() -> Result<Side> {
    auto words = SparseMemory::reserve(bytes_for(bits));
    if (!words) return std::unexpected(std::move(words.error()));
    auto summary = SparseMemory::reserve(summary_bytes_for(bits));
    if (!summary) return std::unexpected(std::move(summary.error()));
    return Side{std::move(*words), std::move(*summary)};
  };
  auto even = reserve_side();
  if (!even) return std::unexpected(std::move(even.error()));
  auto odd = reserve_side();
  if (!odd) return std::unexpected(std::move(odd.error()));
  return Space({std::move(*even), std::move(*odd)});
}

DirtyBitmap::DirtyBitmap(Space space) : sides_(std::move(space.sides_)) {}

Result<void> DirtyBitmap::cover(std::uint64_t bits, bool sparse) {
  for (Side& side : sides_) {
    // The summary first: a set() that finds its word covered goes on to the summary.
    if (auto opened = side.summary.open_zeroed(summary_bytes_for(bits), false); !opened) return opened;
    if (auto opened = side.bits.open_zeroed(bytes_for(bits), !sparse); !opened) return opened;
  }
  return {};
}

void DirtyBitmap::clear() {
  for (Side& side : sides_) {
    side.summary.zero();
    side.bits.zero();
  }
}

void DirtyBitmap::set_range(std::uint64_t first, std::uint64_t end) noexcept {
  const Bounds bounds = clip(first, end);
  if (bounds.empty()) return;
  for (std::size_t index = bounds.first / kWordBits; index <= (bounds.end - 1) / kWordBits; ++index) {
    set_in_word(index, mask_within(index, bounds.first, bounds.end));
  }
}

DirtyBitmap::Bounds DirtyBitmap::clip(std::uint64_t first, std::uint64_t end) const {
  return {first, std::min<std::uint64_t>(end, covered_words() * kWordBits)};
}

std::uint64_t DirtyBitmap::dirty_lines(std::uint64_t first, std::uint64_t end) const {
  return count_lines(clip(first, end), [this](std::size_t group) {
    return sides_[0].lines(group).load(std::memory_order_relaxed) |
           sides_[1].lines(group).load(std::memory_order_relaxed);
  });
}

template <class LinesOf>
std::uint64_t DirtyBitmap::count_lines(const Bounds& bounds, LinesOf&& lines_of) const {
  if (bounds.empty()) return 0;
  std::uint64_t count = 0;
  for (std::size_t group = bounds.first_group(); group < bounds.end_group(); ++group) {
    const std::uint64_t lines = lines_of(group);
    if (lines != 0) count += static_cast<std::uint64_t>(std::popcount(lines & bounds.touched(group)));
  }
  return count;
}

void DirtyBitmap::turn_over() {
  epoch_.fetch_add(1);
  std::atomic_thread_fence(std::memory_order_seq_cst);
}

void DirtyBitmap::take(std::uint64_t first, std::uint64_t end, const Visit& visit) {
  const Bounds bounds = clip(first, end);
  if (bounds.empty()) return;
  // What an earlier take left in the retired side becomes active again: it is taken either way. What only the retired
  // side has is no reason to turn: a report that is asked for in pieces turns for the first of them.
  const std::uint64_t active_lines =
      count_lines(bounds, [this](std::size_t group) { return active().lines(group).load(std::memory_order_relaxed); });
  if (active_lines >= kManyLines) turn_over();

  std::array<std::uint64_t, kGroupWords> words;  // only what is visited is ever written
  for (std::size_t number = bounds.first_group(); number < bounds.end_group(); ++number) {
    const Group group = take_summary(number, bounds);
    const std::uint64_t dirty = group.active | group.retired;
    if (dirty == 0) continue;
    const auto hand_out = [&](unsigned from, unsigned to) {
      const auto out = std::span(words).first((to - from) * kLineWords);
      take_lines(group, from, bounds, out);
      visit((number * kGroupLines + from) * kLineWords, out);
    };
    if (std::popcount(dirty) >= kDenseGroup) {
      hand_out(static_cast<unsigned>(std::countr_zero(dirty)), static_cast<unsigned>(std::bit_width(dirty)));
      continue;
    }
    for (std::uint64_t left = dirty; left != 0; left &= left - 1) {
      const auto line = static_cast<unsigned>(std::countr_zero(left));
      hand_out(line, line + 1);
    }
  }
}

// A line that the bounds cover in part keeps its summary bit: what lies outside may be dirty.
DirtyBitmap::Group DirtyBitmap::take_summary(std::size_t group, const Bounds& bounds) const {
  const auto take_from = [&](const Side& side) {
    const std::uint64_t lines = side.lines(group).load();
    if (lines == 0) return lines;
    const std::uint64_t whole = lines & bounds.covered(group);
    if (whole != 0) side.lines(group).fetch_and(~whole);
    return lines & bounds.touched(group);
  };
  return {group, take_from(active()), take_from(retired())};
}

// A row of lines that only the retired side has, and the bounds cover, is taken in one go: most are such where much is
// dirty.
void DirtyBitmap::take_lines(const Group& group, unsigned first_line, const Bounds& bounds,
                             std::span<std::uint64_t> out) const {
  const std::uint64_t plain = group.retired & ~group.active & bounds.covered(group.number);
  for (unsigned line = first_line; !out.empty();) {
    const std::size_t row =
        std::min<std::size_t>(static_cast<std::size_t>(std::countr_one(plain >> line)), out.size() / kLineWords);
    const std::size_t lines = std::max<std::size_t>(row, 1);
    const std::span<std::uint64_t> here = out.first(lines * kLineWords);
    if (row != 0) {
      take_retired_lines((group.number * kGroupLines + line) * kLineWords, here);
    } else {
      take_line(group, line, bounds, here);
    }
    out = out.subspan(here.size());
    line += static_cast<unsigned>(lines);
  }
}

void DirtyBitmap::take_line(const Group& group, unsigned line, const Bounds& bounds,
                            std::span<std::uint64_t> out) const {
  const std::size_t first_word = (group.number * kGroupLines + line) * kLineWords;
  const bool in_retired = (group.retired >> line & 1) != 0;
  const bool in_active = (group.active >> line & 1) != 0;
  const bool whole = (bounds.covered(group.number) >> line & 1) != 0;
  if (in_retired && whole) {
    take_retired_lines(first_word, out);
  } else {
    std::ranges::fill(out, 0);
  }
  if (whole && !in_active) return;
  for (std::size_t i = 0; i < kLineWords; ++i) {
    const std::uint64_t mask = whole ? kAllBits : mask_within(first_word + i, bounds.first, bounds.end);
    if (in_retired && !whole) {
      const AtomicWord bits = retired().word(first_word + i);
      const std::uint64_t found = bits.load(std::memory_order_relaxed);
      out[i] = found & mask;
      bits.store(found & ~mask, std::memory_order_relaxed);
    }
    const AtomicWord bits = active().word(first_word + i);
    if (in_active && (bits.load() & mask) != 0) out[i] |= bits.fetch_and(~mask) & mask;
  }
}

// All of the reports' speed is here where much is dirty.
void DirtyBitmap::take_retired_lines(std::size_t first_word, std::span<std::uint64_t> out) const {
  std::uint64_t* const words = &retired().bits.words()[first_word];
  for (std::size_t line = 0; line < out.size(); line += kLineWords) {
#pragma GCC unroll 8
    for (std::size_t i = line; i < line + kLineWords; ++i) {
      const AtomicWord bits(words[i]);
      out[i] = bits.load(std::memory_order_relaxed);
      bits.store(0, std::memory_order_relaxed);
    }
  }
}

}  // namespace gangway
