// A device as its client sees it: regions with config space and MSI-X answered, interrupts, DMA space, DMA log,
// migration. Everything a transport needs and nothing of any transport.
//
// The wire server drives an Endpoint; so do tests, without a socket.
//
// A deriving endpoint may answer a client's call differently and forward the rest: see create(), make_migration(),
// make_front_end() and src/devices/faulty/.
//
// Thread-safety: one client at a time, one call at a time, except dma(), log() and interrupts(), which are safe from
// any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include <gangway/contract.h>
#include <gangway/device.h>
#include <gangway/dma.h>
#include <gangway/dma_log.h>
#include <gangway/error.h>
#include <gangway/interrupts.h>
#include <gangway/migration.h>
#include <gangway/pci.h>

namespace gangway {

struct EndpointOptions {
  // What to advertise; what the engine serves for any Migratable.
  MigrationFlags flags{.p2p = true, .pre_copy = true};
  // Through which revisions of the interface. None: as a device that cannot migrate.
  Revisions revisions;
  std::size_t max_dma_maps = DmaSpace::kDefaultMaxMaps;  // or the device's share of the process's: DmaSpace::max_maps
};

struct RegionInfo {
  std::uint64_t size = 0;
  bool read = false;
  bool write = false;
  std::vector<MappableArea> mappable;
  int file = -1;  // borrowed; for mmap
  std::uint64_t file_offset = 0;
  struct Type {  // VFIO_REGION_INFO_CAP_TYPE
    std::uint32_t type = 0;
    std::uint32_t subtype = 0;
  };
  std::optional<Type> type;
};

class RegionFrontEnd;

class Endpoint {
 public:
  // EINVAL when the device's info is inconsistent (regions that overlap MSI-X structures, a mappable area outside).
  // The device is attached, reset and started: RUNNING (FSM-INITIAL).
  static Result<std::unique_ptr<Endpoint>> create(std::unique_ptr<Device> device, EndpointOptions options = {});
  virtual ~Endpoint();
  Endpoint(const Endpoint&) = delete;
  Endpoint& operator=(const Endpoint&) = delete;

  [[nodiscard]] std::uint32_t region_count() const;  // highest index + 1; ≥ 9
  [[nodiscard]] std::uint32_t irq_count() const;     // all types, as the kernel counts; info() has 0 for absent ones
  // nullopt: no such region. A region that is not implemented has size 0.
  [[nodiscard]] std::optional<RegionInfo> region(std::uint32_t index) const;
  [[nodiscard]] std::span<const IoEventfd> io_eventfds(std::uint32_t region) const;

  // Errors: EINVAL for a region that does not exist, an access that crosses the end, or is refused by the
  // device; EPERM by the region's flags; EBUSY for a write while the device is stopped.
  virtual Result<void> read(std::uint32_t region, std::uint64_t offset, std::span<std::byte> out);
  virtual Result<void> write(std::uint32_t region, std::uint64_t offset, std::span<const std::byte> in);

  // Does not wait for a client that answers no DMA message before it is done (DmaMessenger::begin_grace).
  virtual Result<void> reset();

  [[nodiscard]] DmaSpace& dma() { return dma_; }
  [[nodiscard]] DmaLog& log() { return *log_; }
  [[nodiscard]] Interrupts& interrupts() { return *interrupts_; }
  [[nodiscard]] Migration* migration() { return migration_.get(); }  // nullptr: cannot migrate
  // Which revision's front end may reach migration(): a client that looks needs one that is exposed and not another one
  // in use; one that drives (sets a state, moves data) makes it the one in use until it is gone. ENOTTY, EBUSY
  // (V1-ONE).
  [[nodiscard]] bool exposes(Revision revision) const { return migration_ != nullptr && revisions_.has(revision); }
  virtual Result<void> look(Revision revision) const;
  Result<void> drive(Revision revision);
  [[nodiscard]] Device& device() { return *device_; }
  // Whether the client lets the device do DMA, by the COMMAND register. From the thread that writes it.
  [[nodiscard]] bool bus_master() const { return config_->bus_master(); }

  // The client is gone: what it set up goes with it, and the device is RUNNING for the next (WIR-GONE). Order: the
  // device is reset first (uses no client memory on return), then mappings, interrupts and the log go.
  virtual Result<void> client_gone();

 protected:
  // A deriving endpoint is constructed first, and then takes the device up as create() does: with the same errors.
  Endpoint(std::unique_ptr<DmaLog> log, std::size_t max_dma_maps);
  Result<void> take_up(std::unique_ptr<Device> device, const EndpointOptions& options);
  // Called once, by take_up(), for a device that migrates.
  virtual std::unique_ptr<Migration> make_migration(Migratable& device, MigrationFlags flags, Interrupts& interrupts);
  // Called for each revision with a region that is exposed. Errors: no memory for it.
  virtual Result<std::unique_ptr<RegionFrontEnd>> make_front_end(Revision revision);

 private:
  class MsixTable;

  enum class Direction : std::uint8_t { Read, Write };
  Result<void> check_access(Direction direction, std::uint32_t region, std::uint64_t offset, std::size_t size) const;
  Result<void> read_region(RegionIndex region, std::uint64_t offset, std::span<std::byte> out, bool stopped);
  Result<void> write_region(RegionIndex region, std::uint64_t offset, std::span<const std::byte> in, bool stopped);
  Result<void> write_config(std::uint64_t offset, std::span<const std::byte> in);
  Result<void> reset_all();
  Result<void> add_front_ends();
  // nullptr for a region of the device's own.
  [[nodiscard]] RegionFrontEnd* front_end(std::uint32_t region) const;
  Result<void> read_front_end(RegionFrontEnd& front_end, std::uint64_t offset, std::span<std::byte> out);
  Result<void> write_front_end(RegionFrontEnd& front_end, std::uint64_t offset, std::span<const std::byte> in);
  template <class Access>
  Result<void> with_device(Access&& access);
  // Calls `device(offset, size)` for what the device answers and `msix(offset, size)` for what the table does.
  template <class DeviceAccess, class MsixAccess>
  Result<void> split(RegionIndex region, std::uint64_t offset, std::size_t size, DeviceAccess&& device,
                     MsixAccess&& msix);

  // In the order of use: a device may use what stands above it until it is destroyed.
  std::unique_ptr<DmaLog> log_;
  DmaSpace dma_;
  std::unique_ptr<Interrupts> interrupts_;
  std::unique_ptr<Device> device_;
  DeviceInfo info_;
  std::vector<RegionInfo> regions_;
  std::unique_ptr<ConfigSpace> config_;
  std::unique_ptr<MsixTable> msix_;
  std::unique_ptr<Migration> migration_;
  Revisions revisions_;
  std::optional<Revision> driven_;                           // by the client that is here
  std::vector<std::unique_ptr<RegionFrontEnd>> front_ends_;  // of the last regions, in order
};

}  // namespace gangway
