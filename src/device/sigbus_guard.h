// Keeps the process alive when a mapped file turns out shorter than its mapping.
//
// A client may shrink a file after we mapped it; touching what is gone raises SIGBUS. For ranges registered here the
// whole range is replaced by zeroed memory, and the range's flag is set. Any other SIGBUS goes to the handler that was
// there before.
//
// The whole, since a part would be a mapping more: a client that shrinks all its files would take twice the mappings it
// may have (MapBudget), and where the process has as many as the kernel allows, nothing could be replaced.
//
// The handler is installed with the first registration, once for the process. A registration costs the same however
// many there are.
//
// Thread-safety: everything here may be called from any thread. A range must be registered before it is touched and
// not be touched any more when its registration ends.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include <gangway/error.h>

namespace gangway {

class SigbusGuard {
 public:
  static constexpr std::size_t kMaxRanges = std::size_t{1} << 18;

  // `range` is a whole mapping, in whole pages of it. `failed` outlives the guard. ENOSPC when too many ranges are
  // registered.
  static Result<SigbusGuard> watch(std::span<std::byte> range, std::atomic<bool>& failed);

  SigbusGuard() = default;
  SigbusGuard(SigbusGuard&& other) noexcept : slot_(std::exchange(other.slot_, kNoSlot)) {}
  SigbusGuard& operator=(SigbusGuard&& other) noexcept {
    if (this != &other) {
      end();
      slot_ = std::exchange(other.slot_, kNoSlot);
    }
    return *this;
  }
  ~SigbusGuard() { end(); }

 private:
  static constexpr std::size_t kNoSlot = ~std::size_t{0};
  explicit SigbusGuard(std::size_t slot) : slot_(slot) {}
  void end() noexcept;

  std::size_t slot_ = kNoSlot;
};

}  // namespace gangway
