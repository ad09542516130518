// The queue pairs: what lies in the host's memory, fetched from and posted to.
//
// A command is fetched only when its completion has a slot reserved, so completions never wait for the host and nothing
// but unfetched entries is left when the controller stops. Completions are gathered and written in runs, each entry's
// phase last, and then announced by one interrupt a vector.
// Source: NVM Express 1.4, 4.1 (queues), 4.6 (completion queue entry).
//
// Thread-safety: the I/O thread's own.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include <gangway/dma.h>
#include <gangway/error.h>
#include <gangway/types.h>

#include "devices/nvme/interrupt_lines.h"
#include "devices/nvme/spec.h"
#include "devices/nvme/status.h"

namespace gangway::nvme {

inline constexpr std::uint16_t kMaxIoQueues = 16;
inline constexpr std::uint16_t kMaxQueues = kMaxIoQueues + 1;  // and the admin queue, number 0
inline constexpr std::uint16_t kVectors = kMaxQueues;

struct SubmissionQueue {
  std::uint16_t id = 0;
  std::uint16_t cq_id = 0;
  Iova base;
  std::uint32_t size = 0;  // entries
  std::uint32_t head = 0;
  std::uint32_t tail = 0;
  std::uint8_t priority = 0;
  std::uint32_t in_flight = 0;                  // fetched, not completed
  std::optional<std::uint16_t> deletion_cid{};  // the admin command that waits for in_flight to reach 0

  [[nodiscard]] std::uint32_t waiting() const { return tail >= head ? tail - head : tail + size - head; }
};

struct CompletionQueue {
  std::uint16_t id = 0;
  Iova base;
  std::uint32_t size = 0;
  std::uint32_t head = 0;  // the host's
  std::uint32_t tail = 0;  // ours, including what is gathered
  bool phase = true;       // of the entry at tail
  std::uint16_t vector = 0;
  bool interrupts = false;
  std::uint32_t reserved = 0;          // slots for commands in flight
  std::vector<Completion> gathered{};  // the last entries before tail, not written yet

  [[nodiscard]] std::uint32_t used() const { return tail >= head ? tail - head : tail + size - head; }
  [[nodiscard]] std::uint32_t free_slots() const {
    const std::uint32_t taken = used() + reserved;
    return taken + 1 < size ? size - 1 - taken : 0;
  }
};

class QueueSet {
 public:
  QueueSet(InterruptLines& lines) : lines_(lines) {}
  void attach(DmaSpace& dma) { dma_ = &dma; }

  // nullptr: no such queue.
  [[nodiscard]] SubmissionQueue* sq(std::uint32_t id) { return find(sqs_, id); }
  [[nodiscard]] const SubmissionQueue* sq(std::uint32_t id) const { return find(sqs_, id); }
  [[nodiscard]] CompletionQueue* cq(std::uint32_t id) { return find(cqs_, id); }
  [[nodiscard]] const CompletionQueue* cq(std::uint32_t id) const { return find(cqs_, id); }
  [[nodiscard]] bool has_io_queues() const;
  [[nodiscard]] bool cq_in_use(std::uint16_t id) const;

  void add(SubmissionQueue queue);
  void add(CompletionQueue queue);
  void remove_sq(std::uint16_t id) { sqs_.at(id).reset(); }
  void remove_cq(std::uint16_t id) { cqs_.at(id).reset(); }
  void clear();

  // Up to `limit` next commands of a queue, as many as have a completion slot; moves the head. The span is valid until
  // the next fetch. Fails when the queue's memory cannot be read.
  Result<std::span<const Command>> fetch(SubmissionQueue& queue, std::size_t limit);

  // The completion of a fetched command.
  void complete(SubmissionQueue& queue, std::uint16_t cid, Outcome outcome);
  // The command's slot is given back and no completion is sent, as yet (an event request) or at all.
  void release(SubmissionQueue& queue);
  // Completes a released command of the admin queue. False while its queue is full.
  bool complete_released(std::uint16_t cid, Outcome outcome);

  // The phase bit a completion of the admin queue would bear now; the error log quotes it.
  [[nodiscard]] bool phase_of(const SubmissionQueue& queue) const;

  // Writes what was gathered to the host and interrupts. Fails when a queue's memory cannot be written.
  Result<void> flush();

  // The host moved a head. False for a value that is no entry or lies beyond what was posted.
  bool take_head(CompletionQueue& queue, std::uint32_t head);
  // The host moved a tail. False for a value that is no entry.
  static bool take_tail(SubmissionQueue& queue, std::uint32_t tail);

  // A bit for each vector whose queues hold entries that the host has not taken.
  [[nodiscard]] std::uint32_t waiting_vectors() const;

 private:
  template <class Queues>
  static auto find(Queues& queues, std::uint32_t id) -> decltype(&*queues[0]) {
    return id < queues.size() && queues[id] ? &*queues[id] : nullptr;
  }
  void gather(CompletionQueue& queue, Completion completion);
  Result<void> write_gathered(CompletionQueue& queue);
  Result<void> write_run(Iova at, std::span<const Completion> run);

  static constexpr std::size_t kFetchMax = 32;

  InterruptLines& lines_;
  DmaSpace* dma_ = nullptr;
  std::array<std::optional<SubmissionQueue>, kMaxQueues> sqs_{};
  std::array<std::optional<CompletionQueue>, kMaxQueues> cqs_{};
  std::array<Command, kFetchMax> fetched_{};
  std::uint32_t unwritten_ = 0;  // a bit for each completion queue that gathered something
};

}  // namespace gangway::nvme
