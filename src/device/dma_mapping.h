// One piece of client memory: its IOVAs, what the device may do there, and where it is mapped in this process.
//
// A mapping that came with a file is mapped for its whole life and counts who uses it, so that it goes only when
// nobody does.
//
// Thread-safety: immutable but for the pins, which are atomic.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include <gangway/dma.h>

#include "device/sigbus_guard.h"

namespace gangway::detail {

class DmaMapping {
 public:
  // Maps the file. Errors as DmaSpace::map has them. `failed` outlives the mapping.
  static Result<std::unique_ptr<DmaMapping>> create(const DmaSpace::MapRequest& request, std::atomic<bool>& failed);
  ~DmaMapping();
  DmaMapping(const DmaMapping&) = delete;
  DmaMapping& operator=(const DmaMapping&) = delete;

  [[nodiscard]] const IovaRange& range() const { return range_; }
  [[nodiscard]] bool contains(std::uint64_t iova) const { return iova - range_.start.value < range_.size; }
  [[nodiscard]] bool permits(DmaAccess access) const {
    return access == DmaAccess::Read ? permissions_.read : permissions_.write;
  }
  // False: reached by messages.
  [[nodiscard]] bool direct() const { return !bytes_.empty(); }
  // The bytes at an IOVA inside, `length` of them.
  [[nodiscard]] std::span<std::byte> at(std::uint64_t iova, std::size_t length) const {
    return bytes_.subspan(iova - range_.start.value, length);
  }

  void pin() { pins_.fetch_add(1, std::memory_order_acquire); }
  // True when the last pin of a mapping went that somebody waits to close. The mapping may be gone on return.
  [[nodiscard]] bool unpin() { return pins_.fetch_sub(1, std::memory_order_acq_rel) == (kClosing | 1); }
  // From here nobody pins.
  void close() { pins_.fetch_or(kClosing, std::memory_order_acq_rel); }
  [[nodiscard]] bool unused() const { return pins_.load(std::memory_order_acquire) == kClosing; }

 private:
  static constexpr std::uint64_t kClosing = std::uint64_t{1} << 63;
  DmaMapping(IovaRange range, DmaPermissions permissions) : range_(range), permissions_(permissions) {}

  const IovaRange range_;
  const DmaPermissions permissions_;
  std::span<std::byte> mapped_;  // whole pages of the file
  std::span<std::byte> bytes_;   // the range's bytes in it
  SigbusGuard guard_;
  std::atomic<std::uint64_t> pins_{0};
};

}  // namespace gangway::detail
