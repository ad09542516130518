#include "conformance/serial_workload.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <array>

#include "base/bytes.h"
#include "guest/pci_setup.h"

namespace gangway::conformance {
namespace {

constexpr std::uint32_t kBar0 = to_number(RegionIndex::Bar0);

// PCI class 07.00.02: a 16550-compatible serial controller.
constexpr std::uint32_t kClass = 0x070002;

// Registers and bits of a 16550A that the workload uses.
constexpr std::uint64_t kData = 0;
constexpr std::uint64_t kInterruptEnable = 1;
constexpr std::uint64_t kFifoControl = 2;
constexpr std::uint64_t kLineControl = 3;
constexpr std::uint64_t kModemControl = 4;
constexpr std::uint64_t kLineStatus = 5;
constexpr std::uint64_t kScratch = 7;
constexpr std::uint8_t kReceived = 0x01;
constexpr std::uint8_t kFifosOnAndEmpty = 0x07;
constexpr std::uint8_t kLoopbackWithInterrupt = 0x18;

constexpr int kMostBytes = 64;  // more than any FIFO of a 16550A holds

Result<void> write_register(DeviceHandle& device, std::uint64_t offset, std::uint8_t value) {
  return device.write(kBar0, offset, bytes_of(value));
}

Result<std::uint8_t> read_register(DeviceHandle& device, std::uint64_t offset) {
  std::array<std::byte, 1> byte{};
  if (Result<void> read = device.read(kBar0, offset, byte); !read) return std::unexpected(read.error());
  return std::to_integer<std::uint8_t>(byte[0]);
}

}  // namespace

bool SerialWorkload::fits(const Abilities& abilities) { return abilities.class_code == kClass; }

Result<void> SerialWorkload::set_up(DeviceHandle& device) {
  if (Result<void> enabled = guest::enable_function(device); !enabled) return enabled;
  interrupt_ = Fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!interrupt_) return fail_errno("create an eventfd");
  Result<Fd> copy = interrupt_.duplicate();
  if (!copy) return std::unexpected(copy.error());
  IrqSet request{.type = IrqType::Intx, .action = IrqAction::Trigger, .data = IrqSet::Data::Eventfd, .count = 1};
  request.eventfds.push_back(*std::move(copy));
  if (Result<void> set = device.set_irqs(std::move(request)); !set) return set;
  for (const auto& [offset, value] :
       {std::pair{kFifoControl, kFifosOnAndEmpty}, std::pair{kModemControl, kLoopbackWithInterrupt},
        std::pair{kInterruptEnable, kReceived}}) {
    if (Result<void> written = write_register(device, offset, value); !written) return written;
  }
  return {};
}

Result<Workload::Written> SerialWorkload::write_pages(DeviceHandle& device, unsigned round) {
  if (Result<void> kicked = kick(device, round); !kicked) return std::unexpected(kicked.error());
  if (Result<void> done = await(device); !done) return std::unexpected(done.error());
  return Written{};
}

// INTx is signalled once an unmask (AUTOMASKED).
Result<void> SerialWorkload::kick(DeviceHandle& device, unsigned round) {
  IrqSet request{.type = IrqType::Intx, .action = IrqAction::Unmask, .data = IrqSet::Data::None, .count = 1};
  if (Result<void> unmasked = device.set_irqs(std::move(request)); !unmasked) return unmasked;
  return write_register(device, kData, static_cast<std::uint8_t>(round));
}

// Takes what came in; bytes in loopback are there at once.
Result<void> SerialWorkload::await(DeviceHandle& device) {
  for (int i = 0; i < kMostBytes; ++i) {
    const Result<std::uint8_t> status = read_register(device, kLineStatus);
    if (!status) return std::unexpected(status.error());
    if ((*status & kReceived) == 0) return {};
    if (const Result<std::uint8_t> byte = read_register(device, kData); !byte) return std::unexpected(byte.error());
  }
  return fail(EIO, "the UART never runs empty");
}

// The others take a byte out of the FIFO, or an interrupt or an error back, when they are read.
std::vector<Workload::Register> SerialWorkload::registers() const {
  return {{kInterruptEnable, 1}, {kLineControl, 1}, {kModemControl, 1}, {kScratch, 1}};
}

std::uint64_t SerialWorkload::take_interrupts() {
  std::uint64_t count = 0;
  if (::read(interrupt_.get(), &count, sizeof count) != sizeof count) return 0;
  return count;
}

}  // namespace gangway::conformance
