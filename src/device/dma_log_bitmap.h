// Dirty bits in one long array with a summary bit for each cache line of it.
//
// Setting a bit costs nanoseconds and never fails; taking the dirty bits out costs what is dirty. Memory once covered
// stays mapped, so a set() that is late touches at worst a bit that nobody needs.
//
// Order, the proof that nothing is lost (LOG-EXACT). A marker sets the bit in its word (W), then tests the summary
// bit (S) and sets it if clear. The taker clears S first, then exchanges W. The read-modify-writes and the test of S
// are sequentially consistent, so they have one order:
// - the marker finds S clear: it sets it, and the next take visits the line;
// - the marker finds S set, by whomever: its test comes before the clearing of S by the next take, so its W does too,
//   and the exchange, which comes after the clearing, sees the bit.
// The test of W that spares the locked instruction may be relaxed: the caller's fence stands between the bytes written
// and the test, so when the bit was still set, the exchange that clears it comes after the bytes. S is tested even
// then: whoever set W may not have come to S yet, and this write is to be in the next report, not in the one after.
//
// Thread-safety: set() and set_range() from any thread at any time; the other calls exclude each other by the caller.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>

#include <gangway/error.h>

#include "device/dma_log_memory.h"

namespace gangway {

class DirtyBitmap {
 public:
  static constexpr std::size_t kWordBits = 64;
  static constexpr std::size_t kLineWords = 8;
  static constexpr std::size_t kLineBits = kLineWords * kWordBits;

  // A cache line of the bitmap.
  struct Line {
    std::size_t first_word = 0;
    std::array<std::uint64_t, kLineWords> words{};
  };

  // Address space for `bits`; nothing can be set before cover().
  static Result<DirtyBitmap> reserve(std::uint64_t bits);

  // All clear, and bits [0, bits) can be set from here.
  Result<void> cover(std::uint64_t bits, bool sparse);
  void clear();

  // A bit that is not covered is ignored.
  void set(std::uint64_t bit) noexcept { set_in_word(bit / kWordBits, std::uint64_t{1} << (bit % kWordBits)); }
  void set_range(std::uint64_t first, std::uint64_t end) noexcept;

  // Moves the set bits of [first, end) out: `visit(line)` for each line that holds one, in ascending order.
  // Bits outside are 0 in what is visited and stay set here.
  template <class Visit>
  void take(std::uint64_t first, std::uint64_t end, Visit&& visit);

  // Lines that may hold a set bit of [first, end), going by the summary.
  [[nodiscard]] std::uint64_t dirty_lines(std::uint64_t first, std::uint64_t end) const;

 private:
  DirtyBitmap(SparseMemory bits, SparseMemory summary) : bits_(std::move(bits)), summary_(std::move(summary)) {}

  using AtomicWord = std::atomic_ref<std::uint64_t>;
  [[nodiscard]] AtomicWord word(std::size_t index) const { return AtomicWord(bits_.words()[index]); }
  [[nodiscard]] AtomicWord summary(std::size_t index) const { return AtomicWord(summary_.words()[index]); }

  void set_in_word(std::size_t index, std::uint64_t mask) noexcept {
    if (index >= bits_.opened_words()) return;
    AtomicWord bits = word(index);
    if ((bits.load(std::memory_order_relaxed) & mask) != mask) bits.fetch_or(mask);
    const std::size_t line = index / kLineWords;
    AtomicWord lines = summary(line / kWordBits);
    const std::uint64_t line_bit = std::uint64_t{1} << (line % kWordBits);
    if ((lines.load() & line_bit) == 0) lines.fetch_or(line_bit);
  }

  bool take_line(std::uint64_t first, std::uint64_t end, Line& line);

  SparseMemory bits_;
  SparseMemory summary_;
};

template <class Visit>
void DirtyBitmap::take(std::uint64_t first, std::uint64_t end, Visit&& visit) {
  end = std::min<std::uint64_t>(end, bits_.opened_words() * kWordBits);
  if (first >= end) return;
  const std::uint64_t first_line = first / kLineBits;
  const std::uint64_t last_line = (end - 1) / kLineBits;
  // A line that [first, end) covers in part keeps its summary bit: what lies outside may be dirty.
  const std::uint64_t first_whole = (first + kLineBits - 1) / kLineBits;
  const std::uint64_t end_whole = end / kLineBits;
  for (std::uint64_t group = first_line / kWordBits; group <= last_line / kWordBits; ++group) {
    AtomicWord lines = summary(group);
    std::uint64_t dirty = lines.load(std::memory_order_relaxed);
    if (dirty == 0) continue;
    const std::uint64_t base = group * kWordBits;
    const auto lines_between = [base](std::uint64_t from, std::uint64_t to) {
      from = std::clamp(from, base, base + kWordBits) - base;
      to = std::clamp(to, base, base + kWordBits) - base;
      if (from >= to) return std::uint64_t{0};
      return (~std::uint64_t{0} >> (kWordBits - (to - from))) << from;
    };
    dirty &= lines_between(first_line, last_line + 1);
    const std::uint64_t whole = dirty & lines_between(first_whole, end_whole);
    if (whole != 0) lines.fetch_and(~whole);
    for (; dirty != 0; dirty &= dirty - 1) {
      Line line;
      line.first_word = (base + static_cast<std::uint64_t>(std::countr_zero(dirty))) * kLineWords;
      if (take_line(first, end, line)) visit(line);
    }
  }
}

}  // namespace gangway
