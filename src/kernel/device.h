// Drives a device of the kernel's VFIO, whichever way it was opened.
//
// Thread-safety: everything may be called from any thread, at the same time; the driver keeps its own order.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include <gangway/device_handle.h>

#include "kernel/migration_data.h"
#include "kernel/opening.h"
#include "kernel/uapi.h"

namespace gangway::kernel {

class Device : public DeviceHandle {
 public:
  // "/dev/vfio/devices/vfio0"
  static Result<std::unique_ptr<Device>> open_node(std::string_view node, const OpenOptions& options);
  // "0000:01:00.0", or a mediated device's UUID
  static Result<std::unique_ptr<Device>> open_named(std::string_view name, const OpenOptions& options);

  Result<Info> info() override;
  Result<Region> region(std::uint32_t index) override;
  Result<gangway::IrqInfo> irq(std::uint32_t index) override;
  Result<void> read(std::uint32_t region, std::uint64_t offset, std::span<std::byte> out) override;
  Result<void> write(std::uint32_t region, std::uint64_t offset, std::span<const std::byte> in) override;
  Result<void> set_irqs(gangway::IrqSet request) override;
  Result<void> dma_map(const DmaMap& request) override;
  Result<void> dma_unmap(IovaRange range) override;
  Result<void> reset() override;

  Result<std::vector<std::byte>> feature_get(Feature feature, std::span<const std::byte> data,
                                             std::size_t reply_size) override;
  // A data descriptor in the reply belongs to the handle.
  Result<std::vector<std::byte>> feature_set(Feature feature, std::span<const std::byte> data) override;
  Result<void> feature_probe(Feature feature, bool get, bool set) override;

  Result<StreamRead> read_data(std::span<std::byte> out) override;
  Result<void> write_data(std::span<const std::byte> in) override;
  Result<PrecopyInfo> precopy_info() override;
  Result<void> close_data() override;
  Result<int> data_descriptor() override;

  Result<std::uint64_t> dma_logging_start(std::span<const IovaRange> ranges, std::uint64_t page_size) override;
  Result<void> dma_logging_report(IovaRange range, std::uint64_t page_size, std::span<std::uint64_t> bitmap) override;

  [[nodiscard]] std::string target() const override { return target_; }

 private:
  // Where a region lies in the device's file.
  struct Place {
    std::uint64_t offset = 0;
    std::uint64_t size = 0;
  };

  Device(std::string target, Opened opened, const OpenOptions& options);
  static Result<std::unique_ptr<Device>> create(std::string target, Result<Opened> opened, const OpenOptions& options);

  [[nodiscard]] std::unexpected<Error> in_words(std::string_view doing, int error_number = errno) const;
  [[nodiscard]] std::unexpected<Error> in_words(std::string_view doing, Error error) const;
  Result<std::vector<std::byte>> describe_region(std::uint32_t index);
  // Of an access, checked: what lies beyond a region is another one.
  Result<std::uint64_t> place_of(std::string_view access, std::uint32_t region, std::uint64_t offset,
                                 std::uint64_t size);
  Result<std::vector<std::byte>> call_feature(std::uint32_t flags, std::span<const std::byte> data,
                                              std::size_t reply_size);
  Result<std::shared_ptr<MigrationData>> session(std::string_view doing);

  std::string target_;
  std::chrono::milliseconds limit_;
  Opened opened_;
  Info info_;

  std::mutex mutex_;
  std::map<std::uint32_t, Place> places_;
  std::shared_ptr<MigrationData> data_;  // of the last SET that began a session
};

}  // namespace gangway::kernel
