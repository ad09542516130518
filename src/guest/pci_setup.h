// What an operating system does to a PCI function before its driver runs: lets it master the bus and gives its
// interrupts somewhere to go.
#pragma once

#include <cstdint>
#include <vector>

#include <gangway/device_handle.h>
#include <gangway/error.h>
#include <gangway/fd.h>

namespace gangway::guest {

// Base class, sub-class and programming interface, as 0x010802; 0 for a device that is no PCI function.
Result<std::uint32_t> class_code(DeviceHandle& device);

// COMMAND: memory space and bus master on; MSI-X on where the function has it.
Result<void> enable_function(DeviceHandle& device);

// An eventfd for each of the first MSI-X vectors. The driver polls, so nobody waits for them; they are set so that the
// device finds what it finds under any other client, and counted. Empty for a device without MSI-X.
Result<std::vector<Fd>> set_msix(DeviceHandle& device);

// How often the device signalled them since they were asked last. The device goes on meanwhile.
[[nodiscard]] std::uint64_t take_interrupts(const std::vector<Fd>& eventfds);

}  // namespace gangway::guest
