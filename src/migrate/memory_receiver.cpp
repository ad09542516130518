#include "migrate/memory_receiver.h"

#include <algorithm>
#include <cstring>

#include <fmt/format.h>

#include "migrate/zero_page.h"

namespace gangway::migrate {
namespace {

std::span<std::byte> bytes_of_run(const MemoryBlock& block, const PageRun& run) {
  return block.bytes.subspan(run.first * kPageSize, run.count * kPageSize);
}

void clear_pages(const MemoryBlock& block, std::uint64_t first, std::uint64_t last) {
  for (std::uint64_t page = first; page < last; ++page) {
    const auto bytes = block.bytes.subspan(page * kPageSize).first<kPageSize>();
    if (!is_zero(bytes)) std::memset(bytes.data(), 0, bytes.size());
  }
}

}  // namespace

void clear_memory(std::span<const MemoryBlock> memory) {
  // Punching holes would be quicker, and would take the memory away under a device that has it pinned.
  for (const MemoryBlock& block : memory) {
    std::uint64_t page = 0;
    for (const PageRange& hole : find_holes(block)) {
      clear_pages(block, page, hole.first);
      page = hole.first + hole.count;
    }
    clear_pages(block, page, block.pages());
  }
}

MemoryReceiver::MemoryReceiver(std::span<const MemoryBlock> memory, Prefault* prefault, bool checksums)
    : memory_(memory),
      prefault_(prefault),
      checksums_(checksums),
      arrived_(memory),
      holds_data_(memory),
      suspect_(memory) {}

Result<void> MemoryReceiver::receive(Channel& channel, std::span<const std::byte> payload) {
  auto batch = read_page_batch(payload, memory_, checksums_);
  if (!batch) return std::unexpected(batch.error());
  const MemoryBlock& block = memory_[batch->block];

  std::vector<iovec> places;
  places.reserve(batch->runs.size());
  for (const PageRun& run : batch->runs) {
    arrived_.insert(batch->block, run.first, run.count);
    if (run.kind == PageRun::Kind::Zero) {
      clear_run(batch->block, run);
      continue;
    }
    if (prefault_ != nullptr) prefault_->need(batch->block, run.first, run.count);
    holds_data_.insert(batch->block, run.first, run.count);
    const std::span<std::byte> bytes = bytes_of_run(block, run);
    places.push_back({.iov_base = bytes.data(), .iov_len = bytes.size()});
  }
  if (auto received = channel.receive_data(places); !received) return received;
  if (checksums_) check_pages(*batch);
  bytes_received_.fetch_add(batch->data_pages * kPageSize, std::memory_order_relaxed);
  return {};
}

void MemoryReceiver::clear_run(std::size_t block, const PageRun& run) {
  if (prefault_ != nullptr) prefault_->pass_over(block, run.first, run.count);
  const std::uint64_t end = run.first + run.count;
  for (std::uint64_t page = holds_data_.next(block, run.first, end); page < end;) {
    const std::uint64_t stop = holds_data_.next_absent(block, page, end);
    std::memset(memory_[block].bytes.data() + page * kPageSize, 0, (stop - page) * kPageSize);
    page = holds_data_.next(block, stop, end);
  }
  holds_data_.erase(block, run.first, run.count);
  if (checksums_) suspect_.erase(block, run.first, run.count);
}

void MemoryReceiver::check_pages(const PageBatch& batch) {
  std::size_t at = 0;
  for (const PageRun& run : batch.runs) {
    if (run.kind != PageRun::Kind::Data) continue;
    const std::span<std::byte> bytes = bytes_of_run(memory_[batch.block], run);
    for (std::uint64_t page = 0; page < run.count; ++page, ++at) {
      const bool same = page_checksum(bytes.subspan(page * kPageSize).first<kPageSize>()) == batch.checksums[at];
      if (!same) {
        suspect_.insert(batch.block, run.first + page, 1);
      } else if (suspect_.contains(batch.block, run.first + page)) {
        suspect_.erase(batch.block, run.first + page, 1);
      }
    }
  }
}

Result<void> MemoryReceiver::check_complete() const {
  for (std::size_t i = 0; i < memory_.size(); ++i) {
    const MemoryBlock& block = memory_[i];
    const std::uint64_t missing = arrived_.next_absent(i, 0, block.pages());
    if (missing != block.pages()) {
      return fail(ENODATA, fmt::format("memory: page {} of block {} was never sent", missing, block.name));
    }
    const std::uint64_t damaged = suspect_.next(i, 0, block.pages());
    if (damaged != block.pages()) {
      return fail(EBADMSG, fmt::format("memory: page {} of block {} differs from its checksum", damaged, block.name));
    }
  }
  return {};
}

}  // namespace gangway::migrate
