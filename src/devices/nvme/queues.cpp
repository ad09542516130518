#include "devices/nvme/queues.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstring>

#include <fmt/format.h>

namespace gangway::nvme {
namespace {

constexpr std::size_t kEntryPhaseWord = offsetof(Completion, cid);  // cid and status, the last to be written

}  // namespace

bool QueueSet::has_io_queues() const {
  const auto present = [](const auto& queue) { return queue.has_value(); };
  return std::any_of(sqs_.begin() + 1, sqs_.end(), present) || std::any_of(cqs_.begin() + 1, cqs_.end(), present);
}

bool QueueSet::cq_in_use(std::uint16_t id) const {
  return std::ranges::any_of(sqs_, [id](const auto& queue) { return queue && queue->cq_id == id; });
}

void QueueSet::add(SubmissionQueue queue) { sqs_.at(queue.id) = queue; }

void QueueSet::add(CompletionQueue queue) {
  queue.gathered.reserve(std::min<std::size_t>(queue.size, 64));
  cqs_.at(queue.id) = std::move(queue);
}

void QueueSet::clear() {
  for (auto& queue : sqs_) queue.reset();
  for (auto& queue : cqs_) queue.reset();
  unwritten_ = 0;
}

Result<std::span<const Command>> QueueSet::fetch(SubmissionQueue& queue, std::size_t limit) {
  CompletionQueue& completions = *cq(queue.cq_id);
  const std::size_t count = std::min({limit, kFetchMax, std::size_t{queue.waiting()},
                                      std::size_t{queue.size - queue.head}, std::size_t{completions.free_slots()}});
  if (count == 0) return std::span<const Command>();

  const auto entries = std::span(fetched_).first(count);
  const Iova at = queue.base + (std::uint64_t{queue.head} * sizeof(Command));
  if (auto read = dma_->read(at, std::as_writable_bytes(entries)); !read) {
    return fail_within(fmt::format("fetch from submission queue {} at {:#x}", queue.id, at.value), read.error());
  }
  queue.head = (queue.head + static_cast<std::uint32_t>(count)) % queue.size;
  queue.in_flight += static_cast<std::uint32_t>(count);
  completions.reserved += static_cast<std::uint32_t>(count);
  return std::span<const Command>(entries);
}

void QueueSet::complete(SubmissionQueue& queue, std::uint16_t cid, Outcome outcome) {
  release(queue);
  gather(*cq(queue.cq_id), {.result = outcome.result,
                            .sq_head = static_cast<std::uint16_t>(queue.head),
                            .sq_id = queue.id,
                            .cid = cid,
                            .status = static_cast<std::uint16_t>(status_field(outcome.status) << 1)});
}

void QueueSet::release(SubmissionQueue& queue) {
  --queue.in_flight;
  --cq(queue.cq_id)->reserved;
}

bool QueueSet::complete_released(std::uint16_t cid, Outcome outcome) {
  const SubmissionQueue* admin = sq(0);
  CompletionQueue* completions = cq(0);
  if (admin == nullptr || completions == nullptr || completions->free_slots() == 0) return false;
  gather(*completions, {.result = outcome.result,
                        .sq_head = static_cast<std::uint16_t>(admin->head),
                        .sq_id = 0,
                        .cid = cid,
                        .status = static_cast<std::uint16_t>(status_field(outcome.status) << 1)});
  return true;
}

bool QueueSet::phase_of(const SubmissionQueue& queue) const { return cq(queue.cq_id)->phase; }

void QueueSet::gather(CompletionQueue& queue, Completion completion) {
  completion.status = static_cast<std::uint16_t>(completion.status | (queue.phase ? 1U : 0U));
  queue.gathered.push_back(completion);
  if (++queue.tail == queue.size) {
    queue.tail = 0;
    queue.phase = !queue.phase;
  }
  unwritten_ |= 1U << queue.id;
}

Result<void> QueueSet::flush() {
  std::uint32_t vectors = 0;
  for (; unwritten_ != 0; unwritten_ &= unwritten_ - 1) {
    CompletionQueue* queue = cq(static_cast<std::uint32_t>(std::countr_zero(unwritten_)));
    if (queue == nullptr) continue;
    if (auto written = write_gathered(*queue); !written) return written;
    if (queue->interrupts) vectors |= 1U << queue->vector;
  }
  if (vectors != 0) lines_.raise(vectors, waiting_vectors());
  return {};
}

// The gathered entries end at the tail, and may wrap.
Result<void> QueueSet::write_gathered(CompletionQueue& queue) {
  std::span<const Completion> rest = queue.gathered;
  std::uint32_t slot = (queue.tail + queue.size - static_cast<std::uint32_t>(rest.size())) % queue.size;
  while (!rest.empty()) {
    const std::size_t run = std::min<std::size_t>(rest.size(), queue.size - slot);
    const Iova at = queue.base + (std::uint64_t{slot} * sizeof(Completion));
    if (auto written = write_run(at, rest.first(run)); !written) {
      queue.gathered.clear();
      return fail_within(fmt::format("post to completion queue {} at {:#x}", queue.id, at.value), written.error());
    }
    rest = rest.subspan(run);
    slot = 0;
  }
  queue.gathered.clear();
  return {};
}

// The host polls the phase bit, so the word that holds it is written after the rest of its entry.
Result<void> QueueSet::write_run(Iova at, std::span<const Completion> run) {
  {
    const DmaLog::WriteSection section(dma_->log());  // the host may see an entry before its pin is gone
    auto pin = dma_->pin(at, run.size_bytes(), DmaAccess::Write);
    if (pin && reinterpret_cast<std::uintptr_t>(pin->bytes().data()) % sizeof(std::uint32_t) == 0) {
      std::byte* out = pin->bytes().data();
      for (const Completion& completion : run) {
        std::memcpy(out, &completion, kEntryPhaseWord);
        const std::uint32_t word = std::uint32_t{completion.status} << 16 | completion.cid;
        std::atomic_ref(*reinterpret_cast<std::uint32_t*>(out + kEntryPhaseWord))
            .store(word, std::memory_order_release);
        out += sizeof(Completion);
      }
      return {};
    }
    if (!pin && pin.error().code != ENOTSUP) return std::unexpected(std::move(pin.error()));
  }
  const auto bytes = std::as_bytes(run);
  for (std::size_t offset = 0; offset < bytes.size(); offset += sizeof(Completion)) {
    const auto entry = bytes.subspan(offset, sizeof(Completion));
    if (auto written = dma_->write(at + offset, entry.first(kEntryPhaseWord)); !written) return written;
    if (auto written = dma_->write(at + (offset + kEntryPhaseWord), entry.subspan(kEntryPhaseWord)); !written) {
      return written;
    }
  }
  return {};
}

bool QueueSet::take_head(CompletionQueue& queue, std::uint32_t head) {
  if (head >= queue.size) return false;
  const std::uint32_t taken = head >= queue.head ? head - queue.head : head + queue.size - queue.head;
  if (taken > queue.used()) return false;
  queue.head = head;
  return true;
}

bool QueueSet::take_tail(SubmissionQueue& queue, std::uint32_t tail) {
  if (tail >= queue.size) return false;
  queue.tail = tail;
  return true;
}

std::uint32_t QueueSet::waiting_vectors() const {
  std::uint32_t vectors = 0;
  for (const auto& queue : cqs_) {
    if (queue && queue->interrupts && queue->used() != 0) vectors |= 1U << queue->vector;
  }
  return vectors;
}

}  // namespace gangway::nvme
