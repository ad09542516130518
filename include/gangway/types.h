// The numbers of VFIO that carry a meaning, as types.
// Source: Linux include/uapi/linux/vfio.h (regions, interrupts); QEMU docs/interop/vfio-user.rst.
#pragma once

#include <compare>
#include <cstdint>

namespace gangway {

// An address as the device sees it: what the client maps and the device's DMA uses. Bytes.
struct Iova {
  std::uint64_t value = 0;
  friend constexpr auto operator<=>(Iova, Iova) = default;
  friend constexpr Iova operator+(Iova a, std::uint64_t bytes) { return {a.value + bytes}; }
};

// Bytes [start, start + size). A valid range is not empty and does not wrap: its last byte is at most 2^64 - 1.
struct IovaRange {
  Iova start;
  std::uint64_t size = 0;
  friend constexpr bool operator==(const IovaRange&, const IovaRange&) = default;
  [[nodiscard]] constexpr bool valid() const { return size != 0 && start.value + (size - 1) >= start.value; }
  [[nodiscard]] constexpr Iova last() const { return {start.value + (size - 1)}; }
};

// VFIO_PCI_*_REGION_INDEX; device-specific regions follow from FirstDeviceSpecific.
enum class RegionIndex : std::uint32_t {
  Bar0 = 0,
  Bar1,
  Bar2,
  Bar3,
  Bar4,
  Bar5,
  Rom,
  Config,
  Vga,
  FirstDeviceSpecific
};

// VFIO_PCI_*_IRQ_INDEX.
enum class IrqType : std::uint32_t { Intx = 0, Msi, Msix, Err, Req };
inline constexpr std::uint32_t kIrqTypes = 5;

[[nodiscard]] constexpr std::uint32_t to_number(RegionIndex index) { return static_cast<std::uint32_t>(index); }
[[nodiscard]] constexpr std::uint32_t to_number(IrqType type) { return static_cast<std::uint32_t>(type); }

}  // namespace gangway
