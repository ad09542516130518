#include "device/load_session.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "base/bytes.h"
#include "base/copy_past_cache.h"
#include "base/printable.h"
#include "device/state_memory_list.h"

namespace gangway {
namespace {

// Copied and hashed at a time, so that it is hashed from the cache.
constexpr std::size_t kHashBlock = std::size_t{32} * 1024;

}  // namespace

LoadSession::LoadSession(StateIdentity identity, std::span<const StateMemory> memories, Check check)
    : identity_(std::move(identity)), memories_(memories), check_(std::move(check)), covered_(memories.size(), 0) {}

Result<void> LoadSession::write(std::span<const std::byte> in) {
  if (refusal_) return std::unexpected(*refusal_);
  while (!in.empty()) {
    const std::size_t before = in.size();
    const Result<void> taken = take(in);
    position_ += before - in.size();
    if (!taken) {
      refuse(taken.error());
      return taken;
    }
  }
  return {};
}

std::span<std::byte> LoadSession::landing(std::size_t max) const {
  if (refusal_ || part_ != Part::Payload || head_.kind != frame::Kind::Memory) return {};
  const std::uint64_t at = head_.offset + (head_.length - payload_left_);
  return memories_[memory_].bytes.subspan(at, static_cast<std::size_t>(std::min<std::uint64_t>(max, payload_left_)));
}

Result<void> LoadSession::landed(std::size_t size) {
  if (refusal_) return std::unexpected(*refusal_);
  const std::span<const std::byte> bytes = landing(size);
  if (bytes.size() != size) {
    refuse(violation(fmt::format("{} bytes landed where {} belong", size, bytes.size())).error());
    return std::unexpected(*refusal_);
  }
  if (size == 0) return {};
  checksum_.update(bytes);
  payload_taken(size);
  position_ += size;
  return {};
}

void LoadSession::refuse(Error error) {
  if (!refusal_) refusal_ = std::move(error);
  payload_ = {};
  sections_.clear();
}

Result<LoadSession::Loaded> LoadSession::finish() {
  if (!refusal_ && part_ != Part::End) {
    refuse(violation(position_ == 0 ? "no data was written"
                                    : fmt::format("incomplete, it breaks off after {} bytes", position_))
               .error());
  }
  if (refusal_) return std::unexpected(*refusal_);
  StateReader state(preamble_.model_version);
  for (StateWriter::Section& section : sections_) state.add(std::move(section.name), std::move(section.bytes));
  return Loaded{std::move(state), std::move(*interrupts_)};
}

Result<void> LoadSession::take(std::span<const std::byte>& in) {
  if (part_ == Part::End) return violation(fmt::format("{} bytes or more follow the end", in.size()));
  if (part_ == Part::Payload) return take_payload(in);
  const std::size_t size = std::min(wanted_ - filled_, in.size());
  std::memcpy(buffer_.data() + filled_, in.data(), size);
  filled_ += size;
  in = in.subspan(size);
  if (filled_ < wanted_) return {};
  return part_complete();
}

// What is hashed is what is stored, never the peer's bytes: those may lie in memory that it still writes.
Result<void> LoadSession::take_payload(std::span<const std::byte>& in) {
  const std::size_t size =
      static_cast<std::size_t>(std::min({payload_left_, std::uint64_t{in.size()}, std::uint64_t{kHashBlock}}));
  if (const std::span<std::byte> place = landing(size); !place.empty()) {
    store(place, in.first(size));
  } else {
    payload_.insert(payload_.end(), in.begin(), in.begin() + static_cast<std::ptrdiff_t>(size));
    checksum_.update(std::span(payload_).last(size));
  }
  in = in.subspan(size);
  payload_taken(size);
  return {};
}

// By way of a block of our own where there is a whole one: a device's memory is more than the caches hold, and the
// device does not use it before all of it is there.
void LoadSession::store(std::span<std::byte> place, std::span<const std::byte> in) {
  if (in.size() < kHashBlock) {
    std::ranges::copy(in, place.begin());
    checksum_.update(place);
    return;
  }
  std::array<std::byte, kHashBlock> block;
  std::ranges::copy(in, block.begin());
  checksum_.update(block);
  copy_past_cache(place, block);
}

void LoadSession::payload_taken(std::size_t size) {
  payload_left_ -= size;
  if (payload_left_ == 0) expect(Part::Checksum, frame::kChecksumSize);
}

Result<void> LoadSession::part_complete() {
  const bool is_checksum = part_ == Part::PreambleChecksum || part_ == Part::Checksum;
  if (is_checksum) {
    if (const Result<void> same = check_checksum(); !same) return same;
    return part_ == Part::Checksum ? section_complete() : preamble_complete();
  }
  checksum_.update(collected());
  switch (part_) {
    case Part::PreambleHead:
      preamble_ = *load_at<frame::PreambleHead>(collected());
      return preamble_begun();
    case Part::Head:
      head_ = *load_at<frame::SectionHead>(collected());
      return section_begun();
    default:
      break;
  }
  name_.assign(reinterpret_cast<const char*>(buffer_.data()), filled_);
  if (part_ == Part::Name) return section_named();
  expect(Part::PreambleChecksum, frame::kChecksumSize);
  return {};
}

Result<void> LoadSession::preamble_begun() {
  if (preamble_.magic != frame::kMagic) return violation("this is no gangway state stream", "DAT-IDENTITY");
  if (preamble_.format_revision != frame::kFormatRevision) {
    return violation(
        fmt::format("format revision {}, and only {} is known here", preamble_.format_revision, frame::kFormatRevision),
        "DAT-IDENTITY");
  }
  if (preamble_.type_length == 0 || preamble_.type_length > frame::kMaxName) {
    return violation(fmt::format("a device type of {} bytes, not 1 to {}", preamble_.type_length, frame::kMaxName));
  }
  expect(Part::DeviceType, preamble_.type_length);
  return {};
}

Result<void> LoadSession::preamble_complete() {
  if (name_ != identity_.device_type) {
    return violation(
        fmt::format("it is the state of a '{}' of model version {}, and this device is a '{}' of {}", printable(name_),
                    preamble_.model_version, identity_.device_type, identity_.model_version),
        "DAT-IDENTITY");
  }
  const bool newer = preamble_.model_version > identity_.model_version;
  if (newer && preamble_.compatible_with > identity_.model_version) {
    return violation(
        fmt::format("'{}' of model version {} can be loaded from model version {} on, and this device is "
                    "of {}; load it on a newer one",
                    identity_.device_type, preamble_.model_version, preamble_.compatible_with, identity_.model_version),
        "DAT-IDENTITY");
  }
  expect(Part::Head, sizeof(frame::SectionHead));
  return {};
}

Result<void> LoadSession::section_begun() {
  if (head_.sequence != totals_.sections) {
    return violation(fmt::format("it has the sequence number {}", head_.sequence));
  }
  switch (head_.kind) {
    case frame::Kind::Structured:
    case frame::Kind::Memory:
      if (head_.name_length == 0 || head_.name_length > frame::kMaxName) {
        return violation(fmt::format("a name of {} bytes, not 1 to {}", head_.name_length, frame::kMaxName));
      }
      expect(Part::Name, head_.name_length);
      return {};
    case frame::Kind::End:
      if (head_.name_length != 0 || head_.offset != 0 || head_.length != sizeof(frame::Totals)) {
        return violation("an end section of the wrong shape");
      }
      expect_payload();
      return {};
  }
  return violation(fmt::format("unknown kind {}", static_cast<std::uint32_t>(head_.kind)));
}

Result<void> LoadSession::section_named() {
  if (totals_.sections == 0 && name_ != frame::kMemoryList) {
    return violation(fmt::format("the first section must be '{}'", frame::kMemoryList));
  }
  const Result<void> valid = head_.kind == frame::Kind::Memory ? memory_begun() : structured_begun();
  if (valid) expect_payload();
  return valid;
}

Result<void> LoadSession::memory_begun() {
  const auto found = std::ranges::find(memories_, name_, &StateMemory::name);
  if (found == memories_.end()) return violation("this device has no such memory");
  memory_ = static_cast<std::size_t>(found - memories_.begin());
  const std::uint64_t size = found->bytes.size();
  if (head_.length == 0 || head_.offset > size || head_.length > size - head_.offset) {
    return violation(fmt::format("{} bytes at {:#x} of a memory of {:#x}", head_.length, head_.offset, size));
  }
  if (head_.offset > covered_[memory_]) {
    return violation(fmt::format("bytes {:#x} to {:#x} are left out", covered_[memory_], head_.offset));
  }
  return {};
}

Result<void> LoadSession::structured_begun() {
  if (head_.offset != 0) return violation("a structured section has no offset");
  if (++structured_sections_ > frame::kMaxStructuredSections) {
    return violation(fmt::format("more than {} structured sections", frame::kMaxStructuredSections));
  }
  if (head_.length > frame::kMaxStructuredBytes - totals_.structured_bytes) {
    return violation(
        fmt::format("with its {} bytes the structured sections exceed {}", head_.length, frame::kMaxStructuredBytes));
  }
  if (!names_.insert(name_).second) return violation("the name came before");
  const bool own = std::string_view(name_).starts_with(frame::kOwnPrefix);
  if (own && name_ != frame::kMemoryList && name_ != frame::kInterrupts) return violation("unknown section");
  return {};
}

Result<void> LoadSession::section_complete() {
  if (head_.kind == frame::Kind::End) return end_complete();
  if (Result<void> stored = head_.kind == frame::Kind::Memory ? memory_complete() : structured_complete(); !stored) {
    return stored;
  }
  ++totals_.sections;
  expect_section();
  return {};
}

Result<void> LoadSession::memory_complete() {
  totals_.memory_bytes += head_.length;
  covered_[memory_] = std::max(covered_[memory_], head_.offset + head_.length);
  return {};
}

Result<void> LoadSession::structured_complete() {
  totals_.structured_bytes += head_.length;
  std::vector<std::byte> payload = std::exchange(payload_, {});
  if (name_ == frame::kMemoryList) return check_memory_list(payload, memories_);
  if (name_ == frame::kInterrupts) {
    interrupts_ = std::move(payload);
  } else {
    const Result<void> taken = check_ ? check_(name_, payload) : Result<void>();
    if (!taken) return violation(taken.error().message, "DAT-IDENTITY");
    sections_.push_back({name_, std::move(payload)});
  }
  return {};
}

Result<void> LoadSession::end_complete() {
  if (*load_at<frame::Totals>(payload_) != totals_) return violation("its totals differ from what came");
  if (!interrupts_) return violation(fmt::format("section '{}' did not come", frame::kInterrupts));
  for (std::size_t i = 0; i < memories_.size(); ++i) {
    if (covered_[i] == memories_[i].bytes.size()) continue;
    return violation(fmt::format("memory '{}' came up to {:#x} of {:#x} only", memories_[i].name, covered_[i],
                                 memories_[i].bytes.size()));
  }
  part_ = Part::End;
  return {};
}

Result<void> LoadSession::check_checksum() {
  if (*load_at<std::uint64_t>(collected()) != checksum_.seal()) {
    return violation("checksum differs: the data was damaged, or is not in its place");
  }
  return {};
}

void LoadSession::expect(Part part, std::size_t size) {
  part_ = part;
  filled_ = 0;
  wanted_ = size;
}

void LoadSession::expect_section() {
  name_.clear();
  head_ = {};
  expect(Part::Head, sizeof(frame::SectionHead));
}

void LoadSession::expect_payload() {
  payload_left_ = head_.length;
  payload_.clear();
  if (payload_left_ == 0) return expect(Part::Checksum, frame::kChecksumSize);
  part_ = Part::Payload;
}

std::unexpected<Error> LoadSession::violation(std::string_view what, std::string_view clause) const {
  std::string place;
  if (part_ < Part::Head && position_ != 0) {
    place = "preamble";
  } else if (part_ >= Part::Head && part_ != Part::End) {
    place = fmt::format("{} {}", head_.kind == frame::Kind::End ? "end section" : "section", totals_.sections);
    if (!name_.empty()) place += fmt::format(" '{}'", printable(name_));
  }
  return fail(EINVAL, fmt::format("state stream: {}{}{}", place, place.empty() ? "" : ": ", what), clause);
}

}  // namespace gangway
