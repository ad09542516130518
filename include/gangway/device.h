// What a device author writes.
//
// A Device says what it is and answers accesses. A Migratable also says how it is stopped, saved and loaded. Neither
// ever sees a migration state: Endpoint and Migration own the state machine, call these in legal orders only, and keep
// every promise of the contract that does not depend on what the device is.
//
// Threads: the framework calls a device from one thread at a time, except where a comment says otherwise; which thread
// it is may change. A device may have threads of its own and use its Bus from them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <gangway/dma.h>
#include <gangway/error.h>
#include <gangway/fd.h>
#include <gangway/interrupts.h>
#include <gangway/pci.h>
#include <gangway/state_stream.h>
#include <gangway/types.h>

namespace gangway {

// A part of a region that the client may map, from a file that the device keeps (a memfd). Page aligned.
struct MappableArea {
  std::uint64_t offset = 0;  // into the region, bytes
  std::uint64_t size = 0;    // bytes
};

// Properties of a region beyond its BAR. A region without one is reached by accesses only.
struct RegionSpec {
  std::uint64_t size = 0;  // bytes; for BARs 0 means the BAR's size
  bool read = true;
  bool write = true;
  // A read may change the device (a FIFO): while the device is stopped such reads return all ones instead (STP-QUIET).
  bool reads_change_state = false;
  std::vector<MappableArea> mappable;  // within the region; all from `file` at file_offset + area.offset
  const Fd* file = nullptr;            // owned by the device; outlives the endpoint
  std::uint64_t file_offset = 0;
};

// A stretch of a region whose writes of any value may be signalled by an eventfd instead of a message
// (GET_REGION_IO_FDS).
struct IoEventfd {
  std::uint64_t offset = 0;
  std::uint64_t size = 0;       // 0: any access size
  const Fd* eventfd = nullptr;  // owned by the device; outlives the endpoint
};

struct DeviceInfo {
  PciSpec pci;
  std::map<RegionIndex, RegionSpec> regions;  // additions to what `pci` implies; device-specific regions
  std::map<RegionIndex, std::vector<IoEventfd>> io_eventfds;
  bool err_irq = false;  // has VFIO_PCI_ERR_IRQ_INDEX
  bool req_irq = false;  // has VFIO_PCI_REQ_IRQ_INDEX
};

// What a device reaches the client through. Outlives the device's use of it.
struct Bus {
  DmaSpace& dma;
  Interrupts& interrupts;
};

class Device {
 public:
  virtual ~Device() = default;

  // Called once, first. Constant for the device's life.
  [[nodiscard]] virtual DeviceInfo info() const = 0;

  // Called once, after info() and before anything else.
  virtual void attach(Bus bus) = 0;

  // An access to a region other than config space and MSI-X structures. The range lies within the region; the size is
  // whatever the client chose (1, 2, 4, 8 or more bytes, perhaps unaligned): refuse with EINVAL what the device has no
  // meaning for.
  virtual Result<void> read(RegionIndex region, std::uint64_t offset, std::span<std::byte> out) = 0;
  virtual Result<void> write(RegionIndex region, std::uint64_t offset, std::span<const std::byte> in) = 0;

  // Power-on state, in bounded time, from whatever came before, running or stopped. What was in flight is dropped or
  // done on return, and uses no pin any more. Afterwards the device is stopped as after stop(); the framework calls
  // start() next.
  virtual void reset() = 0;

  // The device may DMA and interrupt from here, until stop_initiating() or reset(). Any number of times: after
  // attach(), every reset(), every stop, and every migration that was cancelled. An error leaves it stopped.
  virtual Result<void> start() { return {}; }
};

class Migratable : public Device {
 public:
  [[nodiscard]] virtual StateIdentity identity() const = 0;

  // P2P: starts no DMA and raises no interrupt, still answers accesses (what they ask for waits for start()). What was
  // outstanding is done on return. An error leaves the device running.
  virtual Result<void> stop_initiating() = 0;

  // Internal state is frozen on return. Always after stop_initiating(). Until start() the framework lets no access
  // through that could change state, except that after stop() the device may be taken back to P2P without a call: then
  // accesses arrive again and what they ask for still waits for start().
  virtual Result<void> stop() = 0;

  // Complete state except state_memory(). The device is stopped.
  virtual Result<void> save(StateWriter& writer) const = 0;

  // Onto a device that reset() just cleared, stopped. The stream was complete and intact, yet its content comes from a
  // peer: check every value. After an error the framework calls reset().
  virtual Result<void> load(const StateReader& reader) = 0;

  // What a destination must have in common with this device (sizes, numbers that the guest has seen): sections that do
  // not change while the device lives, and may be asked for while it runs. They are sent before all else, in pre-copy
  // too, so that a wrong destination is found out before it takes any memory (DAT-IDENTITY). load() finds them among
  // the others.
  virtual Result<void> save_requirements(StateWriter&) const { return {}; }
  // At the destination, for every section as soon as it came, intact, and from a peer: an error refuses the stream.
  // What is no requirement that this device knows, it takes. Nothing else is called meanwhile, and nothing may be
  // changed.
  virtual Result<void> check_requirement(std::string_view, std::span<const std::byte>) const { return {}; }

  // Bytes that save() is going to write, about. The engine adds state_memory and framing.
  [[nodiscard]] virtual std::uint64_t state_size() const { return 4096; }

  // Bulk memory that the engine saves and loads. Constant for the device's life.
  [[nodiscard]] virtual std::vector<StateMemory> state_memory() { return {}; }

  // Dirty tracking of state_memory() for PRE_COPY. A device without it is sent whole in STOP_COPY, or in PRE_COPY and
  // again. track_dirty(true) starts with all clean; take_dirty moves out the dirty byte ranges of memory number
  // `index`, rounded as the device likes.
  struct DirtyRange {
    std::uint64_t offset = 0;
    std::uint64_t size = 0;
  };
  [[nodiscard]] virtual bool tracks_dirty() const { return false; }
  virtual void track_dirty(bool) {}
  [[nodiscard]] virtual std::vector<DirtyRange> take_dirty(std::size_t) { return {}; }
  [[nodiscard]] virtual std::uint64_t dirty_bytes() const { return 0; }

  // True once for each time that the device was set up anew while it is tracked, so that hardly anything sent before is
  // of use to a destination. All of state_memory() is then initial data again, and a client that asked to hear of it is
  // told (PRE-INFO-V2). For others what changed is dirty, as ever; so such a device must still report it by take_dirty.
  [[nodiscard]] virtual bool take_renewed() { return false; }
};

}  // namespace gangway
