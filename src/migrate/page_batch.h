// A batch of pages as it goes over a channel: runs of pages of one block, and where their data lies.
//
// One class writes batches, one function reads them; the layout is known nowhere else.
//
// Payload: u32 block, u32 runs; a PageRun each; with page checksums a u32 for each page that carries data, in
// order. The data of all Data runs follows the message, in order.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include <gangway/error.h>

#include "migrate/channel.h"
#include "migrate/machine.h"

namespace gangway::migrate {

struct PageRun {
  enum class Kind : std::uint32_t { Data = 0, Zero = 1 };
  std::uint64_t first = 0;  // page of the block
  std::uint32_t count = 0;  // pages, not 0
  Kind kind = Kind::Data;
};
static_assert(sizeof(PageRun) == 16);

inline constexpr std::size_t kMaxBatchRuns = 512;    // with header and payload below IOV_MAX
inline constexpr std::size_t kMaxBatchPages = 1024;  // that carry data
inline constexpr std::uint32_t kMaxPageBatchPayload =
    8 + kMaxBatchRuns * sizeof(PageRun) + kMaxBatchPages * sizeof(std::uint32_t);

// The low half of XXH3-64 of a page.
[[nodiscard]] std::uint32_t page_checksum(std::span<const std::byte, kPageSize> page);

// Collects pages in ascending order and sends them when the batch is full.
class PageBatchWriter {
 public:
  PageBatchWriter(std::span<const MemoryBlock> memory, Channel& channel, bool checksums);

  Result<void> add(std::size_t block, std::uint64_t first, std::uint64_t count, PageRun::Kind kind);
  Result<void> flush();

  // Page data handed to the channel, bytes.
  [[nodiscard]] std::uint64_t bytes_sent() const { return bytes_sent_; }

 private:
  [[nodiscard]] bool extends_last_run(std::uint64_t first, PageRun::Kind kind) const;
  void append(std::uint64_t first, std::uint32_t count, PageRun::Kind kind);

  std::span<const MemoryBlock> memory_;
  Channel& channel_;
  const bool checksums_;
  std::size_t block_ = 0;
  std::size_t data_pages_ = 0;
  std::vector<PageRun> runs_;
  std::vector<std::uint32_t> page_checksums_;
  std::vector<std::byte> payload_;
  std::vector<iovec> data_;
  std::uint64_t bytes_sent_ = 0;
};

struct PageBatch {
  std::size_t block = 0;
  std::vector<PageRun> runs;
  std::vector<std::uint32_t> checksums;  // of the pages that carry data; empty without page checksums
  std::size_t data_pages = 0;
};

// Checks every field against the memory. EPROTO with the field that is wrong.
Result<PageBatch> read_page_batch(std::span<const std::byte> payload, std::span<const MemoryBlock> memory,
                                  bool checksums);

}  // namespace gangway::migrate
