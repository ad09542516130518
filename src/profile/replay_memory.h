// The memory that a replayed client maps for DMA: of its own, zero, as large as the recording's was.
//
// Thread-safety: one thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>

#include <gangway/device_handle.h>
#include <gangway/fd.h>

namespace gangway::profile {

class ReplayMemory {
 public:
  ReplayMemory() = default;
  ~ReplayMemory();
  ReplayMemory(const ReplayMemory&) = delete;
  ReplayMemory& operator=(const ReplayMemory&) = delete;

  // What is not touched costs nothing; beyond this nobody's recording is believed.
  static constexpr std::uint64_t kMost = 1ULL << 40;

  // A new part for the range; ENOMEM beyond kMost. `with_file`: the device may map it.
  Result<DeviceHandle::DmaMap> add(IovaRange range, DmaPermissions permissions, bool with_file);
  void remove(IovaRange range);
  [[nodiscard]] std::vector<IovaRange> ranges() const;

 private:
  struct Part {
    std::span<std::byte> bytes;
    Fd file;
  };
  std::map<std::uint64_t, Part> parts_;  // by IOVA
  std::uint64_t size_ = 0;
};

}  // namespace gangway::profile
