#include "guest/memory_workload.h"

#include <algorithm>

#include <fmt/format.h>

#include "guest/stamp.h"

namespace gangway::guest {
namespace {

constexpr std::uint64_t kPagesAStep = 32;  // a step is short, so that a pause is

}  // namespace

MemoryWorkload::MemoryWorkload(const ProgramConfig& config, std::uint32_t number, GuestMemory& memory,
                               const MemoryCpuLayout& layout, Findings& findings)
    : config_(config),
      number_(number),
      memory_(memory),
      findings_(findings),
      pages_at_(layout.pages),
      state_(memory.object<MemoryState>(layout.state)),
      table_(memory.objects<std::uint32_t>(layout.table, config.memory_pages)),
      pages_(memory.at(layout.pages, config.memory_pages * kPageSize)),
      verify_cursor_(config.memory_pages),
      last_time_(std::chrono::steady_clock::now()) {}

void MemoryWorkload::start() {
  *state_ = MemoryState{.random = ~config_.seed ^ (std::uint64_t{number_} << 48)};
  memory_.note_write(*state_);
}

Result<void> MemoryWorkload::attach() {
  if (state_->magic != MemoryState::kMagic || state_->cursor > table_.size()) {
    return fail(EBADMSG, fmt::format("the memory holds no state of the thread {} that writes memory", number_));
  }
  verify_cursor_ = 0;
  return {};
}

CpuProgram::Step MemoryWorkload::step() {
  const bool last = verifying_.load();
  if (last && !last_pass_begun_) {
    last_pass_begun_ = true;
    verify_cursor_ = 0;
  }
  const bool worked = verify_some() || (!last && write_some());
  memory_.note_write(*state_);
  if (worked) return Step::Worked;
  return last ? Step::Finished : Step::Idle;
}

bool MemoryWorkload::verify_some() {
  const std::uint64_t written = std::min<std::uint64_t>(state_->cursor, table_.size());
  if (verify_cursor_ >= written) return false;
  const std::uint64_t end = std::min(written, verify_cursor_ + kPagesAStep);
  while (verify_cursor_ < end) verify_page(verify_cursor_++);
  return true;
}

// First every page once, as fast as it goes, so that there is something to lose; then at random at the set rate.
bool MemoryWorkload::write_some() {
  if (state_->cursor < table_.size()) {
    const std::uint64_t end = std::min<std::uint64_t>(table_.size(), state_->cursor + kPagesAStep);
    while (state_->cursor < end) write_page(state_->cursor++);
    return true;
  }
  const std::uint64_t count = table_.empty() ? 0 : allowance();
  for (std::uint64_t n = 0; n < count; ++n) {
    const std::uint64_t page = next_random(state_->random) % table_.size();
    verify_page(page);
    write_page(page);
  }
  return count != 0;
}

// Pages that the rate allows now.
std::uint64_t MemoryWorkload::allowance() {
  const auto now = std::chrono::steady_clock::now();
  const double rate = static_cast<double>(config_.dirty_rate) / std::max(1U, config_.memory_cpus);
  const double most = static_cast<double>(kPagesAStep * kPageSize);
  allowed_bytes_ += rate * std::chrono::duration<double>(now - last_time_).count();
  allowed_bytes_ = std::min(allowed_bytes_, most);  // what a pause has cost is not made up for
  last_time_ = now;
  const auto pages = static_cast<std::uint64_t>(allowed_bytes_) / kPageSize;
  allowed_bytes_ -= static_cast<double>(pages * kPageSize);
  return pages;
}

void MemoryWorkload::write_page(std::uint64_t page) {
  const Unit unit(pages_.subspan(page * kPageSize, kUnitSize));
  const std::uint32_t generation = table_[page] + 1;
  write_stamp(unit, {.seed = config_.seed,
                     .owner = kMemoryOwner,
                     .address = pages_at_.value + page * kPageSize,
                     .generation = generation});
  memory_.note_write(unit.data(), unit.size());
  table_[page] = generation;
  memory_.note_write(table_[page]);
  count(state_->counters.written);
}

void MemoryWorkload::verify_page(std::uint64_t page) {
  const ConstUnit unit(pages_.subspan(page * kPageSize, kUnitSize));
  const Stamp expected{.seed = config_.seed,
                       .owner = kMemoryOwner,
                       .address = pages_at_.value + page * kPageSize,
                       .generation = table_[page]};
  if (has_stamp(unit, expected)) return count(state_->counters.verified);
  count(state_->counters.bad);
  findings_.bad(fmt::format("memory page at {:#x}: expected generation {}, found {}", expected.address,
                            expected.generation, describe_unit(unit)));
}

MemoryCounters MemoryWorkload::counters() const {
  const MemoryCounters& live = state_->counters;
  return {.written = value_of(live.written), .verified = value_of(live.verified), .bad = value_of(live.bad)};
}

}  // namespace gangway::guest
