#include "migrate/memory_sender.h"

#include <algorithm>
#include <thread>
#include <vector>

#include "base/bytes.h"
#include "migrate/zero_page.h"

namespace gangway::migrate {
namespace {

// What a channel takes up at a time. A multiple of 64, so that no two channels meet in a word of a bitmap.
constexpr std::uint64_t kWindowPages = 1024;

std::uint64_t windows_of(const MemoryBlock& block) { return (block.pages() + kWindowPages - 1) / kWindowPages; }

}  // namespace

MemorySender::MemorySender(std::span<const MemoryBlock> memory, std::span<Channel> channels, Meter& meter,
                           bool checksums)
    : memory_(memory), channels_(channels), meter_(meter), checksums_(checksums) {}

Result<void> MemorySender::send_holes(PageSet& pages) {
  PageBatchWriter batch(memory_, channels_.front(), checksums_);
  for (std::size_t block = 0; block < memory_.size(); ++block) {
    for (const PageRange& hole : find_holes(memory_[block])) {
      pages.erase(block, hole.first, hole.count);
      auto added = batch.add(block, hole.first, hole.count, PageRun::Kind::Zero);
      if (!added) return added;
    }
  }
  return batch.flush();
}

Result<void> MemorySender::send_round(const PageSet& pages, RoundEnd end) {
  next_window_ = 0;
  failed_ = false;
  std::vector<Result<void>> results(channels_.size());
  {
    std::vector<std::jthread> others;
    for (std::size_t channel = 1; channel < channels_.size(); ++channel) {
      others.emplace_back([&, channel] { results[channel] = send_part(pages, end, channel); });
    }
    results[0] = send_part(pages, end, 0);
  }
  for (Result<void>& result : results) {
    if (!result) return result;
  }
  return {};
}

Result<void> MemorySender::send_part(const PageSet& pages, RoundEnd end, std::size_t channel) {
  std::uint64_t windows = 0;
  for (const MemoryBlock& block : memory_) windows += windows_of(block);

  const auto stop = [this](Result<void> result) {
    failed_ = true;
    return result;
  };
  PageBatchWriter batch(memory_, channels_[channel], checksums_);
  std::uint64_t counted = 0;
  for (std::uint64_t window = next_window_++; window < windows; window = next_window_++) {
    if (failed_) return {};  // who failed says why
    if (auto sent = send_window(pages, window, batch); !sent) return stop(std::move(sent));
    meter_.sent_memory(batch.bytes_sent() - counted);
    counted = batch.bytes_sent();
    if (channel != 0) continue;
    meter_.tick();
    if (channels_[0].readable()) return stop(fail(EPIPE, "the peer spoke up within a round"));
  }
  if (auto flushed = batch.flush(); !flushed) return stop(std::move(flushed));
  meter_.sent_memory(batch.bytes_sent() - counted);
  if (auto ended = channels_[channel].send(MessageType::RoundEnd, bytes_of(end)); !ended) return stop(std::move(ended));
  return {};
}

Result<void> MemorySender::send_window(const PageSet& pages, std::uint64_t window, PageBatchWriter& batch) {
  std::size_t block = 0;
  while (window >= windows_of(memory_[block])) window -= windows_of(memory_[block++]);
  const std::uint64_t until = std::min((window + 1) * kWindowPages, memory_[block].pages());
  for (std::uint64_t page = pages.next(block, window * kWindowPages, until); page < until;
       page = pages.next(block, page + 1, until)) {
    const bool zero = is_zero(memory_[block].bytes.subspan(page * kPageSize).first<kPageSize>());
    auto added = batch.add(block, page, 1, zero ? PageRun::Kind::Zero : PageRun::Kind::Data);
    if (!added) return added;
  }
  return {};
}

}  // namespace gangway::migrate
