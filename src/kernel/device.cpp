#include "kernel/device.h"

#include <unistd.h>

#include <array>
#include <cstring>

#include <fmt/format.h>

#include "base/bytes.h"
#include "handle/region_capabilities.h"

namespace gangway::kernel {
namespace {

// A region's description is read at once unless it is longer than this, and never beyond the second.
constexpr std::uint32_t kUsualRegionInfo = 1024;
constexpr std::uint32_t kLongestRegionInfo = 1U << 20;

}  // namespace

Device::Device(std::string target, Opened opened, const OpenOptions& options)
    : target_(std::move(target)), limit_(options.timeout), opened_(std::move(opened)) {}

Result<std::unique_ptr<Device>> Device::create(std::string target, Result<Opened> opened, const OpenOptions& options) {
  if (!opened) return std::unexpected(opened.error());
  std::unique_ptr<Device> device(new Device(std::move(target), *std::move(opened), options));
  vfio::DeviceInfo asked{.argsz = sizeof asked};
  if (call(device->opened_.device->get(), Call::DeviceGetInfo, &asked) != 0) return device->in_words("device info");
  device->info_ = {.reset = (asked.flags & vfio::kDeviceReset) != 0,
                   .pci = (asked.flags & vfio::kDevicePci) != 0,
                   .regions = asked.regions,
                   .irqs = asked.irqs};
  return device;
}

Result<std::unique_ptr<Device>> Device::open_node(std::string_view node, const OpenOptions& options) {
  return create(std::string(node), open_by_node(node), options);
}

Result<std::unique_ptr<Device>> Device::open_named(std::string_view name, const OpenOptions& options) {
  return create(fmt::format("vfio:{}", name), open_by_group(name), options);
}

std::unexpected<Error> Device::in_words(std::string_view doing, int error_number) const {
  return fail_errno(fmt::format("{}: {}", target_, doing), error_number);
}

std::unexpected<Error> Device::in_words(std::string_view doing, Error error) const {
  error.message = fmt::format("{}: {}{}{}", target_, doing, doing.empty() ? "" : ": ", error.message);
  return std::unexpected(std::move(error));
}

// --- what it is ---

// Asked again, so that it also says whether the driver still answers.
Result<DeviceHandle::Info> Device::info() {
  vfio::DeviceInfo asked{.argsz = sizeof asked};
  if (call(opened_.device->get(), Call::DeviceGetInfo, &asked) != 0) return in_words("device info");
  return info_;
}

Result<std::vector<std::byte>> Device::describe_region(std::uint32_t index) {
  std::vector<std::byte> description(kUsualRegionInfo);
  for (;;) {
    const auto size = static_cast<std::uint32_t>(description.size());
    (void)store_at(std::span(description), 0, vfio::RegionInfo{.argsz = size, .index = index});
    if (call(opened_.device->get(), Call::DeviceGetRegionInfo, description.data()) != 0) {
      return in_words(fmt::format("region {}", index));
    }
    const std::uint32_t whole = load_at<vfio::RegionInfo>(description)->argsz;
    if (whole <= size) return description;
    if (size != kUsualRegionInfo || whole > kLongestRegionInfo) {
      return fail(EPROTO, fmt::format("{}: region {}: a description of {} bytes", target_, index, whole));
    }
    description.assign(whole, {});
  }
}

Result<DeviceHandle::Region> Device::region(std::uint32_t index) {
  const Result<std::vector<std::byte>> description = describe_region(index);
  if (!description) {
    // A number that this device has no region for, such as VGA's.
    if (description.error().code == EINVAL && index < info_.regions) return Region{};
    return std::unexpected(description.error());
  }
  const auto info = *load_at<vfio::RegionInfo>(*description);
  Result<Region> region = vfio::to_region(info, std::span(*description).subspan(sizeof info), opened_.device);
  if (!region) return in_words("", region.error());
  const std::scoped_lock lock(mutex_);
  places_[index] = {.offset = info.offset, .size = info.size};
  return region;
}

Result<gangway::IrqInfo> Device::irq(std::uint32_t index) {
  vfio::IrqInfo asked{.argsz = sizeof asked, .index = index};
  if (call(opened_.device->get(), Call::DeviceGetIrqInfo, &asked) == 0) {
    return gangway::IrqInfo{.flags = asked.flags, .count = asked.count};
  }
  if (errno == EINVAL && index < info_.irqs) return gangway::IrqInfo{};  // as a region's
  return in_words(fmt::format("interrupt type {}", index));
}

// --- accesses ---

Result<std::uint64_t> Device::place_of(std::string_view access, std::uint32_t region, std::uint64_t offset,
                                       std::uint64_t size) {
  std::unique_lock lock(mutex_);
  auto place = places_.find(region);
  if (place == places_.end()) {
    lock.unlock();
    if (const Result<Region> asked = this->region(region); !asked) return std::unexpected(asked.error());
    lock.lock();
    place = places_.find(region);
  }
  const std::uint64_t end = place == places_.end() ? 0 : place->second.size;
  if (offset > end || size > end - offset) {
    return fail(EINVAL, fmt::format("{}: region {}: {} of {} bytes at {:#x} crosses the end (size {:#x})", target_,
                                    region, access, size, offset, end));
  }
  return place == places_.end() ? 0 : place->second.offset + offset;
}

Result<void> Device::read(std::uint32_t region, std::uint64_t offset, std::span<std::byte> out) {
  const Result<std::uint64_t> place = place_of("read", region, offset, out.size());
  if (!place) return std::unexpected(place.error());
  for (std::size_t done = 0; done < out.size();) {
    const ssize_t got =
        ::pread(opened_.device->get(), out.data() + done, out.size() - done, static_cast<off_t>(*place + done));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) {
      return in_words(fmt::format("region {}: read of {} bytes at {:#x}", region, out.size() - done, offset + done),
                      got < 0 ? errno : EIO);
    }
    done += static_cast<std::size_t>(got);
  }
  return {};
}

