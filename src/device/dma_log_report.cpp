#include "device/dma_log_report.h"

#include <algorithm>
#include <bit>
#include <utility>

namespace gangway {
namespace {

constexpr std::size_t kWordBits = 64;

}  // namespace

std::uint64_t DirtyReport::dirty_pages() const {
  std::uint64_t pages = 0;
  for (const Extent& extent : extents) {
    for (const std::uint64_t word : extent.words) pages += static_cast<std::uint64_t>(std::popcount(word));
  }
  return pages;
}

void DirtyReport::merge_into(std::span<std::uint64_t> bitmap) const {
  for (const Extent& extent : extents) {
    if (extent.first_word >= bitmap.size()) return;
    const auto target = bitmap.subspan(extent.first_word);
    const std::size_t count = std::min(target.size(), extent.words.size());
    for (std::size_t i = 0; i < count; ++i) target[i] |= extent.words[i];
  }
}

ReportBuilder::ReportBuilder(std::size_t total_words, std::size_t expected_words) : expected_words_(expected_words) {
  report_.total_words = total_words;
}

DirtyReport::Extent& ReportBuilder::extent_for(std::size_t index) {
  if (!report_.extents.empty()) {
    DirtyReport::Extent& last = report_.extents.back();
    if (index <= last.first_word + last.words.size() + kMaxGapWords) return last;
  }
  DirtyReport::Extent& extent = report_.extents.emplace_back(DirtyReport::Extent{index, {}});
  extent.words.reserve(std::min(std::exchange(expected_words_, 0), report_.total_words - index));
  return extent;
}

void ReportBuilder::add_words(std::size_t first, std::span<const std::uint64_t> words) {
  // An extent begins and ends with a word that holds a bit.
  while (!words.empty() && words.front() == 0) {
    words = words.subspan(1);
    ++first;
  }
  while (!words.empty() && words.back() == 0) words = words.first(words.size() - 1);
  if (words.empty()) return;
  DirtyReport::Extent& extent = extent_for(first);
  const std::size_t at = first - extent.first_word;
  const std::size_t shared = std::min(words.size(), std::max(extent.words.size(), at) - at);
  for (std::size_t i = 0; i < shared; ++i) extent.words[at + i] |= words[i];
  extent.words.resize(std::max(at, extent.words.size()));
  extent.words.insert(extent.words.end(), words.begin() + static_cast<std::ptrdiff_t>(shared), words.end());
}

void ReportBuilder::add_bits(std::uint64_t first, std::uint64_t end) {
  while (first < end) {
    const std::uint64_t word_end = (first / kWordBits + 1) * kWordBits;
    const std::uint64_t until = std::min(end, word_end);
    const std::uint64_t bits = (~std::uint64_t{0} >> (kWordBits - (until - first))) << (first % kWordBits);
    add_words(first / kWordBits, std::span(&bits, 1));
    first = until;
  }
}

DirtyReport ReportBuilder::finish() && { return std::move(report_); }

}  // namespace gangway
