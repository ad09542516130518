// One operation on an image, carried through whatever the system makes of it: short transfers are continued, refused
// ways of zeroing are replaced by the next best.
//
// Thread-safety: one thread at a time; whoever carries it out hands it on. Only `abandoned` may be set meanwhile.
#pragma once

#include <sys/uio.h>

#include <atomic>
#include <cstdint>
#include <span>
#include <vector>

namespace gangway::nvme {

class ImageRequest {
 public:
  enum class Operation : std::uint8_t {
    Read,
    Write,
    WriteDurably,  // the data is on stable storage when it completes
    Flush,         // what was written before is on stable storage when it completes
    Zero,          // keeps the space allocated where that can be done
    Deallocate,    // gives the space back where that can be done; reads as zeros
  };

  // What the system is asked for next.
  enum class Step : std::uint8_t { Read, Write, WriteDurably, Sync, ZeroRange, PunchHole };

  // Transfers `buffers`, whose bytes must stay until it is done.
  void prepare_transfer(Operation operation, std::uint32_t file, std::uint64_t offset, std::span<const iovec> buffers);
  void prepare_flush(std::uint32_t file);
  void prepare_clear(Operation operation, std::uint32_t file, std::uint64_t offset, std::uint64_t length);

  [[nodiscard]] Step step() const { return step_; }
  [[nodiscard]] std::uint32_t file() const { return file_; }
  [[nodiscard]] std::uint64_t offset() const { return offset_; }
  [[nodiscard]] std::uint64_t length() const { return length_; }  // of ZeroRange and PunchHole
  [[nodiscard]] std::span<const iovec> buffers() const;           // of Read and Write; never empty

  // Takes what the system answered to the step: bytes moved, or -errno. True when the request is done, false when
  // step() is to be carried out next.
  bool advance(std::int64_t answer);

  // 0, or the errno it failed with. A read beyond the end of a shrunk image is ENODATA.
  [[nodiscard]] int error() const { return error_; }

  // Nobody waits for it any more: it ends with the step in progress.
  void abandon() { abandoned_.store(true, std::memory_order_relaxed); }

 private:
  bool advance_transfer(std::int64_t moved);
  bool advance_clear(std::int64_t answer);
  void next_zeros();
  bool done(int error);

  Operation operation_ = Operation::Flush;
  Step step_ = Step::Sync;
  std::uint32_t file_ = 0;
  int error_ = 0;
  int interruptions_ = 0;
  std::uint64_t offset_ = 0;
  std::uint64_t length_ = 0;
  std::vector<iovec> buffers_;
  std::size_t first_buffer_ = 0;
  std::atomic<bool> abandoned_{false};
};

}  // namespace gangway::nvme
