#include "devices/serial/card.h"

#include <algorithm>
#include <string>
#include <utility>

#include "devices/serial/card_state.h"
#include "devices/serial/loopback_backend.h"

namespace gangway::serial {

Card::Card(CardOptions options) : backends_(std::move(options.backends)) {
  for (std::unique_ptr<Backend>& backend : backends_) {
    if (!backend) backend = std::make_unique<LoopbackBackend>();
  }
}

DeviceInfo Card::info() const {
  DeviceInfo info;
  info.pci.identity = {.vendor = 0x1b36,
                       .device = 0x0003,
                       .subsystem_vendor = 0x1af4,
                       .subsystem = 0x1100,
                       .class_code = 0x070002,  // communication, serial, 16550-compatible
                       .revision = 1};
  info.pci.bars[0] = {.size = kPorts * Uart::kRegisters, .kind = BarSpec::Kind::Io};
  info.pci.intx = true;
  info.regions[RegionIndex::Bar0] = {.reads_change_state = true};
  return info;
}

void Card::attach(Bus bus) {
  bus_.emplace(bus);
  for (const std::unique_ptr<Backend>& backend : backends_) {
    backend->connect([this] {
      std::scoped_lock lock(mutex_);
      move_bytes();
    });
  }
}

// An access wider than a register reaches the registers one after the other, as on an 8-bit bus.
Result<void> Card::read(RegionIndex, std::uint64_t offset, std::span<std::byte> out) {
  std::scoped_lock lock(mutex_);
  for (std::byte& byte : out) {
    Uart& uart = uarts_[offset / Uart::kRegisters];
    byte = std::byte{uart.read(offset++ % Uart::kRegisters)};
  }
  move_bytes();
  return {};
}

Result<void> Card::write(RegionIndex, std::uint64_t offset, std::span<const std::byte> in) {
  std::scoped_lock lock(mutex_);
  for (const std::byte byte : in) {
    Uart& uart = uarts_[offset / Uart::kRegisters];
    uart.write(offset++ % Uart::kRegisters, std::to_integer<std::uint8_t>(byte));
  }
  move_bytes();
  return {};
}

void Card::reset() {
  std::scoped_lock lock(mutex_);
  lines_open_ = false;
  for (Uart& uart : uarts_) uart.reset();
  for (const std::unique_ptr<Backend>& line : backends_) line->reset();
  update_interrupt();
}

Result<void> Card::start() {
  std::scoped_lock lock(mutex_);
  lines_open_ = true;
  move_bytes();
  return {};
}

// 2: with what is on its way on the lines, which an older card would lose.
StateIdentity Card::identity() const { return {.device_type = "serial", .model_version = 2, .compatible_with = 2}; }

Result<void> Card::stop_initiating() {
  std::scoped_lock lock(mutex_);
  lines_open_ = false;
  return {};
}

Result<void> Card::save(StateWriter& writer) const {
  std::scoped_lock lock(mutex_);
  const Result<std::string> state = encode_state(uarts_, backends_);
  if (!state) return std::unexpected(state.error());
  writer.section("card", *state);
  return {};
}

Result<void> Card::load(const StateReader& reader) {
  const Result<std::span<const std::byte>> state = reader.section("card");
  if (!state) return std::unexpected(state.error());
  std::scoped_lock lock(mutex_);
  if (Result<void> decoded = decode_state(*state, uarts_, backends_); !decoded) return decoded;
  update_interrupt();
  return {};
}

std::uint64_t Card::state_size() const {
  constexpr std::uint64_t kRegisters = 128;
  std::scoped_lock lock(mutex_);
  std::uint64_t size = kRegisters;
  for (const std::unique_ptr<Backend>& line : backends_) size += line->on_the_way().size();
  return size;
}

void Card::move_bytes() {
  for (std::size_t port = 0; port < kPorts; ++port) {
    while (move_bytes(port)) {
    }
  }
  update_interrupt();
}

// Once each way; true when there may be more.
bool Card::move_bytes(std::size_t port) {
  if (!lines_open_) return false;
  Uart& uart = uarts_[port];
  Backend& backend = *backends_[port];

  const std::span<const std::byte> sent = uart.transmitting();
  const std::size_t taken = sent.empty() ? 0 : backend.write(sent);
  uart.transmitted(taken);

  std::array<std::byte, Uart::kFifoSize> buffer;
  const std::span<std::byte> room = std::span(buffer).first(uart.room());
  const std::size_t got = room.empty() ? 0 : backend.read(room);
  uart.receive(std::span(buffer).first(got));
  if (got == 0) uart.set_line_idle();
  return taken != 0 || got != 0;
}

void Card::update_interrupt() {
  if (bus_) bus_->interrupts.set_intx(std::ranges::any_of(uarts_, &Uart::interrupts));
}

}  // namespace gangway::serial
