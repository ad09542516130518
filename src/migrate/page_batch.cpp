#include "migrate/page_batch.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include <fmt/format.h>
#include <xxhash.h>

#include "base/bytes.h"

namespace gangway::migrate {
namespace {

struct BatchHead {
  std::uint32_t block = 0;
  std::uint32_t runs = 0;
};

void append_bytes(std::vector<std::byte>& out, std::span<const std::byte> bytes) {
  out.insert(out.end(), bytes.begin(), bytes.end());
}

Result<void> check(const PageRun& run, const MemoryBlock& block) {
  if (run.kind != PageRun::Kind::Data && run.kind != PageRun::Kind::Zero) {
    return fail(EPROTO, fmt::format("PAGES: run of kind {}", static_cast<std::uint32_t>(run.kind)));
  }
  if (run.count == 0 || run.first >= block.pages() || run.count > block.pages() - run.first) {
    return fail(EPROTO, fmt::format("PAGES: run of {} pages at page {} does not lie in block {} of {} pages", run.count,
                                    run.first, block.name, block.pages()));
  }
  return {};
}

}  // namespace

std::uint32_t page_checksum(std::span<const std::byte, kPageSize> page) {
  return static_cast<std::uint32_t>(XXH3_64bits(page.data(), page.size()));
}

PageBatchWriter::PageBatchWriter(std::span<const MemoryBlock> memory, Channel& channel, bool checksums)
    : memory_(memory), channel_(channel), checksums_(checksums) {
  runs_.reserve(kMaxBatchRuns);
  data_.reserve(kMaxBatchRuns);
  payload_.reserve(kMaxPageBatchPayload);
}

Result<void> PageBatchWriter::add(std::size_t block, std::uint64_t first, std::uint64_t count, PageRun::Kind kind) {
  if (block != block_) {
    if (auto flushed = flush(); !flushed) return flushed;
    block_ = block;
  }
  while (count != 0) {
    const bool data = kind == PageRun::Kind::Data;
    if ((runs_.size() == kMaxBatchRuns && !extends_last_run(first, kind)) || (data && data_pages_ == kMaxBatchPages)) {
      if (auto flushed = flush(); !flushed) return flushed;
    }
    const std::uint64_t room = data ? kMaxBatchPages - data_pages_ : std::numeric_limits<std::uint32_t>::max() / 2;
    const auto now = static_cast<std::uint32_t>(std::min(count, room));
    append(first, now, kind);
    first += now;
    count -= now;
  }
  return {};
}

bool PageBatchWriter::extends_last_run(std::uint64_t first, PageRun::Kind kind) const {
  return !runs_.empty() && runs_.back().kind == kind && runs_.back().first + runs_.back().count == first &&
         runs_.back().count < std::numeric_limits<std::uint32_t>::max() / 2;
}

void PageBatchWriter::append(std::uint64_t first, std::uint32_t count, PageRun::Kind kind) {
  const bool extends = extends_last_run(first, kind);
  if (extends) {
    runs_.back().count += count;
  } else {
    runs_.push_back({.first = first, .count = count, .kind = kind});
  }
  if (kind != PageRun::Kind::Data) return;

  const std::span<std::byte> bytes = memory_[block_].bytes.subspan(first * kPageSize, count * kPageSize);
  if (extends) {
    data_.back().iov_len += bytes.size();
  } else {
    data_.push_back({.iov_base = bytes.data(), .iov_len = bytes.size()});
  }
  data_pages_ += count;
  if (!checksums_) return;
  for (std::uint32_t page = 0; page < count; ++page) {
    page_checksums_.push_back(page_checksum(bytes.subspan(page * kPageSize).first<kPageSize>()));
  }
}

Result<void> PageBatchWriter::flush() {
  if (runs_.empty()) return {};
  payload_.clear();
  append_bytes(payload_, bytes_of(BatchHead{.block = static_cast<std::uint32_t>(block_),
                                            .runs = static_cast<std::uint32_t>(runs_.size())}));
  append_bytes(payload_, std::as_bytes(std::span(runs_)));
  append_bytes(payload_, std::as_bytes(std::span(page_checksums_)));
  auto sent = channel_.send_with_data(MessageType::Pages, payload_, data_);
  bytes_sent_ += data_pages_ * kPageSize;
  runs_.clear();
  data_.clear();
  page_checksums_.clear();
  data_pages_ = 0;
  return sent;
}

Result<PageBatch> read_page_batch(std::span<const std::byte> payload, std::span<const MemoryBlock> memory,
                                  bool checksums) {
  const auto head = load_at<BatchHead>(payload);
  if (!head) return fail(EPROTO, fmt::format("PAGES: {} bytes are too short", payload.size()));
  if (head->block >= memory.size()) {
    return fail(EPROTO, fmt::format("PAGES: block {} of {}", head->block, memory.size()));
  }
  if (head->runs == 0 || head->runs > kMaxBatchRuns ||
      payload.size() < sizeof(BatchHead) + head->runs * sizeof(PageRun)) {
    return fail(EPROTO, fmt::format("PAGES: {} runs in {} bytes", head->runs, payload.size()));
  }

  PageBatch batch{.block = head->block};
  batch.runs.resize(head->runs);
  const std::size_t runs_size = head->runs * sizeof(PageRun);
  std::memcpy(batch.runs.data(), payload.data() + sizeof(BatchHead), runs_size);
  for (const PageRun& run : batch.runs) {
    if (auto checked = check(run, memory[batch.block]); !checked) return std::unexpected(checked.error());
    if (run.kind == PageRun::Kind::Data) batch.data_pages += run.count;
    if (batch.data_pages > kMaxBatchPages) {
      return fail(EPROTO, fmt::format("PAGES: more than {} pages of data in a batch", kMaxBatchPages));
    }
  }

  const std::span rest = payload.subspan(sizeof(BatchHead) + runs_size);
  if (rest.size() != (checksums ? batch.data_pages * sizeof(std::uint32_t) : 0)) {
    return fail(EPROTO, fmt::format("PAGES: {} bytes after the runs of {} pages", rest.size(), batch.data_pages));
  }
  if (checksums) {
    batch.checksums.resize(batch.data_pages);
    std::ranges::copy(rest, std::as_writable_bytes(std::span(batch.checksums)).begin());
  }
  return batch;
}

}  // namespace gangway::migrate
