// A recording in a file: written so that whatever ends the writer leaves a file which can be read up to its last whole
// record.
//
// Every record has its length and a checksum in front. A writer appends and never goes back. The space that it has in
// advance is zero, so a file whose writer was killed ends in zeros, and one whose writer closed it does not.
//
// Source: docs/trace.md, which has the layout.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <gangway/error.h>
#include <gangway/fd.h>

#include "record/codec.h"
#include "record/record.h"

namespace gangway::record {

inline constexpr std::array<char, 12> kMagic{'g', 'a', 'n', 'g', 'w', 'a', 'y', '-', 't', 'r', 'c', '\n'};
inline constexpr std::uint32_t kFormatRevision = 1;
inline constexpr std::size_t kMostRecord = 1U << 20;  // bytes of a body
inline constexpr std::size_t kMostPayloadPiece = 256U << 10;
inline constexpr std::size_t kMostPayload = 1U << 30;  // bytes of one payload that a reader puts together

// In front of every body.
struct Frame {
  std::uint32_t size = 0;  // of the body
  std::uint16_t type = 0;
  std::uint16_t zero = 0;
  std::uint64_t checksum = 0;
};
static_assert(sizeof(Frame) == 16);
std::uint64_t checksum(std::uint16_t type, std::span<const std::byte> body);

// Appends records to a file of its own. Memory of the file is mapped, so that a record costs no call and is the
// kernel's as soon as it is written. When the disk is full writing ends, with the reason in failure().
//
// Thread-safety: one thread at a time.
class TraceWriter {
 public:
  // EEXIST when there is such a file: a recording is never overwritten.
  static Result<TraceWriter> create(const std::filesystem::path& path, const Meta& meta);
  TraceWriter(TraceWriter&& other) noexcept;
  TraceWriter& operator=(TraceWriter&&) = delete;
  ~TraceWriter();  // as close()

  template <class T>
  void write(const T& record) {
    append(encoder_.encode(record));
  }
  // A piece of the payload of the record of this stream that is written next. A stream is one direction of one socket,
  // or one thread.
  void write_payload(std::uint64_t stream, std::span<const std::byte> piece);

  // Ends the file where its last record does. The first error of all; further writes do nothing.
  Result<void> close();
  [[nodiscard]] const std::optional<Error>& failure() const { return failure_; }

 private:
  TraceWriter(Fd file, std::string path) : file_(std::move(file)), path_(std::move(path)) {}
  void append(Encoded record);
  [[nodiscard]] Result<void> reserve(std::size_t size);
  void unmap();

  Fd file_;
  std::string path_;
  Encoder encoder_;
  std::span<std::byte> window_;     // of the file, mapped
  std::uint64_t window_begin_ = 0;  // in the file
  std::uint64_t end_ = 0;           // of what is written
  std::optional<Error> failure_;
};

// Reads records in order.
//
// Thread-safety: one thread at a time.
class TraceReader {
 public:
  // EINVAL for what is no recording, or one of another revision.
  static Result<TraceReader> open(const std::filesystem::path& path);
  // Of bytes in memory, which the caller keeps.
  static Result<TraceReader> read(std::span<const std::byte> bytes);

  [[nodiscard]] const Meta& meta() const { return meta_; }

  // nullopt at the end. A whole record of a type that this reader does not know is skipped; a whole one that does not
  // decode is EPROTO.
  Result<std::optional<Record>> next();
  // The next record is the first one again.
  void rewind();

  // After the end: what is missing there, in words; nullopt for a file that its writer closed.
  [[nodiscard]] const std::optional<std::string>& cut() const { return cut_; }

 private:
  struct PartialPayload {
    std::uint64_t stream = 0;
    std::vector<std::byte> bytes;
  };

  TraceReader() = default;
  Result<void> begin();
  [[nodiscard]] std::span<const std::byte> fetch(std::size_t size);
  [[nodiscard]] std::optional<Encoded> next_frame();
  Result<void> collect(std::span<const std::byte> body);
  void attach(std::uint64_t stream, Payload& payload);

  Fd file_;
  std::vector<std::byte> buffer_;      // of the file, read ahead
  std::span<const std::byte> memory_;  // of the caller, without a file
  std::span<const std::byte> bytes_;   // not yet consumed, in buffer_ or the caller's memory
  std::uint64_t offset_ = 0;           // of bytes_ in the file
  std::uint64_t first_ = 0;            // where the record behind Meta begins
  std::uint64_t records_ = 0;
  Meta meta_;
  std::vector<PartialPayload> partial_;
  std::optional<std::string> cut_;
};

}  // namespace gangway::record
