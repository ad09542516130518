// Builds a DirtyReport from bits that come in ascending order.
//
// Stretches of clean words up to a cache line's worth of lines are stored, so that scattered dirt does not become a
// heap block a word; longer ones are left out.
//
// Thread-safety: one thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include <gangway/dma_log.h>

namespace gangway {

class ReportBuilder {
 public:
  static constexpr std::size_t kMaxGapWords = 64;

  // `expected_words`: how long the first stretch may become; a hint.
  ReportBuilder(std::size_t total_words, std::size_t expected_words);

  // ORs `words` in from word number `first` on. Words past the end must be 0.
  void add_words(std::size_t first, std::span<const std::uint64_t> words);
  // Sets bits [first, end).
  void add_bits(std::uint64_t first, std::uint64_t end);

  [[nodiscard]] DirtyReport finish() &&;

 private:
  // The last stretch if word `index` belongs to it, or else a new one that begins there.
  DirtyReport::Extent& extent_for(std::size_t index);

  DirtyReport report_;
  std::size_t expected_words_;
};

}  // namespace gangway
