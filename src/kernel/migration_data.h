// The data descriptor of one migration session (DAT-FD), with a time limit where a driver would let us wait.
//
// Thread-safety: everything may be called from any thread; who still reads keeps it open.
#pragma once

#include <chrono>
#include <cstddef>
#include <span>

#include <gangway/error.h>
#include <gangway/fd.h>
#include <gangway/migration.h>

namespace gangway::kernel {

class MigrationData {
 public:
  // `limit` is for each wait until there is something more to read, or room to write. Makes the descriptor
  // non-blocking.
  MigrationData(Fd file, std::chrono::milliseconds limit);

  // Less than asked only at an end: ENOMSG is the temporary one (DAT-EOS-PRECOPY), 0 bytes the final one
  // (DAT-EOS-STOP). ETIMEDOUT when nothing came within the limit.
  Result<StreamRead> read(std::span<std::byte> out);
  Result<void> write(std::span<const std::byte> in);
  Result<PrecopyInfo> precopy_info();

  [[nodiscard]] int descriptor() const { return file_.get(); }

 private:
  using Deadline = std::chrono::steady_clock::time_point;
  [[nodiscard]] Deadline next_deadline() const { return std::chrono::steady_clock::now() + limit_; }
  Result<void> wait_for(short events, Deadline deadline);

  Fd file_;
  std::chrono::milliseconds limit_;
};

}  // namespace gangway::kernel
