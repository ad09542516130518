// A profile: how one userspace drives a device, as a readable file. A superset of the scripts of `gangway check`: acts
// in order, in phases (a migration's source, its destination, a cancelled one), with conditions and repetitions.
//
// docs/profiles.md has the language and the profiles that are shipped.
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

#include "conformance/act.h"

namespace gangway::profile {

// Bounds on what a file may make anybody keep or do.
inline constexpr std::size_t kLargestFile = 256U << 10;  // bytes
inline constexpr std::size_t kMostSteps = 4096;
inline constexpr std::size_t kDeepest = 8;  // blocks within blocks
inline constexpr std::uint64_t kMostRounds = 1024;
inline constexpr std::uint64_t kLargestAccess = 64U << 20;  // bytes of one read or write of migration data

enum class Side : std::uint8_t { Source, Destination };
[[nodiscard]] std::string_view to_text(Side side);

// What a device has, as far as userspace asks for it.
struct Features {
  MigrationFlags flags;
  bool logging = false;
};

struct Condition {
  enum class What : std::uint8_t { P2p, PreCopy, Logging };
  What what = What::P2p;
  bool negated = false;

  [[nodiscard]] bool holds(const Features& features) const;
};

// What a userspace does after a SET that failed: a state that it names, else a reset.
struct Recovery {
  std::optional<DeviceState> state;
};

// An act that scripts do not have.
struct OwnAct {
  enum class Kind : std::uint8_t {
    CommandKeep,     // reads PCI_COMMAND and remembers it
    CommandClear,    // takes I/O, memory and bus master from it, as before a reset
    CommandEnable,   // lets the device decode memory and be master, as a guest's driver does, and remembers that
    CommandRestore,  // writes what was remembered
    CommandCheck,    // it is what was remembered
    InterruptsArm,   // an eventfd for the first interrupt of each kind, which stays
    LogStartAll,     // DMA logging with 0 ranges: all of them, over vfio-user
    // The migration region of v1 and region-v2:
    Bits,     // v1 only; number: reads device_state, writes it with the lowest three bits replaced
    Pending,  // reads pending_bytes
    Chunk,    // data_offset, data_size, then the data in accesses of `number` bytes
    Load,     // every chunk as it was saved: data_offset, the data in accesses of `number` bytes, data_size
  };
  Kind kind = Kind::CommandKeep;
  std::uint64_t number = 0;

  [[nodiscard]] std::string_view clause() const;  // that it is judged by
};

struct Step {
  enum class Kind : std::uint8_t {
    Act,     // act, and what a failed SET is followed by
    Own,     // own
    Expect,  // code: what the act before came to; 0: success
    If,      // condition, body, otherwise
    Repeat,  // body; rounds, or until its reads met the end (0)
    Thread,  // body, by a thread of its own
  };
  Kind kind = Kind::Act;
  std::size_t line = 0;  // of the file, from 1
  std::string from;      // the function that does it, if it was said
  conformance::Act act{};
  std::optional<Recovery> recovery;
  OwnAct own;
  int code = 0;
  std::string_view clause;  // of an expectation
  Condition condition;
  std::uint64_t rounds = 0;
  std::vector<Step> body;
  std::vector<Step> otherwise;

  // Its first line: "set RESUMING else RUNNING", "if P2P".
  [[nodiscard]] std::string text() const;
};

struct Phase {
  std::string name;
  Side side = Side::Source;
  bool together = false;  // with a second device, on both at once
  std::size_t line = 0;
  std::vector<std::string> notes;
  std::vector<Step> steps;
};

struct Profile {
  std::string name;
  std::string userspace;
  std::optional<Revision> interface = Revision::V2;  // nullopt: it drives no migration
  std::vector<std::string> known_from;
  std::vector<std::string> notes;
  std::vector<Phase> phases;
};

// "v2", "v1", "region-v2", "none"
[[nodiscard]] std::string_view interface_name(std::optional<Revision> interface);

// Errors name the line and what is wrong with it.
[[nodiscard]] Result<Profile> parse_profile(std::string_view text);
// As a file; parsing it gives the same profile.
[[nodiscard]] std::string to_text(const Profile& profile);

}  // namespace gangway::profile
