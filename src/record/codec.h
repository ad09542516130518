// Records as bytes, and back. docs/trace.md has the layout of each.
//
// Fields may be added behind those that a type has: a reader ignores what follows the fields that it knows.
//
// Thread-safety: one thread at a time for an Encoder; decode() is pure.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include <gangway/error.h>

#include "record/record.h"

namespace gangway::record {

enum class RecordType : std::uint16_t {
  Meta = 1,
  Message = 2,
  Connection = 3,
  Process = 4,
  Call = 5,
  Note = 6,
  PayloadPiece = 7,
};

struct Encoded {
  std::uint16_t type = 0;
  std::span<const std::byte> body;  // valid until the encoder's next call
};

class Encoder {
 public:
  Encoded encode(const Meta& meta);
  Encoded encode(const MessageRecord& message);
  Encoded encode(const ConnectionRecord& connection);
  Encoded encode(const ProcessRecord& process);
  Encoded encode(const CallRecord& call);
  Encoded encode(const NoteRecord& note);
  Encoded encode(const Record& record);
  Encoded encode_piece(std::uint64_t stream, std::span<const std::byte> piece);

 private:
  Encoded encoded(RecordType type) const { return {static_cast<std::uint16_t>(type), bytes_}; }
  std::vector<std::byte> bytes_;
};

// EPROTO for a body that is too short or has a value which means nothing. Payloads have no bytes yet.
Result<Meta> decode_meta(std::span<const std::byte> body);
Result<Record> decode(RecordType type, std::span<const std::byte> body);

// Which pieces of payload belong to a record.
std::uint64_t stream_of(const MessageRecord& message);
std::uint64_t stream_of(const CallRecord& call);

}  // namespace gangway::record
