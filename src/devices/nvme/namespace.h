// A namespace: a file or block device, cut into logical blocks.
//
// Thread-safety: constant, but for its lock, which is the I/O thread's.
#pragma once

#include <cstdint>
#include <filesystem>

#include <gangway/error.h>
#include <gangway/fd.h>

#include "devices/nvme/image_lock.h"

namespace gangway::nvme {

struct NamespaceOptions {
  std::filesystem::path path;      // a regular file or a block device
  std::uint32_t block_size = 512;  // bytes: 512 or 4096
  bool read_only = false;
};

class Namespace {
 public:
  // EINVAL for a block size that is neither, a path that is no file or block device, or one without a whole block;
  // the system's error when it cannot be opened.
  static Result<Namespace> open(const NamespaceOptions& options);

  [[nodiscard]] const std::filesystem::path& path() const { return path_; }
  [[nodiscard]] int fd() const { return file_.get(); }
  [[nodiscard]] std::uint64_t blocks() const { return blocks_; }
  [[nodiscard]] std::uint32_t block_size() const { return 1U << block_shift_; }
  [[nodiscard]] std::uint32_t block_shift() const { return block_shift_; }
  [[nodiscard]] bool read_only() const { return read_only_; }

  // [start, start + count) lies within the namespace.
  [[nodiscard]] bool contains(std::uint64_t start, std::uint64_t count) const {
    return start <= blocks_ && count <= blocks_ - start;
  }

  Result<void> lock() { return lock_.take(path_); }
  void unlock() { lock_.release(); }

 private:
  Namespace(std::filesystem::path path, Fd file, std::uint64_t blocks, std::uint32_t block_shift, bool read_only);

  std::filesystem::path path_;
  Fd file_;
  std::uint64_t blocks_;
  std::uint32_t block_shift_;
  bool read_only_;
  ImageLock lock_;
};

}  // namespace gangway::nvme
