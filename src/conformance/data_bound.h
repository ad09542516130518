// How much migration data a session may yield before it counts as one that never ends.
//
// The device itself says how much there is (MIG_DATA_SIZE), and is taken at its word with much to spare; a stream saved
// before is as good a measure. It is asked only about a stream that is longer than usual, so that a short one is read
// by reads alone, as some userspaces do.
//
// Thread-safety: one thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

#include <gangway/error.h>

namespace gangway::conformance {

class DataBound {
 public:
  using AskSize = std::function<Result<std::uint64_t>()>;  // MIG_DATA_SIZE

  // `known`: bytes of a stream that this device gave before, 0 if it gave none. `most_kept`: bytes that there is memory
  // for.
  explicit DataBound(std::size_t known, std::size_t most_kept = memory_for_a_stream())
      : known_(known), most_kept_(most_kept) {}

  // Whether a session may go on after so many bytes. ENOSPC: it should have ended long ago. EFBIG: what there is does
  // not fit this machine's memory, where streams are kept; that is no fault of the device.
  Result<void> admit(std::size_t bytes, const AskSize& ask);

  static constexpr std::size_t kUsual = 4U << 20;
  static constexpr std::size_t kUnannounced = 1U << 30;  // of a device that does not say how much there is

 private:
  static std::size_t memory_for_a_stream();

  std::size_t known_;
  std::size_t most_kept_;
  std::size_t bound_ = kUsual;
  std::string said_;  // how much there is, by the device; empty: it was not asked
};

}  // namespace gangway::conformance
