// Write protection of memory by userfaultfd: the little of it that dirty tracking needs.
//
// Debian 12's headers know neither asynchronous write protection (Linux 6.6) nor its features for unpopulated pages, so
// the numbers are here. Source: Linux include/uapi/linux/userfaultfd.h, Documentation/admin-guide/mm/userfaultfd.rst.
//
// Thread-safety: protect may be called from several threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include <gangway/error.h>
#include <gangway/fd.h>

namespace gangway::guest {

class Userfaultfd {
 public:
  enum class Mode {
    Asynchronous,  // the kernel lets the write through and remembers it
    Synchronous,   // the writer waits until a handler of messages lifted the protection
  };
  // ENOSYS or EPERM where the kernel or the machine's settings do not offer it.
  static Result<Userfaultfd> open(Mode mode);

  // Whole pages. From here on they can be protected.
  Result<void> watch(std::span<std::byte> memory);
  Result<void> unwatch(std::span<std::byte> memory);

  // On: the next write to each page is caught, of pages that do not exist yet too. Off: lifts it and wakes who waits.
  Result<void> protect(std::span<std::byte> memory, bool on);

  [[nodiscard]] int get() const { return file_.get(); }

 private:
  explicit Userfaultfd(Fd file) : file_(std::move(file)) {}
  Fd file_;
};

}  // namespace gangway::guest
