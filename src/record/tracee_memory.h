// Memory of a process that is traced. What cannot be read is not there: bytes come as far as they could be read.
//
// Thread-safety: pure, but for the process.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace gangway::record {

class TraceeMemory {
 public:
  explicit TraceeMemory(pid_t thread) : thread_(thread) {}

  [[nodiscard]] std::vector<std::byte> read(std::uint64_t address, std::size_t size) const;
  // Up to its NUL, at most 4096 bytes.
  [[nodiscard]] std::string read_text(std::uint64_t address) const;
  template <class T>
  [[nodiscard]] std::optional<T> read_as(std::uint64_t address) const {
    T value{};
    if (read_into(address, std::as_writable_bytes(std::span(&value, 1))) != sizeof value) return std::nullopt;
    return value;
  }
  // In pieces that stay where they are until the next; false when it ended early.
  bool each_piece(std::uint64_t address, std::uint64_t size,
                  const std::function<void(std::span<const std::byte>)>& piece) const;

 private:
  std::size_t read_into(std::uint64_t address, std::span<std::byte> into) const;
  pid_t thread_;
};

}  // namespace gangway::record
