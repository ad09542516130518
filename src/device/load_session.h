// The data session of RESUMING: takes a state stream in pieces of any size and lets it in only whole and intact.
//
// The first violation is remembered: that write fails, every later one fails alike, and so does finish()
// (DAT-VALIDATE). Memory goes straight to where it belongs, since the device is cleared and stopped and is cleared
// again on refusal; structured sections wait until everything was verified.
//
// Thread-safety: under the engine's mutex.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <gangway/error.h>
#include <gangway/state_stream.h>

#include "device/state_checksum.h"
#include "device/state_frame.h"

namespace gangway {

class LoadSession {
 public:
  // Looks at a structured section as soon as it came (Migratable::check_requirement).
  using Check = std::function<Result<void>(std::string_view section, std::span<const std::byte> bytes)>;

  // `memories` outlives the session.
  LoadSession(StateIdentity identity, std::span<const StateMemory> memories, Check check = {});

  // The next bytes of the stream.
  Result<void> write(std::span<const std::byte> in);

  // As Migration::landing and Migration::landed.
  [[nodiscard]] std::span<std::byte> landing(std::size_t max) const;
  Result<void> landed(std::size_t size);

  // Ends the session: from now on every call fails with this error, or the earlier one if there was one.
  void refuse(Error error);

  struct Loaded {
    StateReader state;
    std::vector<std::byte> interrupts;
  };
  // What was loaded, if it is complete; an incomplete stream is refused for good.
  Result<Loaded> finish();

 private:
  // What the next bytes are.
  enum class Part { PreambleHead, DeviceType, PreambleChecksum, Head, Name, Payload, Checksum, End };

  Result<void> take(std::span<const std::byte>& in);
  Result<void> take_payload(std::span<const std::byte>& in);
  void store(std::span<std::byte> place, std::span<const std::byte> in);
  void payload_taken(std::size_t size);
  Result<void> part_complete();
  Result<void> preamble_begun();
  Result<void> preamble_complete();
  Result<void> section_begun();
  Result<void> section_named();
  Result<void> memory_begun();
  Result<void> structured_begun();
  Result<void> section_complete();
  Result<void> memory_complete();
  Result<void> structured_complete();
  Result<void> end_complete();
  Result<void> check_checksum();

  void expect(Part part, std::size_t size);
  void expect_section();
  void expect_payload();
  [[nodiscard]] std::span<const std::byte> collected() const { return std::span(buffer_).first(filled_); }
  // An error that says where in the stream.
  [[nodiscard]] std::unexpected<Error> violation(std::string_view what, std::string_view clause = "DAT-VALIDATE") const;

  StateIdentity identity_;
  std::span<const StateMemory> memories_;
  Check check_;
  StateChecksum checksum_;
  std::optional<Error> refusal_;
  std::uint64_t position_ = 0;  // bytes taken

  Part part_ = Part::PreambleHead;
  std::array<std::byte, frame::kMaxName> buffer_{};  // the part being collected, other than payload
  std::size_t filled_ = 0;
  std::size_t wanted_ = sizeof(frame::PreambleHead);

  frame::PreambleHead preamble_{};
  frame::SectionHead head_{};
  std::string name_;
  std::size_t memory_ = 0;  // of a memory section
  std::uint64_t payload_left_ = 0;
  std::vector<std::byte> payload_;  // of a structured or end section

  frame::Totals totals_{};
  std::uint64_t structured_sections_ = 0;
  std::vector<std::uint64_t> covered_;  // of each memory: bytes from its start that were loaded
  std::set<std::string, std::less<>> names_;
  std::vector<StateWriter::Section> sections_;
  std::optional<std::vector<std::byte>> interrupts_;
};

}  // namespace gangway
