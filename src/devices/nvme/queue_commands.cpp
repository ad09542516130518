// The admin commands that create and delete queues.
// Source: NVM Express 1.4, 5.3 to 5.6.
#include "devices/nvme/admin_commands.h"

namespace gangway::nvme {
namespace {

constexpr std::uint32_t kSqEntryShift = 6;
constexpr std::uint32_t kCqEntryShift = 4;

std::uint16_t queue_id(const Command& command) { return static_cast<std::uint16_t>(command.cdw10 & 0xffffU); }
std::uint32_t queue_size(const Command& command) { return (command.cdw10 >> 16) + 1; }
bool contiguous(const Command& command) { return (command.cdw11 & 1U) != 0; }

}  // namespace

// What both kinds of queue have in common; the identifier comes first.
Status AdminCommands::check_queue(const Command& command) const {
  const std::uint32_t size = queue_size(command);
  if (size < 2 || size > kMaxQueueEntries) return Status::InvalidQueueSize;
  if (!contiguous(command)) return Status::InvalidField;
  if (command.prp1 % state_.memory.page_size() != 0) return Status::InvalidPrpOffset;
  return Status::Success;
}

Outcome AdminCommands::create_completion_queue(const Command& command) {
  const std::uint16_t id = queue_id(command);
  const auto vector = static_cast<std::uint16_t>(command.cdw11 >> 16);
  if (id == 0 || id > state_.features.allowed_cqs() || state_.queues.cq(id) != nullptr) return {Status::InvalidQueueId};
  if (const Status status = check_queue(command); status != Status::Success) return {status};
  if (vector >= kVectors) return {Status::InvalidInterruptVector};
  if (state_.registers.configuration().cq_entry_shift() != kCqEntryShift) return {Status::InvalidField};
  state_.doorbells.store(cq_head_word(id), 0);
  state_.queues.add(CompletionQueue{.id = id,
                                    .base = {command.prp1},
                                    .size = queue_size(command),
                                    .vector = vector,
                                    .interrupts = (command.cdw11 & 2U) != 0});
  return {Status::Success};
}

Outcome AdminCommands::create_submission_queue(const Command& command) {
  const std::uint16_t id = queue_id(command);
  const auto cq_id = static_cast<std::uint16_t>(command.cdw11 >> 16);
  if (cq_id == 0 || cq_id > state_.features.allowed_cqs() || state_.queues.cq(cq_id) == nullptr) {
    return {cq_id == 0 || cq_id > state_.features.allowed_cqs() ? Status::InvalidQueueId
                                                                : Status::CompletionQueueInvalid};
  }
  if (id == 0 || id > state_.features.allowed_sqs() || state_.queues.sq(id) != nullptr) return {Status::InvalidQueueId};
  if (const Status status = check_queue(command); status != Status::Success) return {status};
  if (state_.registers.configuration().sq_entry_shift() != kSqEntryShift) return {Status::InvalidField};
  state_.doorbells.store(sq_tail_word(id), 0);
  state_.queues.add(SubmissionQueue{.id = id,
                                    .cq_id = cq_id,
                                    .base = {command.prp1},
                                    .size = queue_size(command),
                                    .priority = static_cast<std::uint8_t>(command.cdw11 >> 1 & 3U)});
  return {Status::Success};
}

Outcome AdminCommands::delete_completion_queue(const Command& command) {
  const std::uint16_t id = queue_id(command);
  if (id == 0 || state_.queues.cq(id) == nullptr) return {Status::InvalidQueueId};
  if (state_.queues.cq_in_use(id)) return {Status::InvalidQueueDeletion};
  state_.queues.remove_cq(id);
  state_.doorbells.store(cq_head_word(id), 0);
  state_.lines.update(state_.queues.waiting_vectors());
  return {Status::Success};
}

// What was fetched completes first; what was not is dropped with the queue (5.6).
std::optional<Outcome> AdminCommands::delete_submission_queue(const Command& command) {
  const std::uint16_t id = queue_id(command);
  SubmissionQueue* queue = id == 0 ? nullptr : state_.queues.sq(id);
  if (queue == nullptr || queue->deletion_cid) return Outcome{Status::InvalidQueueId};
  if (queue->in_flight != 0) {
    queue->deletion_cid = command.cid;
    return std::nullopt;
  }
  state_.queues.remove_sq(id);
  state_.doorbells.store(sq_tail_word(id), 0);
  return Outcome{Status::Success};
}

}  // namespace gangway::nvme
