#include "devices/nvme/prp.h"

#include <algorithm>
#include <limits>

namespace gangway::nvme {
namespace {

constexpr std::uint32_t kEntrySize = sizeof(std::uint64_t);

}  // namespace

std::expected<std::span<const DataSegment>, Status> PrpWalker::walk(DmaSpace& dma, std::uint64_t prp1,
                                                                    std::uint64_t prp2, std::uint32_t length,
                                                                    std::uint32_t page_size) {
  segments_.clear();
  if (length == 0) return segments_;
  if (prp1 % sizeof(std::uint32_t) != 0) return std::unexpected(Status::InvalidPrpOffset);
  const auto offset = static_cast<std::uint32_t>(prp1 % page_size);
  const std::uint32_t first = std::min(length, page_size - offset);
  append(prp1, first);

  const std::uint32_t rest = length - first;
  if (rest == 0) return segments_;
  if (rest <= page_size) {
    if (prp2 % page_size != 0) return std::unexpected(Status::InvalidPrpOffset);
    append(prp2, rest);
    return segments_;
  }
  if (const Status status = walk_list(dma, prp2, rest, page_size); status != Status::Success) {
    return std::unexpected(status);
  }
  return segments_;
}

// Every page of a list but the first is full (its pointer has no offset), so each brings data and the walk ends.
Status PrpWalker::walk_list(DmaSpace& dma, std::uint64_t list, std::uint32_t length, std::uint32_t page_size) {
  if (list % kEntrySize != 0) return Status::InvalidPrpOffset;
  while (length != 0) {
    const auto room = static_cast<std::uint32_t>((page_size - (list % page_size)) / kEntrySize);
    const std::uint32_t needed = ((length - 1) / page_size) + 1;
    const bool chained = needed > room;
    entries_.resize(std::min(needed, room));
    if (!dma.read({list}, std::as_writable_bytes(std::span(entries_)))) return Status::DataTransferError;

    const std::span<const std::uint64_t> pages = std::span(entries_).first(chained ? room - 1 : needed);
    for (const std::uint64_t page : pages) {
      if (page % page_size != 0) return Status::InvalidPrpOffset;
      const std::uint32_t part = std::min(length, page_size);
      append(page, part);
      length -= part;
    }
    if (chained) {
      list = entries_.back();
      if (list % page_size != 0) return Status::InvalidPrpOffset;
    }
  }
  return Status::Success;
}

void PrpWalker::append(std::uint64_t address, std::uint32_t length) {
  if (!segments_.empty()) {
    DataSegment& last = segments_.back();
    const bool wraps = address == 0;
    if (!wraps && last.iova.value + last.length == address) {
      last.length += length;
      return;
    }
  }
  segments_.push_back({.iova = {address}, .length = length});
}

}  // namespace gangway::nvme
