// What a recording consists of, before anybody interprets it.
//
// A recording holds records in the order in which they were completed. Two families share one file: messages of
// vfio-user, and calls of the kernel's VFIO and iommufd. Memory and migration data are named by size and hash, and kept
// only where that was asked for. docs/trace.md has the layout in a file.
//
// Thread-safety: values.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "vfio_user/protocol.h"

namespace gangway::record {

// Since the recording began.
using Time = std::chrono::nanoseconds;

// Bytes that are somebody's memory or migration data.
struct Payload {
  std::uint64_t size = 0;
  std::optional<std::uint64_t> hash;  // XXH3-64; without it nobody could look at them
  std::vector<std::byte> bytes;       // all of them, or none

  friend bool operator==(const Payload&, const Payload&) = default;
};

// A descriptor that was passed along.
struct Descriptor {
  enum class Kind : std::uint8_t { Unknown, File, Memory, Eventfd, Socket, Pipe, Device, Other };
  Kind kind = Kind::Unknown;
  bool sealed = false;     // against shortening
  std::uint64_t size = 0;  // of a file or memory

  friend bool operator==(const Descriptor&, const Descriptor&) = default;
};

// One message of vfio-user, in whole or as far as it came.
struct MessageRecord {
  enum class Direction : std::uint8_t { ToServer, ToClient };
  enum class Path : std::uint8_t { Main, Twin };  // which socket of the connection

  Time time{};  // its first byte
  std::uint32_t connection = 0;
  Direction direction{};
  Path path{};
  bool cut = false;          // the connection ended in it
  bool by_sharing = false;   // the payload went through shared memory, not through the message
  vfio_user::Header header;  // as it came
  std::vector<Descriptor> descriptors;
  std::vector<std::byte> structure;  // the body, but for the payload
  Payload payload;
};

struct ConnectionRecord {
  enum class Event : std::uint8_t {
    Opened,
    ClientEnded,  // it sends nothing more
    ServerEnded,
    Closed,  // in both directions
    Failed,  // by the recorder, which could not go on
  };
  Time time{};
  std::uint32_t connection = 0;
  Event event{};
  std::string text;  // who, or why

  friend bool operator==(const ConnectionRecord&, const ConnectionRecord&) = default;
};

// What became of a process or thread that is recorded.
struct ProcessRecord {
  enum class Event : std::uint8_t { Started, Forked, Executed, Ended, Killed };
  Time time{};
  std::int32_t process = 0;
  std::int32_t thread = 0;
  Event event{};
  std::int64_t value = 0;  // the child, the exit status, the signal
  std::string text;        // the program

  friend bool operator==(const ProcessRecord&, const ProcessRecord&) = default;
};

// One call of the kernel on a descriptor that has to do with VFIO.
struct CallRecord {
  enum class Role : std::uint8_t { Unknown, Container, Group, Device, Iommufd, MigrationData };
  enum class Call : std::uint8_t { Open, Ioctl, Read, Write, Mmap, Munmap, Duplicate, Send, Close };

  Time time{};
  Time took{};
  std::int32_t process = 0;
  std::int32_t thread = 0;
  Role role{};
  Call call{};
  std::uint32_t object = 0;  // which opened container, group, device, ...: numbered from 1 in the recording
  std::int32_t descriptor = -1;
  std::uint32_t request = 0;  // of an ioctl
  std::uint64_t offset = 0;   // of a read, write or mapping
  std::uint64_t length = 0;   // that was asked for
  std::int64_t result = 0;
  std::int32_t error = 0;           // errno
  std::string text;                 // the path of an open
  std::vector<std::byte> argument;  // the structure as the caller gave it
  std::vector<std::byte> answer;    // and as it was afterwards
  std::vector<std::byte> pointed;   // what pointers in it lead to, where that is no payload
  std::vector<Descriptor> descriptors;
  Payload payload;
  // The object that this one belongs to: migration data to its device, a device to its group or to the iommufd that it
  // is bound to, a group to its container. 0: unknown, or none.
  std::uint32_t parent = 0;

  friend bool operator==(const CallRecord&, const CallRecord&) = default;
};

// What a reader ought to know: something that could not be recorded, for example.
struct NoteRecord {
  Time time{};
  std::string text;

  friend bool operator==(const NoteRecord&, const NoteRecord&) = default;
};

using Record = std::variant<MessageRecord, ConnectionRecord, ProcessRecord, CallRecord, NoteRecord>;

// Of what the recording is.
enum class Subject : std::uint8_t { VfioUser, Kernel };

// The first record of a file.
struct Meta {
  Subject subject{};
  std::string program;               // that recorded: "gangway 0.1.0"
  std::string began;                 // UTC, ISO 8601: "2026-01-31T12:00:00Z"
  std::string target;                // the server's socket; of the kernel, the folder of its devices
  std::string machine;               // kernel and architecture
  std::vector<std::string> command;  // of `record --kernel`
  bool payload = false;              // kept

  friend bool operator==(const Meta&, const Meta&) = default;
};

}  // namespace gangway::record
