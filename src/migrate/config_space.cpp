#include "migrate/config_space.h"

#include <algorithm>
#include <array>
#include <cstdint>

#include <fmt/format.h>

#include "base/bytes.h"
#include "migrate/message.h"

namespace gangway::migrate {
namespace {

// PCI Local Bus 3.0, 6.1 and 6.7; PCI Express Base 3.0, 7.9.
constexpr std::size_t kCommand = 0x04;
constexpr std::size_t kStatus = 0x06;
constexpr std::size_t kCacheLineAndLatency = 0x0c;
constexpr std::size_t kBars = 0x10;
constexpr std::size_t kBarsEnd = 0x28;
constexpr std::size_t kRom = 0x30;
constexpr std::size_t kCapabilityPointer = 0x34;
constexpr std::size_t kInterruptLine = 0x3c;
constexpr std::size_t kHeaderEnd = 0x40;
constexpr std::size_t kExtended = 0x100;
constexpr std::uint16_t kDecode = 0x3;           // COMMAND: I/O and memory space
constexpr std::uint16_t kCapabilityList = 0x10;  // STATUS

constexpr std::uint32_t kConfigRegion = to_number(RegionIndex::Config);

using Bytes = std::span<const std::byte>;

template <class T>
T get(Bytes config, std::size_t offset) {
  return load_at<T>(config, offset).value_or(T{});
}

struct Capability {
  std::size_t offset = 0;
  std::uint8_t id = 0;
  friend bool operator==(const Capability&, const Capability&) = default;
};

// In ascending order. A chain that leaves its place or loops ends there.
std::vector<Capability> capabilities(Bytes config) {
  std::vector<Capability> found;
  if ((get<std::uint16_t>(config, kStatus) & kCapabilityList) == 0) return found;
  std::size_t offset = get<std::uint8_t>(config, kCapabilityPointer) & 0xfcU;
  while (offset >= kHeaderEnd && found.size() < (kExtended - kHeaderEnd) / 4) {
    found.push_back({.offset = offset, .id = get<std::uint8_t>(config, offset)});
    offset = get<std::uint8_t>(config, offset + 1) & 0xfcU;
  }
  std::ranges::sort(found, {}, &Capability::offset);
  return found;
}

struct Field {
  std::string_view name;
  std::size_t offset;
  std::size_t size;
};
constexpr std::array kIdentity{Field{"vendor and device", 0x00, 4}, Field{"class", 0x09, 3},
                               Field{"header type", 0x0e, 1}, Field{"subsystem", 0x2c, 4}};

Result<void> check_same_device(Bytes saved, Bytes here) {
  for (const Field& field : kIdentity) {
    if (!std::ranges::equal(saved.subspan(field.offset, field.size), here.subspan(field.offset, field.size))) {
      return fail(EINVAL, fmt::format("config space: {} is {:#x} at the source and {:#x} here", field.name,
                                      get<std::uint32_t>(saved, field.offset) & (0xffffffffU >> (32 - 8 * field.size)),
                                      get<std::uint32_t>(here, field.offset) & (0xffffffffU >> (32 - 8 * field.size))));
    }
  }
  if (capabilities(saved) != capabilities(here)) {
    return fail(EINVAL, "config space: the capabilities of the source lie elsewhere than those here");
  }
  return {};
}

// Writes the parts of a saved config space that differ from what the device has.
class Restore {
 public:
  Restore(DeviceHandle& device, Bytes saved, Bytes here) : device_(device), saved_(saved), here_(here) {}

  Result<void> run() {
    if (!equal(kBars, kBarsEnd - kBars) || !equal(kRom, 4)) decode_off();
    dwords(kBars, kBarsEnd);
    dwords(kRom, kRom + 4);
    part(kCacheLineAndLatency, 2);
    part(kInterruptLine, 1);
    std::size_t end = kExtended;
    const std::vector<Capability> all = capabilities(saved_);
    for (auto it = all.rbegin(); it != all.rend(); ++it) {
      capability(it->offset, end);
      end = it->offset;
    }
    dwords(kExtended, saved_.size());
    write(kCommand, 2, equal(kCommand, 2) && !decode_off_);
    return std::move(result_);
  }

 private:
  [[nodiscard]] bool equal(std::size_t offset, std::size_t size) const {
    return std::ranges::equal(saved_.subspan(offset, size), here_.subspan(offset, size));
  }
  void write(std::size_t offset, std::size_t size, bool skip) {
    if (!result_ || skip) return;
    result_ = device_.write(kConfigRegion, offset, saved_.subspan(offset, size));
  }
  void part(std::size_t offset, std::size_t size) { write(offset, size, equal(offset, size)); }
  void dwords(std::size_t begin, std::size_t end) {
    for (std::size_t at = begin; at + 4 <= end; at += 4) part(at, 4);
  }
  // The control word, which may enable what the rest describes (MSI, MSI-X), lies first and is written last.
  void capability(std::size_t begin, std::size_t end) {
    for (std::size_t at = end - 4; at > begin; at -= 4) part(at, 4);
    part(begin + 2, 2);
  }
  // A BAR must not move while it is decoded.
  void decode_off() {
    const auto command = get<std::uint16_t>(here_, kCommand);
    decode_off_ = (command & kDecode) != 0;
    if (!decode_off_) return;
    const auto without = static_cast<std::uint16_t>(command & ~kDecode);
    result_ = device_.write(kConfigRegion, kCommand, bytes_of(without));
  }

  DeviceHandle& device_;
  Bytes saved_;
  Bytes here_;
  bool decode_off_ = false;
  Result<void> result_;
};

}  // namespace

Result<std::vector<std::byte>> save_config(DeviceHandle& device) {
  auto info = device.info();
  if (!info) return std::unexpected(info.error());
  if (!info->pci || info->regions <= kConfigRegion) return {};
  auto region = device.region(kConfigRegion);
  if (!region) return fail_within("config space", region.error());
  std::vector<std::byte> config(std::min<std::uint64_t>(region->size, kMaxConfigSpace));
  // The part that every device has, and what PCI Express adds; a device may take them in different ways.
  for (std::size_t at = 0; at < config.size();) {
    const std::size_t end = at < kExtended ? std::min(kExtended, config.size()) : config.size();
    if (auto read = device.read(kConfigRegion, at, std::span(config).subspan(at, end - at)); !read) {
      return fail_within("config space", read.error());
    }
    at = end;
  }
  return config;
}

Result<void> restore_config(DeviceHandle& device, std::span<const std::byte> saved) {
  auto here = save_config(device);
  if (!here) return std::unexpected(here.error());
  if (saved.size() != here->size()) {
    return fail(EINVAL, fmt::format("config space: {} bytes at the source, {} here", saved.size(), here->size()));
  }
  if (saved.empty()) return {};
  if (saved.size() < kExtended) return fail(EINVAL, fmt::format("config space of {} bytes", saved.size()));
  if (auto same = check_same_device(saved, *here); !same) return same;
  if (auto restored = Restore(device, saved, *here).run(); !restored) {
    return fail_within("config space", restored.error());
  }
  return {};
}

}  // namespace gangway::migrate
