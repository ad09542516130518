// The controller as a PCI function.
#pragma once

#include <cstdint>

namespace gangway::nvme {

// The identity of an emulated NVMe controller, which operating systems know as such: Red Hat's vendor, device 0010h.
// Drivers bind to the class code.
inline constexpr std::uint16_t kPciVendor = 0x1b36;
inline constexpr std::uint16_t kPciDevice = 0x0010;
inline constexpr std::uint16_t kPciSubsystemVendor = 0x1af4;
inline constexpr std::uint16_t kPciSubsystem = 0x10f0;  // of the range that is free for such use
inline constexpr std::uint32_t kPciClass = 0x010802;    // NVM Express I/O controller

}  // namespace gangway::nvme
