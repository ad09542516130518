// Memory that both peers of a connection have mapped, for data that would otherwise be copied through the socket.
//
// It lies in a file of the server's making that is sealed: nobody can shorten it, so no access to it ever faults. What
// the peer writes into it, and when, is nobody's to say: bytes are copied out before they are looked at, and what was
// looked at is never read again.
//
// Thread-safety: as a span.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>

#include <gangway/error.h>
#include <gangway/fd.h>

namespace gangway::vfio_user {

class SharedMemory {
 public:
  // New, zeroed, resident.
  static Result<SharedMemory> create(std::size_t size);
  // Of a descriptor that the peer sent. EPROTO unless the file is sealed against shortening and at least that long.
  static Result<SharedMemory> adopt(Fd file, std::size_t size);

  SharedMemory(SharedMemory&& other) noexcept
      : file_(std::move(other.file_)), bytes_(std::exchange(other.bytes_, {})) {}
  SharedMemory& operator=(SharedMemory&&) = delete;
  ~SharedMemory();

  [[nodiscard]] int file() const { return file_.get(); }
  [[nodiscard]] std::size_t size() const { return bytes_.size(); }
  // nullopt when it does not lie wholly within.
  [[nodiscard]] std::optional<std::span<std::byte>> stretch(std::uint64_t offset, std::uint64_t size) const;

 private:
  SharedMemory(Fd file, std::span<std::byte> bytes) : file_(std::move(file)), bytes_(bytes) {}
  static Result<SharedMemory> map(Fd file, std::size_t size);

  Fd file_;
  std::span<std::byte> bytes_;
};

}  // namespace gangway::vfio_user
