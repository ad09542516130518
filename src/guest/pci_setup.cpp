#include "guest/pci_setup.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>

#include "guest/program.h"

namespace gangway::guest {
namespace {

constexpr std::uint32_t kConfig = to_number(RegionIndex::Config);
constexpr std::uint64_t kCommand = 0x04;
constexpr std::uint16_t kMemoryAndMaster = 0x0006;
constexpr std::uint64_t kStatus = 0x06;
constexpr std::uint16_t kHasCapabilities = 1U << 4;
constexpr std::uint64_t kRevisionAndClass = 0x08;
constexpr std::uint64_t kCapabilities = 0x34;
constexpr std::uint8_t kMsix = 0x11;
constexpr std::uint16_t kMsixEnable = 1U << 15;

template <class T>
Result<T> read_config(DeviceHandle& device, std::uint64_t offset) {
  T value{};
  if (auto read = device.read(kConfig, offset, std::as_writable_bytes(std::span(&value, 1))); !read) {
    return fail_within("config space", read.error());
  }
  return value;
}

Result<void> set_bits(DeviceHandle& device, std::uint64_t offset, std::uint16_t bits) {
  const auto value = read_config<std::uint16_t>(device, offset);
  if (!value) return std::unexpected(value.error());
  const auto changed = static_cast<std::uint16_t>(*value | bits);
  return device.write(kConfig, offset, std::as_bytes(std::span(&changed, 1)));
}

// 0: none. The chain is the device's word, so it is followed a bounded number of times.
Result<std::uint64_t> find_msix(DeviceHandle& device) {
  const auto status = read_config<std::uint16_t>(device, kStatus);
  if (!status) return std::unexpected(status.error());
  if ((*status & kHasCapabilities) == 0) return 0;
  std::uint64_t pointer = kCapabilities;
  for (int hops = 0; hops < 48; ++hops) {
    const auto next = read_config<std::uint8_t>(device, pointer);
    if (!next) return std::unexpected(next.error());
    const std::uint64_t capability = *next & 0xfcU;
    if (capability < 0x40) return 0;
    const auto id = read_config<std::uint8_t>(device, capability);
    if (!id) return std::unexpected(id.error());
    if (*id == kMsix) return capability;
    pointer = capability + 1;
  }
  return 0;
}

}  // namespace

Result<std::uint32_t> class_code(DeviceHandle& device) {
  const auto info = device.info();
  if (!info) return std::unexpected(info.error());
  if (!info->pci) return 0;
  const auto word = read_config<std::uint32_t>(device, kRevisionAndClass);
  if (!word) return std::unexpected(word.error());
  return *word >> 8;
}

Result<void> enable_function(DeviceHandle& device) {
  if (auto set = set_bits(device, kCommand, kMemoryAndMaster); !set) return set;
  const auto msix = find_msix(device);
  if (!msix) return std::unexpected(msix.error());
  return *msix == 0 ? Result<void>{} : set_bits(device, *msix + 2, kMsixEnable);
}

Result<std::vector<Fd>> set_msix(DeviceHandle& device) {
  const auto info = device.irq(to_number(IrqType::Msix));
  if (!info) return std::unexpected(info.error());
  const std::uint32_t count = std::min(info->count, 1 + kMaxQueues);
  std::vector<Fd> eventfds;
  if (count == 0) return eventfds;
  IrqSet request{
      .type = IrqType::Msix, .action = IrqAction::Trigger, .data = IrqSet::Data::Eventfd, .start = 0, .count = count};
  for (std::uint32_t vector = 0; vector < count; ++vector) {
    Fd& eventfd = eventfds.emplace_back(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!eventfd) return fail_errno("create an eventfd");
    auto copy = eventfd.duplicate();
    if (!copy) return std::unexpected(copy.error());
    request.eventfds.push_back(std::move(*copy));
  }
  if (auto set = device.set_irqs(std::move(request)); !set) return fail_within("set MSI-X", set.error());
  return eventfds;
}

std::uint64_t take_interrupts(const std::vector<Fd>& eventfds) {
  std::uint64_t sum = 0;
  for (const Fd& eventfd : eventfds) {
    std::uint64_t count = 0;
    if (::read(eventfd.get(), &count, sizeof count) == sizeof count) sum += count;
  }
  return sum;
}

}  // namespace gangway::guest
