// Client memory for tests: a memfd and a view of it, as a client has both.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <span>

#include <gangway/fd.h>

namespace gangway::test {

class MemoryFile {
 public:
  explicit MemoryFile(std::size_t size) : fd_(::memfd_create("client", MFD_CLOEXEC | MFD_ALLOW_SEALING)), size_(size) {
    if (::ftruncate(fd_.get(), static_cast<off_t>(size)) != 0) ::abort();
    void* base = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd_.get(), 0);
    if (base == MAP_FAILED) ::abort();
    bytes_ = std::span(static_cast<std::byte*>(base), size);
  }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;
  ~MemoryFile() { ::munmap(bytes_.data(), size_); }

  [[nodiscard]] std::span<std::byte> bytes() const { return bytes_; }
  [[nodiscard]] int get() const { return fd_.get(); }
  // A descriptor to give away.
  [[nodiscard]] Fd file() const { return Fd(::dup(fd_.get())); }

 private:
  Fd fd_;
  std::size_t size_;
  std::span<std::byte> bytes_;
};

}  // namespace gangway::test
