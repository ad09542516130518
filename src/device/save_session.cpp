#include "device/save_session.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <initializer_list>
#include <set>

#include <fmt/format.h>

#include "base/bytes.h"
#include "device/state_memory_list.h"
#include "device/state_running_memory.h"

namespace gangway {
namespace {

// In pre-copy a section is one copied batch; in STOP_COPY nothing is copied, and the size only bounds how late a
// damaged stream is noticed.
constexpr std::uint64_t kPreCopySection = 1ULL << 20;
constexpr std::uint64_t kStopCopySection = 16ULL << 20;
// Hashed at a time just before it is handed out, so that the transport finds it in the cache.
constexpr std::size_t kHashBlock = std::size_t{64} * 1024;

Result<void> check_names(const StateIdentity& identity, std::span<const StateMemory> memories) {
  if (!frame::valid_name(identity.device_type)) {
    return fail(EINVAL, fmt::format("device type '{}': not 1 to {} bytes", identity.device_type, frame::kMaxName));
  }
  std::set<std::string_view> seen;
  for (const StateMemory& memory : memories) {
    if (!frame::valid_name(memory.name)) {
      return fail(EINVAL, fmt::format("state memory '{}': name is not 1 to {} bytes", memory.name, frame::kMaxName));
    }
    if (!seen.insert(memory.name).second) {
      return fail(EINVAL, fmt::format("state memory '{}': the name is taken twice", memory.name));
    }
  }
  return {};
}

// Of all that the device writes into one stream.
Result<void> check_sections(std::initializer_list<const StateWriter*> writers, std::uint64_t own_bytes) {
  std::set<std::string_view> seen;
  std::uint64_t bytes = own_bytes;
  const auto check = [&](const StateWriter::Section& section) -> Result<void> {
    if (!frame::valid_name(section.name) || section.name.starts_with(frame::kOwnPrefix)) {
      return fail(EINVAL, fmt::format("section '{}': name is not 1 to {} bytes, or begins with '{}'", section.name,
                                      frame::kMaxName, frame::kOwnPrefix));
    }
    if (!seen.insert(section.name).second) {
      return fail(EINVAL, fmt::format("section '{}': the name is taken twice", section.name));
    }
    bytes += section.bytes.size();
    if (bytes > frame::kMaxStructuredBytes) {
      return fail(EFBIG, fmt::format("section '{}': the sections together exceed {} bytes; use state_memory()",
                                     section.name, frame::kMaxStructuredBytes));
    }
    if (seen.size() + 2 > frame::kMaxStructuredSections) {
      return fail(EINVAL, fmt::format("more than {} sections", frame::kMaxStructuredSections - 2));
    }
    return {};
  };
  for (const StateWriter* writer : writers) {
    for (const StateWriter::Section& section : writer->sections()) {
      if (Result<void> valid = check(section); !valid) return valid;
    }
  }
  return {};
}

std::span<const std::byte> bytes_of_text(std::string_view text) { return std::as_bytes(std::span(text)); }

}  // namespace

SaveSession::SaveSession(Migratable& device, std::span<const StateMemory> memories)
    : device_(device), memories_(memories), plan_(device, memories) {}

Result<std::shared_ptr<SaveSession>> SaveSession::open(Migratable& device, std::span<const StateMemory> memories) {
  const StateIdentity identity = device.identity();
  if (const Result<void> valid = check_names(identity, memories); !valid) return std::unexpected(valid.error());
  std::shared_ptr<SaveSession> session(new SaveSession(device, memories));
  session->write_preamble(identity);
  session->write_structured_copy(frame::kMemoryList, encode_memory_list(memories));
  StateWriter& requirements = session->requirements_;
  Result<void> required = device.save_requirements(requirements);
  if (required) required = check_sections({&requirements}, 0);
  if (!required) return fail_within("save", std::move(required.error()));
  for (const StateWriter::Section& one : requirements.sections()) session->write_structured_copy(one.name, one.bytes);
  session->initial_end_ = session->pieces_.total();
  return session;
}

std::uint64_t SaveSession::estimate(const Migratable& device, std::span<const StateMemory> memories) {
  const std::uint64_t sections = 8;  // a guess at how many the device writes, with our own
  std::uint64_t bytes = sizeof(frame::PreambleHead) + device.identity().device_type.size() + frame::kChecksumSize +
                        device.state_size() + sections * frame::section_size(16, 0);
  for (const StateMemory& memory : memories) {
    const std::uint64_t size = memory.bytes.size();
    bytes += size + (size / kStopCopySection + 1) * frame::section_size(memory.name.size(), 0);
  }
  return bytes;
}

void SaveSession::enter_pre_copy() {
  stage_ = Stage::PreCopy;
  plan_.track_dirty();
}

Result<void> SaveSession::complete(std::vector<std::byte> interrupts) {
  StateWriter writer;
  if (Result<void> saved = device_.save(writer); !saved) return fail_within("save", std::move(saved.error()));
  if (Result<void> valid = check_sections({&requirements_, &writer}, interrupts.size()); !valid) {
    return fail_within("save", std::move(valid.error()));
  }
  interrupts_ = std::move(interrupts);
  device_state_ = std::move(writer);
  stage_ = Stage::Complete;
  return {};
}

StreamView SaveSession::read_view(std::size_t max) {
  produce(std::max<std::size_t>(max, 1));  // a read of nothing still tells whether the end is reached
  StreamView view;
  const bool at_end = pieces_.size() < std::max<std::size_t>(max, 1);
  view.parts = pieces_.take(max);
  for (const std::span<const std::byte> part : view.parts) view.size += part.size();
  if (at_end) view.end = stage_ == Stage::Ended ? StreamEnd::Final : StreamEnd::Temporary;
  return view;
}

PrecopyInfo SaveSession::precopy_info() {
  const std::uint64_t initial_unread = initial_end_ > pieces_.taken() ? initial_end_ - pieces_.taken() : 0;
  PrecopyInfo info{.initial_bytes = initial_unread, .dirty_bytes = pieces_.size() - initial_unread};
  if (!device_.tracks_dirty()) return info;
  info.initial_bytes += plan_.initial_bytes_left(kPreCopySection);
  info.dirty_bytes += plan_.count_dirty_bytes(kPreCopySection);
  return info;
}

bool SaveSession::renew_initial() {
  if (!device_.tracks_dirty() || !device_.take_renewed()) return false;
  plan_.begin_again();
  initial_end_ = pieces_.total();
  return true;
}

std::uint64_t SaveSession::bytes_left() const {
  if (stage_ == Stage::Ended) return pieces_.size();
  std::uint64_t bytes = pieces_.size() + section_rest_.size() + plan_.initial_bytes_left(kStopCopySection) +
                        plan_.dirty_bytes_left(kStopCopySection);
  if (stage_ != Stage::Complete) return bytes + device_.state_size() + 8 * frame::section_size(16, 0);
  const std::vector<StateWriter::Section>& sections = device_state_.sections();
  if (next_structured_ == 0) bytes += frame::section_size(frame::kInterrupts.size(), interrupts_.size());
  for (std::size_t i = std::max<std::size_t>(next_structured_, 1); i <= sections.size(); ++i) {
    bytes += frame::section_size(sections[i - 1].name.size(), sections[i - 1].bytes.size());
  }
  return bytes + (in_memory_section_ ? frame::kChecksumSize : 0) + frame::section_size(0, sizeof(frame::Totals));
}

void SaveSession::produce(std::uint64_t wanted) {
  while (pieces_.size() < wanted && produce_some()) {
  }
}

bool SaveSession::produce_some() {
  switch (stage_) {
    case Stage::PreCopy:
      return produce_pre_copy();
    case Stage::Complete:
      return produce_complete();
    case Stage::Opened:
    case Stage::Ended:
      return false;
  }
  return false;
}

bool SaveSession::produce_pre_copy() {
  // Without dirty tracking what is sent now would have to be sent again.
  if (!device_.tracks_dirty()) return false;
  const std::optional<SaveMemory::Part> part = plan_.next(kPreCopySection);
  if (!part) return false;
  copy_memory(*part);
  if (part->initial) initial_end_ = pieces_.total();
  return true;
}

bool SaveSession::produce_complete() {
  if (in_memory_section_) {
    continue_memory();
    return true;
  }
  if (const std::optional<SaveMemory::Part> part = plan_.next(kStopCopySection)) {
    begin_memory(*part);
    return true;
  }
  const std::vector<StateWriter::Section>& sections = device_state_.sections();
  const std::size_t number = next_structured_++;
  if (number == 0) {
    write_structured(frame::kInterrupts, interrupts_);
  } else if (number <= sections.size()) {
    write_structured(sections[number - 1].name, sections[number - 1].bytes);
  } else {
    write_end();
  }
  return true;
}

void SaveSession::write_preamble(const StateIdentity& identity) {
  const frame::PreambleHead head{.magic = frame::kMagic,
                                 .format_revision = frame::kFormatRevision,
                                 .model_version = identity.model_version,
                                 .compatible_with = identity.compatible_with,
                                 .type_length = static_cast<std::uint32_t>(identity.device_type.size())};
  write(bytes_of(head));
  write(bytes_of_text(identity.device_type));
  write_checksum();
}

void SaveSession::write_structured_copy(std::string_view name, std::span<const std::byte> payload) {
  const frame::SectionHead head = next_head(frame::Kind::Structured, name, payload.size());
  write(bytes_of(head));
  write(bytes_of_text(name));
  write(payload);
  write_checksum();
}

void SaveSession::write_structured(std::string_view name, std::span<const std::byte> payload) {
  const frame::SectionHead head = next_head(frame::Kind::Structured, name, payload.size());
  write(bytes_of(head));
  write(bytes_of_text(name));
  checksum_.update(payload);
  pieces_.append(payload);  // the session keeps it
  write_checksum();
}

void SaveSession::copy_memory(const SaveMemory::Part& part) {
  const StateMemory& memory = memories_[part.memory];
  const frame::SectionHead head = next_head(frame::Kind::Memory, memory.name, part.size, part.offset);
  const std::span<std::byte> room = pieces_.append_room(frame::section_size(memory.name.size(), part.size));
  const std::size_t name_at = sizeof(head);
  const std::size_t payload_at = name_at + memory.name.size();
  std::memcpy(room.data(), &head, sizeof(head));
  std::memcpy(room.data() + name_at, memory.name.data(), memory.name.size());
  copy_running_memory(memory.bytes.subspan(part.offset, part.size), room.subspan(payload_at, part.size));
  // The copy is hashed, and not the memory: the device may write it meanwhile.
  checksum_.update(room.first(payload_at + part.size));
  const std::uint64_t checksum = checksum_.seal();
  std::memcpy(room.data() + payload_at + part.size, &checksum, sizeof(checksum));
}

void SaveSession::begin_memory(const SaveMemory::Part& part) {
  const StateMemory& memory = memories_[part.memory];
  const frame::SectionHead head = next_head(frame::Kind::Memory, memory.name, part.size, part.offset);
  write(bytes_of(head));
  write(bytes_of_text(memory.name));
  section_rest_ = memory.bytes.subspan(part.offset, part.size);
  in_memory_section_ = true;
}

void SaveSession::continue_memory() {
  const std::span<const std::byte> block = section_rest_.first(std::min(kHashBlock, section_rest_.size()));
  checksum_.update(block);
  pieces_.append(block);
  section_rest_ = section_rest_.subspan(block.size());
  if (!section_rest_.empty()) return;
  write_checksum();
  in_memory_section_ = false;
}

void SaveSession::write_end() {
  const frame::Totals totals = totals_;
  const frame::SectionHead head = next_head(frame::Kind::End, {}, sizeof(totals));
  write(bytes_of(head));
  write(bytes_of(totals));
  write_checksum();
  stage_ = Stage::Ended;
}

frame::SectionHead SaveSession::next_head(frame::Kind kind, std::string_view name, std::uint64_t length,
                                          std::uint64_t offset) {
  const frame::SectionHead head{.kind = kind,
                                .name_length = static_cast<std::uint32_t>(name.size()),
                                .sequence = totals_.sections,
                                .offset = offset,
                                .length = length};
  ++totals_.sections;
  if (kind == frame::Kind::Structured) totals_.structured_bytes += length;
  if (kind == frame::Kind::Memory) totals_.memory_bytes += length;
  return head;
}

void SaveSession::write(std::span<const std::byte> bytes) {
  checksum_.update(bytes);
  pieces_.append_copy(bytes);
}

void SaveSession::write_checksum() {
  const std::uint64_t checksum = checksum_.seal();
  pieces_.append_copy(bytes_of(checksum));
}

}  // namespace gangway
