// Allocates fresh guest memory ahead of the data that will fill it.
//
// The first write to a page of new shared memory costs more than receiving its data. So a thread of its own walks the
// memory from the front and populates it, from before a source connects; whoever is about to write pages that it has
// not reached yet populates them in one go instead of fault by fault, and what will hold no data is passed over.
//
// Where the kernel cannot populate (MADV_POPULATE_WRITE, Linux 5.14) nothing happens here and the writes fault.
// Thread-safety: need() and pass_over() from any thread.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <thread>
#include <vector>

#include "migrate/machine.h"

namespace gangway::migrate {

class Prefault {
 public:
  // The memory must outlive this.
  explicit Prefault(std::span<const MemoryBlock> memory);
  ~Prefault() = default;  // stops the thread and joins it
  Prefault(const Prefault&) = delete;
  Prefault& operator=(const Prefault&) = delete;

  // Data for these pages is about to arrive.
  void need(std::size_t block, std::uint64_t first, std::uint64_t count);
  // These pages will hold no data for now.
  void pass_over(std::size_t block, std::uint64_t first, std::uint64_t count);

 private:
  static constexpr std::uint64_t kChunkPages = 512;  // what is populated at a time; 2 MiB

  struct Block {
    std::span<std::byte> bytes;
    std::vector<std::atomic<bool>> taken;  // a chunk each: populated, being populated, or not wanted
  };
  bool take(Block& block, std::uint64_t chunk);
  bool populate(Block& block, std::uint64_t chunk);
  void run(const std::stop_token& stop);

  std::vector<Block> blocks_;
  std::atomic<bool> able_{true};  // the kernel can populate
  std::jthread thread_;           // last: it uses the rest
};

}  // namespace gangway::migrate
