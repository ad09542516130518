// Drives one device, whichever transport is under it: a vfio-user socket or the kernel's /dev/vfio.
//
// Tools that test, migrate or record devices know only this, so that a kernel driver and a vfio-user server meet the
// same tests. The calls are those of VFIO; the typed ones below them are the same feature calls with the structures
// filled in.
//
// Source: Linux include/uapi/linux/vfio.h; QEMU docs/interop/vfio-user.rst.
// Thread-safety: calls may come from several threads; they are carried out one after the other unless a transport says
// otherwise.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <gangway/contract.h>
#include <gangway/dma.h>
#include <gangway/error.h>
#include <gangway/fd.h>
#include <gangway/interrupts.h>
#include <gangway/migration.h>
#include <gangway/types.h>

namespace gangway {

// VFIO_DEVICE_FEATURE_* indices.
enum class Feature : std::uint16_t {
  Migration = 1,
  MigDeviceState = 2,
  DmaLoggingStart = 6,
  DmaLoggingStop = 7,
  DmaLoggingReport = 8,
  MigDataSize = 9,
  MigPrecopyInfoV2 = 12,
};

class DeviceHandle {
 public:
  virtual ~DeviceHandle() = default;

  struct Info {
    bool reset = false;  // VFIO_DEVICE_FLAGS_RESET
    bool pci = false;    // VFIO_DEVICE_FLAGS_PCI
    std::uint32_t regions = 0;
    std::uint32_t irqs = 0;
  };
  virtual Result<Info> info() = 0;

  struct Region {
    std::uint64_t size = 0;
    bool read = false;
    bool write = false;
    bool mmap = false;
    std::vector<MappableArea> areas;  // what may be mapped; the whole region if `mmap` and empty
    std::uint64_t mmap_offset = 0;
    std::optional<std::uint32_t> type;  // VFIO_REGION_INFO_CAP_TYPE
    std::optional<std::uint32_t> subtype;
    std::shared_ptr<const Fd> file;  // for mmap
  };
  virtual Result<Region> region(std::uint32_t index) = 0;
  virtual Result<IrqInfo> irq(std::uint32_t index) = 0;

  virtual Result<void> read(std::uint32_t region, std::uint64_t offset, std::span<std::byte> out) = 0;
  virtual Result<void> write(std::uint32_t region, std::uint64_t offset, std::span<const std::byte> in) = 0;

  struct RegionWrite {
    std::uint32_t region = 0;
    std::uint64_t offset = 0;
    std::span<const std::byte> data;  // 1 to 8 bytes
  };
  // Carries out the writes in order, several in a message where the transport has that (VFIO_USER_REGION_WRITE_MULTI).
  // How many were made: fewer than `writes` where the next one was refused; an error when the first was. EINVAL, and
  // nothing written, when one has not 1 to 8 bytes.
  virtual Result<std::size_t> write_multi(std::span<const RegionWrite> writes);

  // A stretch of a region where a write may be told by a descriptor instead of a call.
  struct IoFd {
    std::uint64_t offset = 0;
    std::uint64_t size = 0;  // bytes of the write; 0: any
    std::uint32_t type = 0;  // VFIO_USER_IO_FD_TYPE_*; 0: an eventfd
    std::uint32_t flags = 0;
    std::uint64_t data = 0;          // eventfd: the value that the write must have, if the flags say so
    std::shared_ptr<const Fd> file;  // several stretches may have one
  };
  // Those of a region, as many as the transport has descriptors for (VFIO_USER_DEVICE_GET_REGION_IO_FDS). ENOTTY where
  // the transport has none.
  virtual Result<std::vector<IoFd>> io_fds(std::uint32_t region);

  virtual Result<void> set_irqs(IrqSet request) = 0;

  // `memory` is the caller's mapping of the range (needed by the kernel, and to answer DMA_READ/WRITE when `file` is
  // -1); `file` and `offset` let a vfio-user server map it. The caller keeps `memory` until the unmap returned.
  struct DmaMap {
    IovaRange range;
    DmaPermissions permissions{.read = true, .write = true};
    std::span<std::byte> memory;
    int file = -1;
    std::uint64_t offset = 0;
  };
  virtual Result<void> dma_map(const DmaMap& request) = 0;
  virtual Result<void> dma_unmap(IovaRange range) = 0;
  // As dma_unmap, and sets bits in `bitmap` for what the device wrote there since the last report, to its last write
  // (bit n is range.start + n * page_size); never clears one. Needs DMA logging: EINVAL, and nothing unmapped, without
  // it, for a bitmap that is too short and for a page size that is no power of two from 4096 on. E2BIG for a bitmap
  // longer than the transport carries. ENOTTY where the transport cannot.
  virtual Result<void> dma_unmap_reporting(IovaRange range, std::uint64_t page_size, std::span<std::uint64_t> bitmap);
  // All that is mapped; not while another call maps. ENOTTY where the transport cannot.
  virtual Result<void> dma_unmap_all();

