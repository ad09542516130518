#include "devices/nvme/core.h"

#include <algorithm>
#include <utility>

#include "base/log.h"

namespace gangway::nvme {

Core::Core(ControllerState& state, Backend& backend)
    : state_(state),
      backend_(backend),
      admin_(state),
      io_(state.namespaces, backend, state.memory, state.features, state.logs) {}

bool Core::poll() {
  bool progress = std::exchange(took_, false);
  progress |= take_configuration();
  if (expects_doorbells()) {
    progress |= take_doorbells();
    progress |= fetch();
    if (progress) backend_.submit();
  }
  progress |= collect();
  if (progress && expects_doorbells()) {
    deliver_events();
    flush();
  }
  return progress;
}

bool Core::arm() {
  if (running_ && noted_.load(std::memory_order_seq_cst) != 0) return true;
  if (!expects_doorbells()) return false;
  if (state_.shadows.enabled()) {
    DmaSpace& dma = state_.memory.dma();
    const bool by_pin = state_.lines.by_pin();
    for (std::uint16_t id = 1; id <= state_.io_queue_pairs; ++id) {
      Result<void> asked;
      if (const SubmissionQueue* sq = state_.queues.sq(id)) asked = state_.shadows.ask(dma, sq_tail_word(id), sq->tail);
      const CompletionQueue* cq = state_.queues.cq(id);
      // That entries were taken is worth a ring where it lowers the pin or makes room for commands that wait.
      const bool awaits_head = cq != nullptr && cq->used() != 0 && (by_pin || cq->free_slots() == 0);
      if (asked && awaits_head) asked = state_.shadows.ask(dma, cq_head_word(id), cq->head);
      if (!asked) {
        fail(asked.error());
        return false;
      }
    }
  }
  took_ = take_doorbells();
  return took_;
}

std::size_t Core::outstanding() const {
  std::size_t count = io_.in_flight();
  for (std::uint16_t id = 1; id <= state_.io_queue_pairs; ++id) {
    if (const CompletionQueue* cq = state_.queues.cq(id)) count += cq->used();
  }
  return count;
}

// --- doorbells ---

bool Core::take_doorbells() {
  const std::size_t count = state_.doorbell_words();
  const auto words = std::span(words_).first(count);
  for (std::size_t word = 0; word < count; ++word) words[word] = state_.doorbells.load(word);

  bool moved = false;
  if (!state_.shadows.enabled()) {
    moved = take_words(words, 0, true);
  } else {
    const auto shadow = state_.shadows.load(state_.memory.dma(), count / 2);
    if (!shadow) {
      fail(shadow.error());
      return true;
    }
    moved = take_words(words.first(2), 0, true);
    moved |= take_words(shadow->subspan(2), 1, false);
  }
  if (stray_doorbell_.load(std::memory_order_relaxed) && stray_doorbell_.exchange(false)) {
    moved |= report_doorbell(kEventInvalidDoorbellRegister);
  }
  return moved;
}

// A refused value is taken out of its register, so that it is reported once. A shadow doorbell is the host's: it is
// reported while it stays wrong, which AsyncEvents makes one event.
bool Core::take_words(std::span<const std::uint32_t> words, std::uint16_t first_queue, bool registers) {
  bool moved = false;
  bool heads_moved = false;
  for (std::size_t index = 0; index < words.size(); ++index) {
    const auto id = static_cast<std::uint16_t>(first_queue + (index / 2));
    const bool is_head = index % 2 != 0;
    const std::uint32_t value = words[index];
    SubmissionQueue* sq = is_head ? nullptr : state_.queues.sq(id);
    CompletionQueue* cq = is_head ? state_.queues.cq(id) : nullptr;
    const std::uint32_t known = sq != nullptr ? sq->tail : cq != nullptr ? cq->head : 0;
    if (value == known) continue;

    const bool exists = sq != nullptr || cq != nullptr;
    const bool taken =
        exists && (sq != nullptr ? QueueSet::take_tail(*sq, value) : state_.queues.take_head(*cq, value));
    moved |= taken;
    heads_moved |= taken && is_head;
    if (taken) continue;
    if (registers) {
      state_.doorbells.replace((std::size_t{id} * 2) + (is_head ? 1 : 0), value, known);
    } else if (!exists) {
      continue;  // memory of the host that means nothing
    }
    moved |= report_doorbell(exists ? kEventInvalidDoorbellValue : kEventInvalidDoorbellRegister);
  }
  if (heads_moved) state_.lines.update(state_.queues.waiting_vectors());
  return moved;
}

bool Core::report_doorbell(std::uint8_t information) {
  const AsyncEvent event{.type = EventType::Error, .information = information, .log_page = kLogError};
  if (!state_.events.report(event)) return false;
  state_.logs.add_error({.sqid = 0xffff, .cid = 0xffff, .parameter_location = 0xffff});
  return true;
}

// --- commands ---

// Round robin: every queue gets its turn before any gets a second.
bool Core::fetch() {
  bool progress = false;
  for (std::uint16_t id = 0; id <= state_.io_queue_pairs; ++id) {
    SubmissionQueue* queue = state_.queues.sq(id);
    if (queue == nullptr || queue->waiting() == 0 || queue->deletion_cid) continue;
    const auto commands = state_.queues.fetch(*queue, io_.free_tasks());
    if (!commands) {
      fail(commands.error());
      return true;
    }
    for (const Command& command : *commands) execute(*queue, command);
    progress |= !commands->empty();
  }
  return progress;
}

void Core::execute(SubmissionQueue& queue, const Command& command) {
  const auto outcome = queue.id == 0 ? admin_.execute(command) : io_.start(queue.id, command);
  if (outcome) complete(queue.id, command, *outcome);
}

bool Core::collect() {
  bool progress = false;
  for (;;) {
    const std::size_t count = backend_.collect(finished_);
    bool continued = false;
    for (ImageRequest* request : std::span(finished_).first(count)) {
      const auto finished = io_.finish(*request);
      continued |= !finished;
      if (!finished) continue;
      if (finished->task->sq_id == kNoQueue) {
        finish_shutdown(*finished->task);
      } else {
        complete(finished->task->sq_id, finished->task->command, finished->outcome);
      }
      io_.release(*finished->task);
    }
    if (continued) backend_.submit();
    progress |= count != 0;
    if (count < finished_.size()) break;
  }
  if (phase_ == Phase::Disabling && io_.in_flight() == 0) finish_disable();
  return progress;
}

void Core::complete(std::uint16_t sq_id, const Command& command, Outcome outcome) {
  SubmissionQueue* queue = state_.queues.sq(sq_id);
  if (phase_ != Phase::Enabled || queue == nullptr) return;
  if (is_logged(outcome.status)) log_error(sq_id, command, outcome.status);
  state_.queues.complete(*queue, command.cid, outcome);
  if (queue->deletion_cid && queue->in_flight == 0) finish_deletion(*queue);
}

void Core::finish_deletion(const SubmissionQueue& queue) {
  const std::uint16_t id = queue.id;
  const std::uint16_t cid = *queue.deletion_cid;
  state_.queues.remove_sq(id);
  state_.doorbells.store(sq_tail_word(id), 0);
  state_.queues.complete(*state_.queues.sq(0), cid, {Status::Success});
}

void Core::log_error(std::uint16_t sq_id, const Command& command, Status status) {
  const bool has_blocks = sq_id != 0;
  state_.logs.add_error({.sqid = sq_id,
                         .cid = command.cid,
                         .status = static_cast<std::uint16_t>(
                             status_field(status) << 1 | (state_.queues.phase_of(*state_.queues.sq(sq_id)) ? 1 : 0)),
                         .parameter_location = 0xffff,
                         .lba = has_blocks ? std::uint64_t{command.cdw11} << 32 | command.cdw10 : 0,
                         .nsid = command.nsid});
}

void Core::deliver_events() {
  while (const auto delivery = state_.events.next()) {
    if (!state_.queues.complete_released(delivery->cid, {Status::Success, delivery->event.result()})) return;
    state_.events.take(*delivery);
  }
}

void Core::flush() {
  if (auto flushed = state_.queues.flush(); !flushed) fail(flushed.error());
}

// The queues cannot be reached any more: the host is told, and has to reset the controller (CSTS.CFS).
void Core::fail(const Error& error) {
  // A reset takes the memory away from what is under way, and then clears the status.
  if (error.code != ECANCELED)
    log::error("nvme {}: controller fatal status: {}", state_.identity.serial, error.message);
  state_.registers.set_status(kCstsFatal, kCstsFatal);
}

}  // namespace gangway::nvme
