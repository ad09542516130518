// Pages of a machine's memory: a bitmap for each block, as dirty trackers fill them.
//
// Thread-safety: insert, erase, contains and next* may be called from several threads; nothing else while they are.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "migrate/machine.h"

namespace gangway::migrate {

class PageSet {
 public:
  explicit PageSet(std::span<const MemoryBlock> memory);

  [[nodiscard]] std::span<std::uint64_t> bitmap(std::size_t block) { return blocks_[block].bitmap; }
  [[nodiscard]] std::span<const std::uint64_t> bitmap(std::size_t block) const { return blocks_[block].bitmap; }
  [[nodiscard]] bool contains(std::size_t block, std::uint64_t page) const;

  void fill();
  void clear();
  void insert(std::size_t block, std::uint64_t first, std::uint64_t count);
  void erase(std::size_t block, std::uint64_t first, std::uint64_t count);

  // Bits beyond a block's last page count nothing.
  [[nodiscard]] std::uint64_t count() const;

  // The first page in [from, until) that is in the set, or that is not; `until` when there is none.
  [[nodiscard]] std::uint64_t next(std::size_t block, std::uint64_t from, std::uint64_t until) const;
  [[nodiscard]] std::uint64_t next_absent(std::size_t block, std::uint64_t from, std::uint64_t until) const;

 private:
  struct Block {
    std::uint64_t pages = 0;
    std::vector<std::uint64_t> bitmap;
  };
  [[nodiscard]] std::uint64_t find(std::size_t block, std::uint64_t from, std::uint64_t until,
                                   std::uint64_t flip) const;

  std::vector<Block> blocks_;
};

}  // namespace gangway::migrate