  virtual Result<void> reset() = 0;

  // VFIO_DEVICE_FEATURE. `data` is the structure after the header, in and out; the reply's structure is returned.
  // ENOTTY when the device has no such feature.
  virtual Result<std::vector<std::byte>> feature_get(Feature feature, std::span<const std::byte> data,
                                                     std::size_t reply_size) = 0;
  virtual Result<std::vector<std::byte>> feature_set(Feature feature, std::span<const std::byte> data) = 0;
  virtual Result<void> feature_probe(Feature feature, bool get, bool set) = 0;

  // --- migration ---
  virtual Result<MigrationFlags> migration_flags();
  virtual Result<DeviceState> state();
  virtual Result<void> set_state(DeviceState state);
  // Any number, for tests of FSM-INVALID.
  virtual Result<void> set_state_number(std::uint32_t state);
  virtual Result<std::uint64_t> data_size();

  // A read that yields nothing at all says which end it met; see tells_ends_apart().
  virtual Result<StreamRead> read_data(std::span<std::byte> out) = 0;
  virtual Result<void> write_data(std::span<const std::byte> in) = 0;
  // As read_data, for a caller that reads on to the end of the data: a transport may have more reads under way when it
  // returns. The stream is the same. What was asked for ahead counts as read for data_size and precopy_info, is what
  // the next read of either kind yields, and is dropped when the device leaves the saving group.
  virtual Result<StreamRead> read_ahead(std::span<std::byte> out) { return read_data(out); }
  // As write_data, but a transport may return before the device has taken `in`, which is the caller's again. An error
  // is told once, by whichever comes first: a later write, settle, or a change of state, which is then not made.
  virtual Result<void> write_behind(std::span<const std::byte> in) { return write_data(in); }
  // Waits until the device has taken what was written.
  virtual Result<void> settle() { return {}; }
  virtual Result<PrecopyInfo> precopy_info() = 0;  // ENOTTY where the transport cannot ask
  // Closes the caller's end of the data session, which does not change the state (DAT-FD). ENOTTY where the transport
  // has nothing to close.
  virtual Result<void> close_data();
  // The descriptor of the last session that a SET began, which stays the handle's: to look at what it is (DAT-FD).
  // ENOTTY where the transport has none, another error where no session was begun or it was closed.
  virtual Result<int> data_descriptor();
  // Whether StreamRead::end repeats what the device said. False where the transport has one word for both ends, so that
  // read_data goes by the state.
  [[nodiscard]] virtual bool tells_ends_apart() const { return true; }

  // --- DMA logging ---
  virtual Result<std::uint64_t> dma_logging_start(std::span<const IovaRange> ranges, std::uint64_t page_size);
  virtual Result<void> dma_logging_stop();
  // Sets bits in `bitmap` (bit n is iova + n * page_size) and never clears one.
  virtual Result<void> dma_logging_report(IovaRange range, std::uint64_t page_size, std::span<std::uint64_t> bitmap);

  // For messages: "vfio-user:/run/nvme.sock".
  [[nodiscard]] virtual std::string target() const = 0;

 protected:
  [[nodiscard]] Result<void> check(std::span<const RegionWrite> writes) const;
};

struct OpenOptions {
  std::chrono::milliseconds timeout{5000};  // for one reply
  std::chrono::microseconds spin{50};       // poll this long before sleeping
};

// Targets: "vfio-user:SOCKET"; "vfio:ADDRESS" and "vfio:UUID", by a device's IOMMU group and a container;
// "/dev/vfio/devices/vfioN", by iommufd. EINVAL for what is no target, with the forms in the message. A handle of the
// kernel's maps only memory of this process; what the kernel lacks, or who may not, is said in the message.
Result<std::unique_ptr<DeviceHandle>> open_device(std::string_view target, const OpenOptions& options = {});

}  // namespace gangway