Result<void> Device::write(std::uint32_t region, std::uint64_t offset, std::span<const std::byte> in) {
  const Result<std::uint64_t> place = place_of("write", region, offset, in.size());
  if (!place) return std::unexpected(place.error());
  for (std::size_t done = 0; done < in.size();) {
    const ssize_t taken =
        ::pwrite(opened_.device->get(), in.data() + done, in.size() - done, static_cast<off_t>(*place + done));
    if (taken < 0 && errno == EINTR) continue;
    if (taken <= 0) {
      return in_words(fmt::format("region {}: write of {} bytes at {:#x}", region, in.size() - done, offset + done),
                      taken < 0 ? errno : EIO);
    }
    done += static_cast<std::size_t>(taken);
  }
  return {};
}

Result<void> Device::reset() {
  if (call(opened_.device->get(), Call::DeviceReset) != 0) return in_words("reset");
  return {};
}

// --- DMA ---

Result<void> Device::dma_map(const DmaMap& request) {
  if (request.memory.size() != request.range.size) {
    return fail(EINVAL, fmt::format("{}: map {:#x} bytes with memory of {:#x}: the kernel maps memory of this process",
                                    target_, request.range.size, request.memory.size()));
  }
  if (!request.permissions.read && !request.permissions.write) {
    return fail(EINVAL, fmt::format("{}: map {:#x} bytes at {:#x}: the device may neither read nor write them", target_,
                                    request.range.size, request.range.start.value));
  }
  Result<void> mapped = opened_.mapper->map(request.range, request.memory, request.permissions);
  if (!mapped) return in_words("", mapped.error());
  return mapped;
}

Result<void> Device::dma_unmap(IovaRange range) {
  Result<void> unmapped = opened_.mapper->unmap(range);
  if (!unmapped) return in_words("", unmapped.error());
  return unmapped;
}

// --- interrupts ---

Result<void> Device::set_irqs(gangway::IrqSet request) {
  using Data = gangway::IrqSet::Data;
  constexpr std::array kData{vfio::kIrqDataNone, vfio::kIrqDataBool, vfio::kIrqDataEventfd};
  constexpr std::array kAction{vfio::kIrqActionMask, vfio::kIrqActionUnmask, vfio::kIrqActionTrigger};
  if (request.data == Data::Bool && request.bools.size() != request.count) {
    return fail(EINVAL,
                fmt::format("{}: {} interrupts with {} booleans", target_, request.count, request.bools.size()));
  }
  if (request.data == Data::Eventfd && !request.eventfds.empty() && request.eventfds.size() != request.count) {
    return fail(EINVAL,
                fmt::format("{}: {} interrupts with {} descriptors", target_, request.count, request.eventfds.size()));
  }
  // None at all is -1 for each: the range is disabled.
  std::vector<std::int32_t> eventfds(request.data == Data::Eventfd ? request.count : 0, -1);
  for (std::size_t i = 0; i < request.eventfds.size(); ++i) {
    if (request.eventfds[i]) eventfds[i] = request.eventfds[i].get();
  }
  const std::span<const std::byte> data =
      request.data == Data::Eventfd ? std::as_bytes(std::span(eventfds)) : std::span<const std::byte>(request.bools);
  const vfio::IrqSet head{
      .argsz = static_cast<std::uint32_t>(sizeof head + data.size()),
      .flags = kData.at(static_cast<std::size_t>(request.data)) | kAction.at(static_cast<std::size_t>(request.action)),
      .index = to_number(request.type),
      .start = request.start,
      .count = request.count};
  std::vector<std::byte> message(head.argsz);
  (void)store_at(std::span(message), 0, head);
  if (!data.empty()) std::memcpy(message.data() + sizeof head, data.data(), data.size());
  if (call(opened_.device->get(), Call::DeviceSetIrqs, message.data()) < 0) {
    return in_words(fmt::format("set interrupts of type {}", head.index));
  }
  return {};
}

}  // namespace gangway::kernel
