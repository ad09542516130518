#include "guest/disk_workload.h"

#include <algorithm>
#include <cstring>
#include <set>

#include <fmt/format.h>

namespace gangway::guest {
namespace {

constexpr std::chrono::seconds kCommandLimit{30};
constexpr std::chrono::milliseconds kLongestStep{100};
// Writes of a block that failed, or overlapped one read. More than any disk makes of them, and few enough to try all.
constexpr std::uint32_t kMostGenerations = 1U << 16;

}  // namespace

DiskWorkload::DiskWorkload(std::string name, const ProgramConfig& config, std::uint32_t number, GuestMemory& memory,
                           const DiskLayout& layout, NvmeDriver& driver, Findings& findings)
    : name_(std::move(name)),
      config_(config),
      disk_(config.disks[number]),
      number_(number),
      memory_(memory),
      layout_(layout),
      driver_(driver),
      findings_(findings),
      state_(memory.object<DiskState>(layout.state)),
      table_(memory.objects<BlockState>(layout.table, disk_.blocks)) {
  for (const QueueLayout& queue : layout.queues) {
    queues_.push_back({.slots = memory.objects<Slot>(queue.slots, config.depth),
                       .buffers = memory.at(queue.buffers, std::uint64_t{config.depth} * config.block_size),
                       .buffers_at = queue.buffers,
                       .prps_at = queue.prps});
  }
}

Result<void> DiskWorkload::start() {
  if (auto fits = check_disk_size(); !fits) return fits;
  *state_ = DiskState{.random = config_.seed ^ (std::uint64_t{number_} << 56), .until_flush = config_.flush_interval};
  memory_.note_write(*state_);
  for (const Queue& queue : queues_) {
    std::ranges::fill(queue.slots, Slot{});
    memory_.note_write(queue.slots.data(), queue.slots.size_bytes());
  }
  std::ranges::fill(table_, BlockState{});
  memory_.note_write(table_.data(), table_.size_bytes());
  write_prp_lists();
  return {};
}

Result<void> DiskWorkload::attach() {
  if (auto fits = check_disk_size(); !fits) return fits;
  if (state_->magic != DiskState::kMagic) return fail(EBADMSG, fmt::format("{}: the memory holds no workload", name_));
  if (state_->until_flush > config_.flush_interval) {
    return fail(EBADMSG, fmt::format("{}: {} commands until the next flush, which comes every {}", name_,
                                     state_->until_flush, config_.flush_interval));
  }
  if (auto checked = check_table(); !checked) return checked;
  return check_slots();
}

// A block's generations alone. A page of the table that was lost or made up would have the workload wait for a write
// that nobody makes, or look for a block's content among all generations there are.
Result<void> DiskWorkload::check_table() const {
  for (std::size_t number = 0; number < table_.size(); ++number) {
    const BlockState& block = table_[number];
    const bool in_order = block.acknowledged <= block.issued && block.issued - block.acknowledged <= kMostGenerations;
    const bool a_write_is_ahead = block.writing == 0 || (block.writing == 1 && block.acknowledged < block.issued);
    if (in_order && a_write_is_ahead) continue;
    return fail(EBADMSG,
                fmt::format("{}: the table of blocks: block {} has generation {} acknowledged, {} issued and {} "
                            "writes in flight",
                            name_, number, block.acknowledged, block.issued, block.writing));
  }
  return {};
}

// The commands in flight, and the table by them.
Result<void> DiskWorkload::check_slots() const {
  std::set<std::uint64_t> written;
  for (std::size_t number = 0; number < queues_.size(); ++number) {
    std::uint64_t in_flight = 0;
    for (const Slot& slot : queues_[number].slots) {
      if (slot.use == SlotUse::Free) continue;
      ++in_flight;
      if (slot.use > SlotUse::Flush || slot.block >= table_.size()) {
        return fail(EBADMSG,
                    fmt::format("{}: a command in flight names block {} of {}", name_, slot.block, table_.size()));
      }
      const BlockState& block = table_[slot.block];
      const bool reads = slot.generation != 0 && slot.generation <= block.acknowledged &&
                         block.issued - slot.generation <= kMostGenerations;
      const bool writes = slot.generation == block.issued && block.writing == 1;
      const bool right = slot.use == SlotUse::Flush || (slot.use == SlotUse::Read && reads) ||
                         (slot.use == SlotUse::Write && writes && written.insert(slot.block).second);
      if (!right) {
        return fail(EBADMSG, fmt::format("{}: a {} of block {} in flight has generation {}; the table of blocks has {} "
                                         "acknowledged, {} issued",
                                         name_, slot.use == SlotUse::Read ? "read" : "write", slot.block,
                                         slot.generation, block.acknowledged, block.issued));
      }
    }
    if (in_flight != state_->in_flight[number]) {
      return fail(EBADMSG, fmt::format("{}: queue {}: {} commands are in flight and {} are counted", name_, number,
                                       in_flight, state_->in_flight[number]));
    }
  }
  const auto waited_for = std::ranges::count_if(table_, [](const BlockState& block) { return block.writing != 0; });
  if (static_cast<std::size_t>(waited_for) != written.size()) {
    return fail(EBADMSG, fmt::format("{}: the table of blocks has {} writes in flight, the queues have {}", name_,
                                     waited_for, written.size()));
  }
  return {};
}

Result<void> DiskWorkload::check_disk_size() const {
  const Extent& last = disk_.extents[disk_.extent_count - 1];
  const std::uint64_t size = driver_.disk_size();
  if (last.offset + last.size <= size) return {};
  return fail(EINVAL, fmt::format("{}: the stretch of {:#x} bytes at {:#x} crosses the end (size {:#x})", name_,
                                  last.size, last.offset, size));
}

// Buffers never move, so neither do the lists: page 1 and on of the slot's buffer.
void DiskWorkload::write_prp_lists() {
  const std::uint64_t pages = config_.block_size / kPageSize;
  for (const Queue& queue : queues_) {
    for (std::uint64_t id = 0; id < config_.depth; ++id) {
      const auto list = memory_.objects<std::uint64_t>(queue.prps_at + id * kPrpListSize, pages - 1);
      for (std::uint64_t page = 1; page < pages; ++page) {
        list[page - 1] = queue.buffers_at.value + id * config_.block_size + page * kPageSize;
      }
      memory_.note_write(list.data(), list.size_bytes());
    }
  }
}

CpuProgram::Step DiskWorkload::step() {
  if (failed_) return Step::Finished;
  bool worked = false;
  for (std::uint32_t queue = 0; queue < queues_.size() && !failed_; ++queue) {
    worked |= complete_some(queue);
    if (!failed_) worked |= fill(queue);
  }
  watch_for_stall(worked);
  memory_.note_write(*state_);
  if (failed_) return Step::Finished;
  if (worked) return Step::Worked;
  const bool done = verifying_.load() && idle() && verify_cursor_ == table_.size();
  return done ? Step::Finished : Step::Idle;
}

// A gap between two steps counts for a little only: the machine may have been paused.
void DiskWorkload::watch_for_stall(bool worked) {
  const auto now = std::chrono::steady_clock::now();
  const auto gap = std::min<std::chrono::steady_clock::duration>(now - last_step_, kLongestStep);
  last_step_ = now;
  without_answer_ = worked || idle() ? std::chrono::steady_clock::duration{0} : without_answer_ + gap;
  if (without_answer_ > kCommandLimit) {
    stop_for({.code = ETIMEDOUT, .message = "commands are in flight and none completes", .clause = {}});
  }
}

bool DiskWorkload::idle() const {
  return std::ranges::all_of(state_->in_flight, [](std::uint32_t commands) { return commands == 0; });
}

bool DiskWorkload::complete_some(std::uint32_t queue) {
  // Bounded, so that a controller that posts without end cannot keep the CPU in here.
  std::uint32_t completed = 0;
  while (completed < config_.depth) {
    const auto completion = driver_.poll(queue);
    if (!completion) break;
    complete(queue, *completion);
    ++completed;
  }
  if (completed == 0) return false;
  if (auto rung = driver_.ring_completion(queue); !rung) stop_for(rung.error());
  return true;
}

void DiskWorkload::complete(std::uint32_t queue, const nvme::Completion& completion) {
  const std::uint16_t id = completion.id();
  if (id >= config_.depth || queues_[queue].slots[id].use == SlotUse::Free) {
    count(state_->counters.errors);
    return findings_.bad(
        fmt::format("{}: queue {}: a completion of command {}, which is not in flight", name_, queue, id));
  }
  Slot& entry = queues_[queue].slots[id];
  const Slot slot = entry;
  entry = Slot{};
  memory_.note_write(entry);
  if (state_->in_flight[queue] > 0) --state_->in_flight[queue];
  const bool succeeded = completion.status() == 0;
  if (!succeeded) {
    count(state_->counters.errors);
    findings_.bad(
        fmt::format("{}: a command on block {} failed with status {:#x}", name_, slot.block, completion.status()));
  }
  if (slot.block >= table_.size()) return;
  if (slot.use == SlotUse::Write) complete_write(slot, succeeded);
  if (slot.use == SlotUse::Read && succeeded) complete_read(queue, id, slot);
  if (slot.use == SlotUse::Flush && succeeded) count(state_->counters.flushes);
}

void DiskWorkload::complete_write(const Slot& slot, bool succeeded) {
  BlockState& block = table_[slot.block];
  block.writing = 0;
  if (succeeded) {
    block.acknowledged = slot.generation;
    count(state_->counters.writes);
  }
  memory_.note_write(block);
}

void DiskWorkload::complete_read(std::uint32_t queue, std::uint16_t id, const Slot& slot) {
  count(state_->counters.reads);
  const bool right = verify(buffer(queue, id), slot, table_[slot.block]);
  count(right ? state_->counters.verified : state_->counters.bad);
}

// The block held the generation acknowledged when the read began, or one issued since.
bool DiskWorkload::verify(std::span<const std::byte> bytes, const Slot& slot, const BlockState& block) {
  const std::uint64_t address = block_address(disk_, config_.block_size, slot.block);
  for (std::uint64_t offset = 0; offset < bytes.size(); offset += kUnitSize) {
    const ConstUnit unit(bytes.subspan(offset, kUnitSize));
    const Stamp expected = stamp_of(address + offset, slot.generation);
    if (has_stamp(unit, expected)) continue;
    // A write that went on meanwhile may have been seen in part.
    const bool overlapped = block.issued > slot.generation;
    if (overlapped && mixes_generations(unit, expected, slot.generation, block.issued)) continue;
    findings_.bad(fmt::format("{}: block {} at {:#x}: expected generation {}{}, found {}", name_, slot.block,
                              address + offset, slot.generation, overlapped ? fmt::format(" to {}", block.issued) : "",
                              describe_unit(unit)));
    return false;
  }
  return true;
}

bool DiskWorkload::fill(std::uint32_t queue) {
  bool issued = false;
  for (std::uint16_t id = 0; id < config_.depth && state_->in_flight[queue] < config_.depth; ++id) {
    if (queues_[queue].slots[id].use != SlotUse::Free) continue;
    if (!issue_next(queue, id)) break;
    issued = true;
  }
  if (!issued) return false;
  if (auto rung = driver_.ring_submission(queue); !rung) stop_for(rung.error());
  return true;
}

bool DiskWorkload::issue_next(std::uint32_t queue, std::uint16_t id) {
  if (!verifying_.load(std::memory_order_relaxed)) return issue_random(queue, id);
  while (verify_cursor_ < table_.size()) {
    // A write still in flight must end first, or the last word on its block would not be read.
    if (table_[verify_cursor_].writing != 0) return false;
    const std::uint64_t block = verify_cursor_++;
    if (table_[block].acknowledged == 0) continue;
    issue_read(queue, id, block);
    return true;
  }
  return false;
}

bool DiskWorkload::issue_random(std::uint32_t queue, std::uint16_t id) {
  if (config_.flush_interval != 0 && state_->until_flush-- == 0) {
    state_->until_flush = config_.flush_interval;
    issue_flush(queue, id);
    return true;
  }
  const std::uint64_t block = next_random(state_->random) % table_.size();
  const bool write = next_random(state_->random) % 100 < config_.write_percent;
  const BlockState& held = table_[block];
  // What a block holds that was never written is not known.
  if (!write && held.acknowledged != 0) {
    issue_read(queue, id, block);
    return true;
  }
  if (held.writing != 0 || held.issued == ~0U) return false;
  issue_write(queue, id, block);
  return true;
}

void DiskWorkload::issue_read(std::uint32_t queue, std::uint16_t id, std::uint64_t block) {
  issue(queue, id, {.use = SlotUse::Read, .generation = table_[block].acknowledged, .block = block},
        nvme::IoOpcode::Read, 0);
}

void DiskWorkload::issue_write(std::uint32_t queue, std::uint16_t id, std::uint64_t block) {
  BlockState& held = table_[block];
  held.writing = 1;
  ++held.issued;
  memory_.note_write(held);
  const auto bytes = buffer(queue, id);
  const std::uint64_t address = block_address(disk_, config_.block_size, block);
  for (std::uint64_t offset = 0; offset < bytes.size(); offset += kUnitSize) {
    write_stamp(Unit(bytes.subspan(offset, kUnitSize)), stamp_of(address + offset, held.issued));
  }
  memory_.note_write(bytes.data(), bytes.size());
  const bool through = next_random(state_->random) % 32 == 0;
  issue(queue, id, {.use = SlotUse::Write, .generation = held.issued, .block = block}, nvme::IoOpcode::Write,
        through ? nvme::kForceUnitAccess : 0);
}

void DiskWorkload::issue_flush(std::uint32_t queue, std::uint16_t id) {
  issue(queue, id, {.use = SlotUse::Flush}, nvme::IoOpcode::Flush, 0);
}

void DiskWorkload::issue(std::uint32_t queue, std::uint16_t id, const Slot& slot, nvme::IoOpcode opcode,
                         std::uint32_t flags) {
  nvme::Command command{.opcode = static_cast<std::uint8_t>(opcode), .id = id, .namespace_id = 1};
  if (slot.use != SlotUse::Flush) {
    const std::uint64_t first = block_address(disk_, config_.block_size, slot.block) >> driver_.block_shift();
    const std::uint64_t pages = config_.block_size / kPageSize;
    command.prp1 = queues_[queue].buffers_at.value + std::uint64_t{id} * config_.block_size;
    if (pages == 2) command.prp2 = command.prp1 + kPageSize;
    if (pages > 2) command.prp2 = queues_[queue].prps_at.value + id * kPrpListSize;
    command.dword10 = static_cast<std::uint32_t>(first);
    command.dword11 = static_cast<std::uint32_t>(first >> 32);
    command.dword12 = flags | ((config_.block_size >> driver_.block_shift()) - 1);
  }
  queues_[queue].slots[id] = slot;
  memory_.note_write(queues_[queue].slots[id]);
  ++state_->in_flight[queue];
  driver_.submit(queue, command);
}

std::span<std::byte> DiskWorkload::buffer(std::uint32_t queue, std::uint16_t id) const {
  return queues_[queue].buffers.subspan(std::size_t{id} * config_.block_size, config_.block_size);
}

Stamp DiskWorkload::stamp_of(std::uint64_t address, std::uint32_t generation) const {
  return {.seed = config_.seed, .owner = number_, .address = address, .generation = generation};
}

void DiskWorkload::stop_for(const Error& error) {
  failed_ = true;
  findings_.failed(fmt::format("{}: {}", name_, error.message));
}

DiskCounters DiskWorkload::counters() const {
  const DiskCounters& live = state_->counters;
  return {.reads = value_of(live.reads),
          .writes = value_of(live.writes),
          .flushes = value_of(live.flushes),
          .verified = value_of(live.verified),
          .bad = value_of(live.bad),
          .errors = value_of(live.errors)};
}

}  // namespace gangway::guest
