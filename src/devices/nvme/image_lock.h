// The lock that keeps two controllers from writing one image, and passes from one to the other with a migration.
//
// It is an open file description lock on the whole file: it belongs to the descriptor, so it conflicts between two
// controllers of one process as between two processes, and the kernel drops it with the process that held it.
//
// Thread-safety: one thread at a time.
#pragma once

#include <filesystem>

#include <gangway/error.h>

namespace gangway::nvme {

enum class LockKind { Shared, Exclusive };

class ImageLock {
 public:
  // Borrows the descriptor; for Exclusive it must be open for writing.
  ImageLock(int fd, LockKind kind) : fd_(fd), kind_(kind) {}

  // EBUSY, naming the image, while another holds a lock that excludes this one. Holding it already is no error.
  Result<void> take(const std::filesystem::path& image);
  void release();
  [[nodiscard]] bool held() const { return held_; }

 private:
  int fd_;
  LockKind kind_;
  bool held_ = false;
};

}  // namespace gangway::nvme
