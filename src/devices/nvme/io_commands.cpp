#include "devices/nvme/io_commands.h"

#include <algorithm>
#include <cstring>

#include "devices/nvme/identify.h"

namespace gangway::nvme {
namespace {

constexpr std::size_t kBounceKept = 64 * 1024;  // a task keeps a buffer up to this size for the next command

[[nodiscard]] std::uint64_t start_block(const Command& command) {
  return std::uint64_t{command.cdw11} << 32 | command.cdw10;
}
[[nodiscard]] std::uint32_t block_count(const Command& command) { return (command.cdw12 & 0xffffU) + 1; }
[[nodiscard]] std::uint64_t byte_count(const Command& command, const Namespace& space) {
  return std::uint64_t{block_count(command)} << space.block_shift();
}

// What a forced read returns is on stable storage when it completes (NVMe 1.4, 6.6 and 6.9). The image is read first
// and flushed then: what another command writes meanwhile is committed too, so the host never has what could still be
// lost.
[[nodiscard]] bool forced(const Command& command) { return (command.cdw12 & kRwForceUnitAccess) != 0; }

[[nodiscard]] bool writes_image(IoOpcode opcode) {
  return opcode == IoOpcode::Write || opcode == IoOpcode::WriteZeroes || opcode == IoOpcode::DatasetManagement;
}

[[nodiscard]] bool known(IoOpcode opcode) {
  return opcode == IoOpcode::Flush || opcode == IoOpcode::Read || opcode == IoOpcode::Compare || writes_image(opcode);
}

// What an errno of the image means to the host.
Status status_of(int error, IoOpcode opcode) {
  switch (error) {
    case 0:
      return Status::Success;
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
      return Status::CapacityExceeded;
    case EFAULT:  // the host's memory, not the image
      return Status::DataTransferError;
    case ECANCELED:
      return Status::AbortRequested;
    case ENOMEM:
    case EINVAL:
      return Status::InternalError;
    default:
      return opcode == IoOpcode::Read || opcode == IoOpcode::Compare ? Status::UnrecoveredReadError
                                                                     : Status::WriteFault;
  }
}

}  // namespace

IoCommands::IoCommands(std::span<const Namespace> namespaces, Backend& backend, HostMemory& memory,
                       const Features& features, LogPages& logs)
    : namespaces_(namespaces), backend_(backend), memory_(memory), features_(features), logs_(logs) {
  tasks_.reserve(kMaxRequests);
  free_.reserve(kMaxRequests);
  for (std::size_t count = 0; count < kMaxRequests; ++count) {
    free_.push_back(tasks_.emplace_back(std::make_unique<IoTask>()).get());
  }
}

const Namespace* IoCommands::find(std::uint32_t nsid) const {
  return nsid >= 1 && nsid <= namespaces_.size() ? &namespaces_[nsid - 1] : nullptr;
}

std::optional<Outcome> IoCommands::start(std::uint16_t sq_id, const Command& command) {
  IoTask& task = *free_.back();
  task.sq_id = sq_id;
  task.command = command;
  if (const Status status = prepare(task); status != Status::Success) {
    forget(task);
    return Outcome{status};
  }
  // A transfer is prepared; everything else is what follows.
  if (task.buffers.empty() && !go_on(task)) return Outcome{Status::Success};
  free_.pop_back();
  backend_.start(task);
  return std::nullopt;
}

Status IoCommands::prepare(IoTask& task) {
  const auto opcode = static_cast<IoOpcode>(task.command.opcode);
  task.buffers.clear();
  if (!known(opcode)) return Status::InvalidOpcode;
  if (!plain(task.command)) return Status::InvalidField;
  if (opcode == IoOpcode::Flush) return prepare_flush(task);
  const Namespace* space = find(task.command.nsid);
  if (space == nullptr) return Status::InvalidNamespace;
  if (space->read_only() && writes_image(opcode)) return Status::NamespaceWriteProtected;
  task.file = task.command.nsid - 1;
  switch (opcode) {
    case IoOpcode::Read:
    case IoOpcode::Write:
      return prepare_transfer(task, *space);
    case IoOpcode::Compare:
      return prepare_compare(task, *space);
    case IoOpcode::WriteZeroes:
      return prepare_zeroes(task, *space);
    case IoOpcode::DatasetManagement:
      return prepare_deallocate(task, *space);
    case IoOpcode::Flush:
      break;
  }
  return Status::InvalidOpcode;
}

Status IoCommands::prepare_transfer(IoTask& task, const Namespace& space) {
  const Command& command = task.command;
  const std::uint64_t length = byte_count(command, space);
  if (length > kMaxTransfer) return Status::InvalidField;
  if (!space.contains(start_block(command), block_count(command))) return Status::LbaOutOfRange;
  const auto segments = memory_.segments(command, static_cast<std::uint32_t>(length));
  if (!segments) return segments.error();

  const bool reads = static_cast<IoOpcode>(command.opcode) == IoOpcode::Read;
  const Status status =
      pin_or_bounce(task, *segments, reads ? DmaAccess::Write : DmaAccess::Read, static_cast<std::uint32_t>(length));
  if (status != Status::Success) return status;
  if (reads && forced(command)) task.to_flush.assign(1, task.file);
  const bool durable = forced(command) || !features_.write_cache();
  const auto operation = reads     ? ImageRequest::Operation::Read
                         : durable ? ImageRequest::Operation::WriteDurably
                                   : ImageRequest::Operation::Write;
  task.prepare_transfer(operation, task.file, start_block(command) << space.block_shift(), task.buffers);
  return Status::Success;
}

Status IoCommands::pin_or_bounce(IoTask& task, std::span<const DataSegment> segments, DmaAccess access,
                                 std::uint32_t length) {
  for (const DataSegment& segment : segments) {
    auto pin = memory_.dma().pin(segment.iova, segment.length, access);
    if (!pin) {
      if (pin.error().code != ENOTSUP) return Status::DataTransferError;
      task.pins.clear();
      task.bounce.resize(length);
      task.segments.assign(segments.begin(), segments.end());
      task.buffers.assign(1, {.iov_base = task.bounce.data(), .iov_len = length});
      return access == DmaAccess::Read ? copy_from_host(memory_.dma(), segments, task.bounce) : Status::Success;
    }
    task.buffers.push_back({.iov_base = pin->bytes().data(), .iov_len = segment.length});
    task.pins.push_back(std::move(*pin));
  }
  return Status::Success;
}

// The image is read aside; what the host has is looked at when that is done.
Status IoCommands::prepare_compare(IoTask& task, const Namespace& space) {
  const std::uint64_t length = byte_count(task.command, space);
  if (length > kMaxTransfer) return Status::InvalidField;
  if (!space.contains(start_block(task.command), block_count(task.command))) return Status::LbaOutOfRange;
  const auto segments = memory_.segments(task.command, static_cast<std::uint32_t>(length));
  if (!segments) return segments.error();
  task.segments.assign(segments->begin(), segments->end());
  task.bounce.resize(length);
  task.buffers.assign(1, {.iov_base = task.bounce.data(), .iov_len = length});
  if (forced(task.command)) task.to_flush.assign(1, task.file);
  task.prepare_transfer(ImageRequest::Operation::Read, task.file, start_block(task.command) << space.block_shift(),
                        task.buffers);
  return Status::Success;
}

Status IoCommands::prepare_zeroes(IoTask& task, const Namespace& space) {
  const Command& command = task.command;
  if (!space.contains(start_block(command), block_count(command))) return Status::LbaOutOfRange;
  task.clearing = (command.cdw12 & kWriteZeroesDeallocate) != 0 ? ImageRequest::Operation::Deallocate
                                                                : ImageRequest::Operation::Zero;
  task.to_clear.assign(1,
                       {.offset = start_block(command) << space.block_shift(), .length = byte_count(command, space)});
  if (forced(command) || !features_.write_cache()) task.to_flush.assign(1, task.file);
  return Status::Success;
}

// All ranges are checked before any is deallocated.
Status IoCommands::prepare_deallocate(IoTask& task, const Namespace& space) {
  std::array<DatasetRange, 256> ranges;
  const std::size_t count = (task.command.cdw10 & 0xffU) + 1;
  const auto given = std::span(ranges).first(count);
  if (const Status status = memory_.read(task.command, std::as_writable_bytes(given)); status != Status::Success) {
    return status;
  }
  for (const DatasetRange& range : given) {
    if (!space.contains(range.start, range.blocks)) return Status::LbaOutOfRange;
  }
  if ((task.command.cdw11 & kDatasetDeallocate) == 0) return Status::Success;  // hints, of which we make nothing
  task.clearing = ImageRequest::Operation::Deallocate;
  for (const DatasetRange& range : given) {
    if (range.blocks == 0) continue;
    task.to_clear.push_back(
        {.offset = range.start << space.block_shift(), .length = std::uint64_t{range.blocks} << space.block_shift()});
  }
  if (!task.to_clear.empty() && !features_.write_cache()) task.to_flush.assign(1, task.file);
  return Status::Success;
}

Status IoCommands::prepare_flush(IoTask& task) {
  const std::uint32_t nsid = task.command.nsid;
  if (nsid == kBroadcastNamespace) {
    for (std::uint32_t file = 0; file < namespaces_.size(); ++file) task.to_flush.push_back(file);
    return Status::Success;
  }
  if (find(nsid) == nullptr) return Status::InvalidNamespace;
  task.to_flush.assign(1, nsid - 1);
  return Status::Success;
}

void IoCommands::flush_all() {
  IoTask& task = *free_.back();
  free_.pop_back();
  task.sq_id = kNoQueue;
  task.command = {};
  task.buffers.clear();
  for (std::uint32_t file = 0; file < namespaces_.size(); ++file) task.to_flush.push_back(file);
  go_on(task);
  backend_.start(task);
}

bool IoCommands::go_on(IoTask& task) {
  if (!task.to_clear.empty()) {
    const IoTask::Stretch stretch = task.to_clear.back();
    task.to_clear.pop_back();
    task.prepare_clear(task.clearing, task.file, stretch.offset, stretch.length);
    return true;
  }
  if (!task.to_flush.empty()) {
    task.ImageRequest::prepare_flush(task.to_flush.back());
    task.to_flush.pop_back();
    return true;
  }
  return false;
}

std::optional<IoCommands::Finished> IoCommands::finish(ImageRequest& request) {
  auto& task = static_cast<IoTask&>(request);
  if (task.error() == 0 && go_on(task)) {
    backend_.start(task);
    return std::nullopt;
  }
  const Status status = conclude(task);
  count(task, status);
  return Finished{.task = &task, .outcome = {status}};
}

Status IoCommands::conclude(IoTask& task) {
  const auto opcode = static_cast<IoOpcode>(task.command.opcode);
  const bool flushed = task.step() == ImageRequest::Step::Sync;  // a forced read's flush is no read
  Status status = status_of(task.error(), flushed ? IoOpcode::Flush : opcode);
  if (status == Status::Success && !task.segments.empty()) {
    if (opcode == IoOpcode::Compare) status = compare(task);
    if (opcode == IoOpcode::Read) status = copy_to_host(memory_.dma(), task.segments, task.bounce);
  }
  forget(task);
  return status;
}

void IoCommands::forget(IoTask& task) {
  task.pins.clear();
  task.segments.clear();
  task.to_clear.clear();
  task.to_flush.clear();
  if (task.bounce.size() > kBounceKept) task.bounce = {};
}

Status IoCommands::compare(const IoTask& task) const {
  std::vector<std::byte> host(task.bounce.size());
  if (const Status status = copy_from_host(memory_.dma(), task.segments, host); status != Status::Success) {
    return status;
  }
  return host == task.bounce ? Status::Success : Status::CompareFailure;
}

void IoCommands::count(const IoTask& task, Status status) {
  SmartCounters& counters = logs_.counters();
  const Namespace* space = find(task.command.nsid);
  if (status == Status::UnrecoveredReadError || status == Status::WriteFault) ++counters.media_errors;
  if (status != Status::Success || space == nullptr || task.sq_id == kNoQueue) return;
  switch (static_cast<IoOpcode>(task.command.opcode)) {
    case IoOpcode::Read:
    case IoOpcode::Compare:
      ++counters.reads;
      counters.bytes_read += byte_count(task.command, *space);
      break;
    case IoOpcode::Write:
      ++counters.writes;
      counters.bytes_written += byte_count(task.command, *space);
      break;
    default:
      break;
  }
}

void IoCommands::release(IoTask& task) { free_.push_back(&task); }

void IoCommands::abandon() {
  for (const auto& task : tasks_) {
    task->abandon();
    task->to_clear.clear();
    task->to_flush.clear();
  }
}

}  // namespace gangway::nvme
