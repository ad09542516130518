// Physical region pages: where in the host's memory a command's data lies.
//
// Two entries in the command, or a list of pages of entries, describe pages; neighbours are joined, so that a buffer
// that is contiguous costs one access. What the host writes there is hostile: entries are checked for their offsets,
// and the walk is bounded by the length of the data, whatever the lists point at.
// Source: NVM Express 1.4, 4.3.
//
// Thread-safety: one thread at a time.
#pragma once

#include <cstdint>
#include <expected>
#include <span>
#include <vector>

#include <gangway/dma.h>
#include <gangway/types.h>

#include "devices/nvme/status.h"

namespace gangway::nvme {

struct DataSegment {
  Iova iova;
  std::uint32_t length = 0;  // bytes
  friend bool operator==(const DataSegment&, const DataSegment&) = default;
};

class PrpWalker {
 public:
  // The segments of `length` bytes, in order; valid until the next walk. InvalidPrpOffset for an entry that is not
  // aligned as its place asks, DataTransferError for a list that cannot be read.
  std::expected<std::span<const DataSegment>, Status> walk(DmaSpace& dma, std::uint64_t prp1, std::uint64_t prp2,
                                                           std::uint32_t length, std::uint32_t page_size);

 private:
  void append(std::uint64_t address, std::uint32_t length);
  Status walk_list(DmaSpace& dma, std::uint64_t list, std::uint32_t length, std::uint32_t page_size);

  std::vector<DataSegment> segments_;
  std::vector<std::uint64_t> entries_;
};

}  // namespace gangway::nvme
