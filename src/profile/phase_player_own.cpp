// The acts that scripts do not have: PCI_COMMAND, interrupts that stay, logging of everything, and those of v1.
#include <sys/eventfd.h>

#include <algorithm>
#include <array>

#include <fmt/core.h>

#include <gangway/migration_region.h>

#include "base/bytes.h"
#include "profile/phase_player.h"

namespace gangway::profile {
namespace {

using conformance::Finding;

constexpr std::uint32_t kConfig = to_number(RegionIndex::Config);
constexpr std::uint64_t kCommand = 0x04;
constexpr std::uint16_t kIo = 0x0001;
constexpr std::uint16_t kMemory = 0x0002;
constexpr std::uint16_t kMaster = 0x0004;
constexpr std::uint64_t kPageSize = 4096;

Result<void> arm_first(DeviceHandle& device) {
  for (const IrqType type : {IrqType::Msix, IrqType::Msi, IrqType::Intx}) {
    const Result<IrqInfo> info = device.irq(to_number(type));
    if (!info || info->count == 0) continue;
    IrqSet on{.type = type, .action = IrqAction::Trigger, .data = IrqSet::Data::Eventfd, .start = 0, .count = 1};
    on.eventfds.emplace_back(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!on.eventfds.front()) return fail_errno("make an eventfd");
    return device.set_irqs(std::move(on));
  }
  return {};
}

std::optional<Finding> refused(std::string_view clause, std::string expected, const Error& error) {
  return Finding{clause, std::move(expected), conformance::to_text(error), {}};
}

}  // namespace

bool PhasePlayer::play_own(const Step& step) {
  const std::string line = step.text();
  OwnOutcome outcome = carry_out(step.own, line);
  last_error_ = outcome.error;
  return note(step, line, step.own.clause(), std::move(outcome.text), outcome.finding);
}

PhasePlayer::OwnOutcome PhasePlayer::carry_out(const OwnAct& own, std::string_view line) {
  switch (own.kind) {
    case OwnAct::Kind::CommandKeep:
      return keep_command();
    case OwnAct::Kind::CommandClear:
      return clear_command();
    case OwnAct::Kind::CommandEnable:
      return enable_command();
    case OwnAct::Kind::CommandRestore:
      return restore_command();
    case OwnAct::Kind::CommandCheck:
      return check_command();
    case OwnAct::Kind::InterruptsArm:
      return arm_interrupts(line);
    case OwnAct::Kind::LogStartAll:
      return start_all_logging(line);
    case OwnAct::Kind::Bits:
      return set_bits(static_cast<std::uint32_t>(own.number), line);
    case OwnAct::Kind::Pending:
      return read_pending(line);
    case OwnAct::Kind::Chunk:
      return read_chunk(own.number, line);
    case OwnAct::Kind::Load:
      return load_chunks(own.number, line);
  }
  return {};
}

Result<std::uint16_t> PhasePlayer::read_command() {
  std::array<std::byte, 2> bytes{};
  if (Result<void> read = subject_.read_region(kConfig, kCommand, bytes); !read) return std::unexpected(read.error());
  return load_at<std::uint16_t>(bytes).value_or(0);
}

PhasePlayer::OwnOutcome PhasePlayer::keep_command() {
  const Result<std::uint16_t> now = read_command();
  if (!now) return {now.error(), {}, refused("STP-CONFIG", "config space answers", now.error())};
  command_ = *now;
  return {{}, fmt::format("{:#06x}", command_), {}};
}

PhasePlayer::OwnOutcome PhasePlayer::clear_command() {
  const Result<std::uint16_t> before = read_command();
  if (!before) return {before.error(), {}, refused("STP-CONFIG", "config space answers", before.error())};
  const std::uint16_t cleared = *before & ~(kIo | kMemory | kMaster);
  const Result<void> written = subject_.write_region(kConfig, kCommand, bytes_of(cleared));
  if (!written) return {written.error(), {}, refused("STP-CONFIG", "config space can be written", written.error())};
  return {{}, fmt::format("{:#06x}", cleared), {}};
}

PhasePlayer::OwnOutcome PhasePlayer::enable_command() {
  const Result<std::uint16_t> before = read_command();
  if (!before) return {before.error(), {}, refused("STP-CONFIG", "config space answers", before.error())};
  command_ = *before | kMemory | kMaster;
  return restore_command();
}

PhasePlayer::OwnOutcome PhasePlayer::restore_command() {
  const Result<void> written = subject_.write_region(kConfig, kCommand, bytes_of(command_));
  if (!written) return {written.error(), {}, refused("STP-CONFIG", "config space can be written", written.error())};
  return check_command();
}

// What was written is there (STP-CONFIG): before the data is loaded or after, the guest's setting holds.
PhasePlayer::OwnOutcome PhasePlayer::check_command() {
  const Result<std::uint16_t> now = read_command();
  if (!now) return {now.error(), {}, refused("STP-CONFIG", "config space answers", now.error())};
  if (*now == command_) return {{}, fmt::format("{:#06x}", command_), {}};
  return {{},
          {},
          Finding{"STP-CONFIG",
                  fmt::format("PCI_COMMAND is {:#06x} as it was written", command_),
                  fmt::format("{:#06x}", *now),
                  {}}};
}

PhasePlayer::OwnOutcome PhasePlayer::arm_interrupts(std::string_view line) {
  const Result<void> armed = subject_.perform(line, arm_first);
  if (armed) return {};
  return {armed.error(), {}, refused("STP-CONFIG", "interrupts can be set up", armed.error())};
}

// The specification of vfio-user has it that all is logged; the kernel refuses it (LOG-START).
PhasePlayer::OwnOutcome PhasePlayer::start_all_logging(std::string_view line) {
  const Result<void> started = subject_.perform(line, [](DeviceHandle& device) -> Result<void> {
    const Result<std::uint64_t> page = device.dma_logging_start({}, kPageSize);
    if (!page) return std::unexpected(page.error());
    return {};
  });
  if (started) {
    (void)model_.judge({.kind = conformance::Act::Kind::LogStart}, {});
    return {};
  }
  std::string text = conformance::to_text(started.error());
  if (started.error().code == EINVAL) return {started.error(), std::move(text), {}};
  return {started.error(), {}, refused("LOG-START", "success, or EINVAL where 0 ranges are none", started.error())};
}

PhasePlayer::OwnOutcome PhasePlayer::set_bits(std::uint32_t bits, std::string_view line) {
  const Result<void> set = subject_.perform(
      line, [region = *setting_.region, bits](DeviceHandle& device) { return region.set_bits(device, bits); });
  if (!set) return {set.error(), {}, refused("V1-STATES", fmt::format("{:03b} can be entered", bits), set.error())};
  // PRE_COPY goes on in stop-and-copy; a stream begins where a session does (DAT-SESSION).
  const bool was_saving = bits_ && (*bits_ & migration_region::kSaving) != 0;
  if (!was_saving) reading_ = {};
  bits_ = bits;
  return {};
}

PhasePlayer::OwnOutcome PhasePlayer::read_pending(std::string_view line) {
  const auto pending = subject_.ask<std::uint64_t>(
      line, [region = *setting_.region](DeviceHandle& device) { return region.pending_bytes(device); });
  if (!pending) return {pending.error(), {}, refused("V1-SAVE", "pending_bytes can be read", pending.error())};
  met_end_ = *pending == 0;
  const bool stopped = bits_ ? *bits_ == migration_region::kSaving : model_.state() == DeviceState::StopCopy;
  if (met_end_ && stopped) saved_ = reading_;
  return {{}, *pending == 0 ? "nothing" : "more", {}};
}

PhasePlayer::OwnOutcome PhasePlayer::read_chunk(std::size_t access, std::string_view line) {
  const auto chunk = subject_.ask<conformance::Bytes>(
      line, [region = *setting_.region, access](DeviceHandle& device) { return region.chunk(device, access); });
  if (!chunk) return {chunk.error(), {}, refused("V1-SAVE", "a chunk can be read", chunk.error())};
  read_ += chunk->size();
  reading_.chunks.push_back(*chunk);
  reading_.bytes.insert(reading_.bytes.end(), chunk->begin(), chunk->end());
  if (read_ > conformance::Subject::kMostData) {
    return {{}, {}, Finding{"V1-SAVE", "migration data ends", fmt::format("{} bytes and no end", read_), {}}};
  }
  return {{}, fmt::format("{} bytes", chunk->size()), {}};
}

PhasePlayer::OwnOutcome PhasePlayer::load_chunks(std::size_t access, std::string_view line) {
  std::size_t bytes = 0;
  for (const conformance::Bytes& chunk : setting_.saved->chunks) {
    // A copy: an access that hangs outlives this.
    const Result<void> loaded =
        subject_.perform(line, [region = *setting_.region, chunk, access](DeviceHandle& device) {
          return region.load(device, chunk, access);
        });
    if (!loaded) return {loaded.error(), {}, refused("V1-LOAD", "a chunk is taken", loaded.error())};
    // What leaving RESUMING is judged by.
    (void)model_.judge({.kind = conformance::Act::Kind::Write, .number = chunk.size()}, {});
    bytes += chunk.size();
  }
  return {{}, fmt::format("{} bytes in {} chunks", bytes, setting_.saved->chunks.size()), {}};
}

}  // namespace gangway::profile
