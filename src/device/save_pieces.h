// Bytes of a stream that were produced and not yet read: small pieces are owned, large ones stay where they lie.
//
// A transport sends from the spans it is given, so nothing large is copied between the device's memory and the socket.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <span>
#include <vector>

namespace gangway {

class SavePieces {
 public:
  // At least this large is worth a span of its own.
  static constexpr std::size_t kReferenceSize = std::size_t{64} * 1024;

  void append_copy(std::span<const std::byte> bytes);

  // Bytes that stay as and where they are: large ones, and what continues such, are not copied.
  void append(std::span<const std::byte> bytes);

  // Owned bytes for the caller to fill before the next call.
  [[nodiscard]] std::span<std::byte> append_room(std::size_t size);

  // Takes out the first min(max, size()) bytes, as spans that are valid until the next call other than a const one.
  [[nodiscard]] std::span<const std::span<const std::byte>> take(std::size_t max);

  [[nodiscard]] std::uint64_t size() const { return size_; }  // bytes not yet taken
  [[nodiscard]] std::uint64_t taken() const { return total_ - size_; }
  [[nodiscard]] std::uint64_t total() const { return total_; }  // bytes ever appended

 private:
  struct Piece {
    std::vector<std::byte> owned;  // empty: a reference
    std::span<const std::byte> bytes;
  };
  void drop_taken();
  void grow(std::size_t bytes);
  Piece& start_owned();

  std::deque<Piece> pieces_;
  std::size_t taken_ = 0;   // bytes at the front that were handed out by the last take()
  std::uint64_t size_ = 0;  // bytes after those
  std::uint64_t total_ = 0;
  std::vector<std::span<const std::byte>> parts_;
  std::vector<std::byte> spare_;  // a dropped piece's buffer, for the next
};

}  // namespace gangway
