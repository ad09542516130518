// The machine that moves, as migration sees it: memory, what wrote to it, devices, CPUs.
//
// Migration knows no VMM and no device model; whoever owns a machine implements this and can move it. The same
// interface serves both ends, so that a machine which arrived can leave again.
//
// Thread-safety: the implementer may rely on calls coming from one thread at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <gangway/device_handle.h>
#include <gangway/error.h>
#include <gangway/types.h>

namespace gangway::migrate {

// The unit of memory migration and of every dirty bitmap, bytes.
inline constexpr std::uint64_t kPageSize = 4096;

// A block of guest RAM. Both sides have the same blocks in the same order.
struct MemoryBlock {
  std::string name;            // "ram0"; the same on both sides, 1..64 bytes
  IovaRange iova;              // identity: guest-physical address = IOVA; a multiple of kPageSize
  std::span<std::byte> bytes;  // the mapping, iova.size long, page aligned
  // What `bytes` maps, borrowed; -1: unknown. With it pages that were never written are found without reading them.
  int file = -1;
  std::uint64_t file_offset = 0;

  [[nodiscard]] std::uint64_t pages() const { return bytes.size() / kPageSize; }
};

// Pages that the machine's own CPUs wrote. What devices wrote comes from their DMA logs.
class DirtyTracker {
 public:
  virtual ~DirtyTracker() = default;

  // From the return on every write is seen.
  virtual Result<void> start() = 0;

  // ORs the pages of memory()[block] that were written since start() or the last call into `bitmap` (bit n is page n
  // of the block, pages() bits) and re-arms them. A write after the return is seen by the next call.
  virtual Result<void> collect(std::size_t block, std::span<std::uint64_t> bitmap) = 0;

  virtual Result<void> stop() = 0;

  // "write-protect scan", "userfaultfd", "workload".
  [[nodiscard]] virtual std::string_view method() const = 0;
};

struct MachineDevice {
  std::string id;  // "nvme0"; the same on both sides, 1..64 bytes
  DeviceHandle* handle = nullptr;
};

class Machine {
 public:
  virtual ~Machine() = default;

  // Constant during a migration.
  [[nodiscard]] virtual std::span<const MemoryBlock> memory() const = 0;
  [[nodiscard]] virtual DirtyTracker& dirty_tracker() = 0;
  [[nodiscard]] virtual std::span<const MachineDevice> devices() const = 0;

  // The CPUs stop: on return nothing writes memory or touches devices.
  virtual Result<void> pause() = 0;
  virtual Result<void> resume() = 0;

  // What is neither memory nor device. The machine is paused; small (at most 16 MiB).
  virtual Result<std::vector<std::byte>> save_cpus() = 0;
  virtual Result<void> load_cpus(std::span<const std::byte> state) = 0;

  // Destination, before device `index` enters RESUMING: the machine sets its interrupts (SET_IRQS) and DMA maps up as
  // they shall be when it runs. The config space is restored by the migration, through the handle.
  virtual Result<void> prepare_device(std::size_t index) = 0;
};

}  // namespace gangway::migrate
