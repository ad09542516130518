// Dirty bits in a long, sparse array with a summary bit for each cache line of it.
//
// Setting a bit costs nanoseconds and never fails; taking the dirty bits out costs what is dirty. Memory once covered
// stays mapped, so a set() that is late touches at worst a bit that nobody needs.
//
// There are two sides. Marks go to the active one. A take of much dirt turns the sides over first, and then reads the
// retired one with plain loads and stores; what is dirty in the active one is taken with atomic operations. So a report
// of everything runs at the speed of memory, and one of little disturbs no cache.
//
// Order, the proof that nothing is lost (LOG-EXACT). E is the epoch (its parity names the active side), W the word and
// S the summary bit of a page. A marker reads E, sets W, tests S and sets it if clear, then reads E again; if E moved,
// it starts over on the side that is active now. All but the first read are sequentially consistent, so they have one
// order, and so are the taker's steps:
// - From the active side the taker clears S, then takes W with an atomic operation. A marker that finds S clear sets
// it, and the next take
//   visits the line. A marker that finds S set tested it before it was cleared, so W was set before it was taken.
// - From the retired side the taker takes W with a load and a store, after it moved E. A marker whose second read of E
//   came before the move set W and S before it, so the load sees W. The store can erase the W of a later marker only,
//   and that one finds E moved and marks again. E only grows, so turning over twice does not deceive it.
// The test of W that spares the locked instruction may be relaxed: the caller's fence stands between the bytes written
// and the test, so when the bit was still set, the taking of it comes after the bytes. S is tested even then: whoever
// set W may not have come to S yet, and this write is to be in the next report, not in the one after.
//
// Thread-safety: set() and set_range() from any thread at any time; the other calls exclude each other by the caller.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <utility>

#include <gangway/error.h>

#include "device/dma_log_memory.h"

namespace gangway {

class DirtyBitmap {
 public:
  static constexpr std::size_t kWordBits = 64;
  static constexpr std::size_t kLineWords = 8;
  static constexpr std::size_t kLineBits = kLineWords * kWordBits;

  // Address space for `bits`; nothing can be set before cover().
  class Space;
  static Result<Space> reserve(std::uint64_t bits);
  explicit DirtyBitmap(Space space);

  // All clear, and bits [0, bits) can be set from here.
  Result<void> cover(std::uint64_t bits, bool sparse);
  void clear();

  // A bit that is not covered is ignored.
  void set(std::uint64_t bit) noexcept { set_in_word(bit / kWordBits, std::uint64_t{1} << (bit % kWordBits)); }
  void set_range(std::uint64_t first, std::uint64_t end) noexcept;

  // Moves the set bits of [first, end) out: `visit(first_word, words)` for each stretch of whole lines that holds some,
  // in ascending order. Bits outside are 0 in what is visited and stay set here.
  using Visit = std::function<void(std::size_t first_word, std::span<const std::uint64_t> words)>;
  void take(std::uint64_t first, std::uint64_t end, const Visit& visit);

  // Lines that may hold a set bit of [first, end), going by the summaries.
  [[nodiscard]] std::uint64_t dirty_lines(std::uint64_t first, std::uint64_t end) const;

 private:
  using AtomicWord = std::atomic_ref<std::uint64_t>;
  static constexpr std::size_t kGroupLines = kWordBits;  // a word of the summary
  static constexpr std::size_t kGroupWords = kGroupLines * kLineWords;

  struct Side {
    SparseMemory bits;
    SparseMemory summary;

    [[nodiscard]] AtomicWord word(std::size_t index) const { return AtomicWord(bits.words()[index]); }
    [[nodiscard]] AtomicWord lines(std::size_t group) const { return AtomicWord(summary.words()[group]); }

    // Under no lock: see above.
    void set(std::size_t index, std::uint64_t mask) const noexcept {
      const AtomicWord target = word(index);
      if ((target.load(std::memory_order_relaxed) & mask) != mask) target.fetch_or(mask);
      const std::size_t line = index / kLineWords;
      const AtomicWord summary_word = lines(line / kGroupLines);
      const std::uint64_t line_bit = std::uint64_t{1} << (line % kGroupLines);
      if ((summary_word.load() & line_bit) == 0) summary_word.fetch_or(line_bit);
    }
  };

  // Bits [first, end) and the lines they touch.
  struct Bounds;
  // What a take does in one group: which lines are dirty on which side.
  struct Group {
    std::size_t number = 0;
    std::uint64_t active = 0;
    std::uint64_t retired = 0;
  };

  void set_in_word(std::size_t index, std::uint64_t mask) noexcept {
    if (index >= covered_words()) return;
    std::uint64_t epoch = epoch_.load(std::memory_order_relaxed);
    while (true) {
      sides_[epoch % 2].set(index, mask);
      const std::uint64_t now = epoch_.load();
      if (now == epoch) return;
      epoch = now;
    }
  }

  // The odd side is opened last.
  [[nodiscard]] std::size_t covered_words() const { return sides_[1].bits.opened_words(); }
  [[nodiscard]] const Side& active() const { return sides_[epoch_.load(std::memory_order_relaxed) % 2]; }
  [[nodiscard]] const Side& retired() const { return sides_[(epoch_.load(std::memory_order_relaxed) + 1) % 2]; }
  [[nodiscard]] Bounds clip(std::uint64_t first, std::uint64_t end) const;
  template <class LinesOf>
  [[nodiscard]] std::uint64_t count_lines(const Bounds& bounds, LinesOf&& lines_of) const;
  void turn_over();
  [[nodiscard]] Group take_summary(std::size_t group, const Bounds& bounds) const;
  void take_lines(const Group& group, unsigned first_line, const Bounds& bounds, std::span<std::uint64_t> out) const;
  void take_line(const Group& group, unsigned line, const Bounds& bounds, std::span<std::uint64_t> out) const;
  void take_retired_lines(std::size_t first_word, std::span<std::uint64_t> out) const;

  std::array<Side, 2> sides_;
  std::atomic<std::uint64_t> epoch_{0};
};

class DirtyBitmap::Space {
  friend class DirtyBitmap;
  std::array<Side, 2> sides_;
  explicit Space(std::array<Side, 2> sides) : sides_(std::move(sides)) {}
};

}  // namespace gangway
