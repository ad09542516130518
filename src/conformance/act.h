// One act on a device as a value: what scripts, sequences and random walks are made of.
//
// Thread-safety: values.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <gangway/contract.h>
#include <gangway/error.h>

#include "conformance/stream.h"
#include "conformance/subject.h"

namespace gangway::conformance {

struct Act {
  enum class Kind : std::uint8_t {
    Open,
    Close,
    Reset,
    Set,  // number: the state
    Get,
    Size,
    Info,
    Read,     // number: bytes; 0: a third of what a stream has
    ReadAll,  // number: bytes at once; 0: as it likes
    Keep,
    Stream,  // variant
    Write,
    WriteAll,
    CloseData,
    LogStart,
    LogStop,
    LogReport,
    Config,
    Interrupts,
    RegionRead,   // region, number: offset, bytes: as many
    RegionWrite,  // likewise
  };
  Kind kind = Kind::Get;
  std::uint64_t number = 0;
  std::uint32_t region = 0;
  Variant variant;
  Bytes bytes;

  static Act set(DeviceState state) { return {.kind = Kind::Set, .number = static_cast<std::uint64_t>(state)}; }
};

// The line of a script; what follows a '#' is a comment. EINVAL names what is not understood.
[[nodiscard]] std::string to_text(const Act& act);
[[nodiscard]] Result<Act> parse_act(std::string_view line);
// A script: an act a line, empty lines and comments between. Errors name the line.
[[nodiscard]] Result<std::vector<Act>> parse_script(std::string_view text);
[[nodiscard]] std::string to_text(const std::vector<Act>& acts);

// What came of an act.
struct Outcome {
  std::optional<Error> error;
  std::size_t size = 0;  // read
  StreamEnd end = StreamEnd::More;
  std::uint32_t identity = 0;  // Config: vendor and device
  bool lost = false;
  std::optional<DeviceState> state;  // afterwards
};

// Carries the act out and nothing else: a userspace that does not ask for the state is played without.
[[nodiscard]] Outcome act_on(Subject& subject, const Act& act);
// Carries the act out and asks for the state.
[[nodiscard]] Outcome perform(Subject& subject, const Act& act);

}  // namespace gangway::conformance
