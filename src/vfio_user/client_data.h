// How migration data travels: what single reads and writes share with those that keep requests under way.
#pragma once

#include <deque>
#include <mutex>
#include <optional>
#include <span>

#include "base/bytes.h"
#include "vfio_user/buffer.h"
#include "vfio_user/client.h"

namespace gangway::vfio_user {

// Less than this is not worth the two copies, to a call by itself.
inline constexpr std::size_t kWorthSharing = 16U << 10;

// How a transfer is made: in pieces of so many bytes, so many under way at once.
struct Client::DataPath {
  const SharedMemory* shared = nullptr;  // null: in messages
  std::size_t piece = 0;
  std::size_t in_flight = 0;
  std::unique_lock<std::mutex> lock;

  // Where piece number `number` of `size` bytes lies in the shared memory.
  [[nodiscard]] std::uint64_t offset(std::size_t number) const { return number % in_flight * piece; }
  [[nodiscard]] std::span<std::byte> slot(std::size_t number, std::size_t size) const {
    return shared->stretch(offset(number), size).value_or(std::span<std::byte>());
  }
};

// A read under way. The structure of a message is the front of that of shared memory.
struct Client::IncomingChunk {
  IncomingChunk(Channel& channel, std::span<std::byte> into)
      : command(Command::MigDataRead),
        room(into),
        head(sizeof(MigData)),
        asked{.argsz = static_cast<std::uint32_t>(head + into.size()), .size = static_cast<std::uint32_t>(into.size())},
        call(channel, std::as_writable_bytes(std::span(&answered, 1)).first(head), into) {}
  IncomingChunk(Channel& channel, std::span<std::byte> slot, std::uint64_t offset)
      : command(Command::MigDataReadShared),
        room(slot),
        head(sizeof(MigDataShared)),
        asked{.argsz = sizeof(MigDataShared), .size = static_cast<std::uint32_t>(slot.size()), .offset = offset},
        call(channel, std::as_writable_bytes(std::span(&answered, 1))) {}

  [[nodiscard]] std::span<const std::byte> request() const { return bytes_of(asked).first(head); }
  [[nodiscard]] bool is_shared() const { return head == sizeof(MigDataShared); }
  [[nodiscard]] bool is_answered_by(const Channel::Reply& reply) const {
    if (is_shared()) return reply.size == head && answered.size <= room.size() && answered.offset == asked.offset;
    return reply.size >= head && answered.size == reply.size - head;
  }

  Command command;
  std::span<std::byte> room;
  std::size_t head;
  MigDataShared asked;
  MigDataShared answered;
  Call call;
};

// A write under way.
struct Client::OutgoingChunk {
  explicit OutgoingChunk(Channel& channel) : call(channel, {}) {}
  Call call;
};

// Reads that stay under way between calls.
struct Client::ReadAhead {
  struct Piece {
    template <class... Where>
    explicit Piece(Channel& channel, Where... where) : chunk(channel, where...) {}
    IncomingChunk chunk;
    bool came = false;
    std::size_t size = 0;   // of what came
    std::size_t taken = 0;  // of that, by the caller
  };

  DataPath path;
  Buffer room;  // for messages; shared memory has its own
  std::size_t number = 0;
  std::size_t to_come = 0;  // bytes that were asked for
  bool paused = false;      // nothing more is asked for
  bool ended = false;
  std::optional<StreamEnd> told;  // by a server that tells ENOMSG from 0 bytes
  std::optional<Error> failure;   // behind all pieces
  std::deque<Piece> pieces;
};

// Writes whose outcome is still to be told.
struct Client::WriteBehind {
  DataPath path;
  std::size_t number = 0;
  std::deque<OutgoingChunk> chunks;
};

}  // namespace gangway::vfio_user
