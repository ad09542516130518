#include "migrate/page_set.h"

#include <algorithm>
#include <atomic>

namespace gangway::migrate {
namespace {

constexpr std::uint64_t kAll = ~std::uint64_t{0};

// The bits of [first, last) that fall into word number `word`.
std::uint64_t mask(std::uint64_t word, std::uint64_t first, std::uint64_t last) {
  std::uint64_t bits = kAll;
  if (first > word * 64) bits &= kAll << (first - word * 64);
  if (last < (word + 1) * 64) bits &= kAll >> ((word + 1) * 64 - last);
  return bits;
}

// atomic_ref of a const object comes with C++26; a load does not write.
std::uint64_t load(const std::uint64_t& word) {
  return std::atomic_ref(const_cast<std::uint64_t&>(word)).load(std::memory_order_relaxed);
}

}  // namespace

PageSet::PageSet(std::span<const MemoryBlock> memory) {
  for (const MemoryBlock& block : memory) {
    blocks_.push_back({.pages = block.pages(), .bitmap = std::vector<std::uint64_t>((block.pages() + 63) / 64)});
  }
}

bool PageSet::contains(std::size_t block, std::uint64_t page) const {
  return (load(blocks_[block].bitmap[page / 64]) >> (page % 64) & 1U) != 0;
}

void PageSet::fill() {
  for (Block& block : blocks_) std::ranges::fill(block.bitmap, kAll);
}

void PageSet::clear() {
  for (Block& block : blocks_) std::ranges::fill(block.bitmap, 0);
}

void PageSet::insert(std::size_t block, std::uint64_t first, std::uint64_t count) {
  if (count == 0) return;
  for (std::uint64_t word = first / 64; word <= (first + count - 1) / 64; ++word) {
    std::atomic_ref(blocks_[block].bitmap[word]).fetch_or(mask(word, first, first + count), std::memory_order_relaxed);
  }
}

void PageSet::erase(std::size_t block, std::uint64_t first, std::uint64_t count) {
  if (count == 0) return;
  for (std::uint64_t word = first / 64; word <= (first + count - 1) / 64; ++word) {
    std::atomic_ref(blocks_[block].bitmap[word])
        .fetch_and(~mask(word, first, first + count), std::memory_order_relaxed);
  }
}

std::uint64_t PageSet::count() const {
  std::uint64_t pages = 0;
  for (const Block& block : blocks_) {
    for (std::uint64_t word = 0; word < block.bitmap.size(); ++word) {
      pages += static_cast<std::uint64_t>(std::popcount(block.bitmap[word] & mask(word, 0, block.pages)));
    }
  }
  return pages;
}

std::uint64_t PageSet::next(std::size_t block, std::uint64_t from, std::uint64_t until) const {
  return find(block, from, until, 0);
}

std::uint64_t PageSet::next_absent(std::size_t block, std::uint64_t from, std::uint64_t until) const {
  return find(block, from, until, kAll);
}

std::uint64_t PageSet::find(std::size_t block, std::uint64_t from, std::uint64_t until, std::uint64_t flip) const {
  if (from >= until) return until;
  const std::vector<std::uint64_t>& bitmap = blocks_[block].bitmap;
  for (std::uint64_t word = from / 64; word <= (until - 1) / 64; ++word) {
    const std::uint64_t bits = (load(bitmap[word]) ^ flip) & mask(word, from, until);
    if (bits != 0) return word * 64 + static_cast<std::uint64_t>(std::countr_zero(bits));
  }
  return until;
}

}  // namespace gangway::migrate
