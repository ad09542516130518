#include "devices/serial/uart.h"

#include <algorithm>
#include <array>
#include <utility>

#include "devices/serial/uart_registers.h"

namespace gangway::serial {

std::uint8_t Uart::read(std::size_t offset) {
  switch (offset) {
    case kData:
      return divisor_latched() ? static_cast<std::uint8_t>(state_.divisor) : read_received();
    case kInterruptEnable:
      return divisor_latched() ? static_cast<std::uint8_t>(state_.divisor >> 8) : state_.interrupt_enable;
    case kInterruptIdentification:
      return read_interrupt_identification();
    case kLineControl:
      return state_.line_control;
    case kModemControl:
      return state_.modem_control;
    case kLineStatus:
      return read_line_status();
    case kModemStatus:
      return read_modem_status();
    case kScratch:
      return state_.scratch;
    default:
      return 0xff;
  }
}

void Uart::write(std::size_t offset, std::uint8_t value) {
  switch (offset) {
    case kData:
      if (!divisor_latched()) return write_transmitted(value);
      state_.divisor = static_cast<std::uint16_t>((state_.divisor & 0xff00) | value);
      return;
    case kInterruptEnable:
      if (!divisor_latched()) return write_interrupt_enable(value);
      state_.divisor = static_cast<std::uint16_t>((state_.divisor & 0x00ff) | value << 8);
      return;
    case kInterruptIdentification:
      return write_fifo_control(value);
    case kLineControl:
      state_.line_control = value;
      return;
    case kModemControl:
      return write_modem_control(value);
    case kScratch:
      state_.scratch = value;
      return;
    default:
      return;  // LSR and MSR are read-only
  }
}

bool Uart::interrupts() const { return pending_interrupt() != kIirNone; }

std::span<const std::byte> Uart::transmitting() const {
  if (loopback()) return {};
  return state_.transmitting;
}

void Uart::transmitted(std::size_t bytes) {
  if (bytes == 0) return;
  state_.transmitting.erase(state_.transmitting.begin(),
                            state_.transmitting.begin() + static_cast<std::ptrdiff_t>(bytes));
  if (state_.transmitting.empty()) state_.transmitter_emptied = true;
}

std::size_t Uart::room() const {
  if (loopback() || state_.received.size() >= fifo_size()) return 0;
  return fifo_size() - state_.received.size();
}

void Uart::receive(std::span<const std::byte> bytes) {
  for (const std::byte byte : bytes) {
    state_.line_idle = false;
    if (state_.received.size() < fifo_size()) {
      state_.received.push_back(byte);
      continue;
    }
    state_.overrun = true;
    // A FIFO keeps what it has; without one the new byte takes the old one's place.
    if (!fifos_enabled()) state_.received.back() = byte;
  }
}

bool Uart::restore(State state) {
  const bool fifos = (state.fifo_control & kFcrEnable) != 0;
  const std::size_t most = fifos ? kFifoSize : 1;
  const bool possible = (state.interrupt_enable & ~kIerMask) == 0 && (state.fifo_control & ~kFcrKept) == 0 &&
                        (fifos || state.fifo_control == 0) && (state.modem_control & ~kMcrMask) == 0 &&
                        (state.modem_changes & ~kMsrChanges) == 0 && state.received.size() <= most &&
                        state.transmitting.size() <= most;
  if (possible) state_ = std::move(state);
  return possible;
}

bool Uart::divisor_latched() const { return (state_.line_control & kLcrDivisorLatch) != 0; }

bool Uart::loopback() const { return (state_.modem_control & kMcrLoopback) != 0; }

bool Uart::fifos_enabled() const { return (state_.fifo_control & kFcrEnable) != 0; }

std::size_t Uart::fifo_size() const { return fifos_enabled() ? kFifoSize : 1; }

std::size_t Uart::trigger_level() const {
  constexpr std::array<std::size_t, 4> kLevels{1, 4, 8, 14};
  return fifos_enabled() ? kLevels[state_.fifo_control >> kFcrTriggerShift] : 1;
}

// The upper half of MSR: what the line says, or in loopback mode our own outputs.
std::uint8_t Uart::modem_lines() const {
  if (!loopback()) return kMsrCts | kMsrDsr | kMsrDcd;
  const std::uint8_t outputs = state_.modem_control;
  return static_cast<std::uint8_t>(((outputs & kMcrRts) != 0 ? kMsrCts : 0) | ((outputs & kMcrDtr) != 0 ? kMsrDsr : 0) |
                                   ((outputs & kMcrOut1) != 0 ? kMsrRi : 0) |
                                   ((outputs & kMcrOut2) != 0 ? kMsrDcd : 0));
}

std::uint8_t Uart::pending_interrupt() const {
  const auto enabled = [&](std::uint8_t source) { return (state_.interrupt_enable & source) != 0; };
  if (enabled(kIerLineStatus) && state_.overrun) return kIirLineStatus;
  if (enabled(kIerReceived) && state_.received.size() >= trigger_level()) return kIirReceived;
  if (enabled(kIerReceived) && !state_.received.empty() && state_.line_idle) return kIirCharacterTimeout;
  if (enabled(kIerTransmitterEmpty) && state_.transmitter_emptied) return kIirTransmitterEmpty;
  if (enabled(kIerModemStatus) && state_.modem_changes != 0) return kIirModemStatus;
  return kIirNone;
}

std::uint8_t Uart::read_received() {
  if (state_.received.empty()) return 0;
  const auto byte = static_cast<std::uint8_t>(state_.received.front());
  state_.received.erase(state_.received.begin());
  return byte;
}

// Reading it acknowledges the THRE interrupt, if that is what it shows.
std::uint8_t Uart::read_interrupt_identification() {
  const std::uint8_t pending = pending_interrupt();
  if (pending == kIirTransmitterEmpty) state_.transmitter_emptied = false;
  return static_cast<std::uint8_t>(pending | (fifos_enabled() ? kIirFifosEnabled : 0));
}

std::uint8_t Uart::line_status() const {
  const std::uint8_t transmitter =
      state_.transmitting.empty() ? kLsrTransmitterHoldingEmpty | kLsrTransmitterEmpty : std::uint8_t{0};
  return static_cast<std::uint8_t>(transmitter | (state_.received.empty() ? 0 : kLsrDataReady) |
                                   (state_.overrun ? kLsrOverrun : 0));
}

std::uint8_t Uart::read_line_status() {
  const std::uint8_t status = line_status();
  state_.overrun = false;
  return status;
}

std::uint8_t Uart::read_modem_status() {
  return static_cast<std::uint8_t>(modem_lines() | std::exchange(state_.modem_changes, std::uint8_t{0}));
}

void Uart::write_transmitted(std::uint8_t value) {
  state_.transmitter_emptied = false;
  if (state_.transmitting.size() < fifo_size()) state_.transmitting.push_back(std::byte{value});
  drain_loopback();
}

void Uart::write_interrupt_enable(std::uint8_t value) {
  const bool newly = (value & ~state_.interrupt_enable & kIerTransmitterEmpty) != 0;
  if (newly && state_.transmitting.empty()) state_.transmitter_emptied = true;
  state_.interrupt_enable = value & kIerMask;
}

void Uart::write_fifo_control(std::uint8_t value) {
  const bool enable = (value & kFcrEnable) != 0;
  const bool switched = enable != fifos_enabled();
  if (switched || (enable && (value & kFcrClearReceived) != 0)) state_.received.clear();
  if ((switched || (enable && (value & kFcrClearTransmitting) != 0)) && !state_.transmitting.empty()) {
    state_.transmitting.clear();
    state_.transmitter_emptied = true;
  }
  state_.fifo_control = enable ? value & kFcrKept : std::uint8_t{0};
}

void Uart::write_modem_control(std::uint8_t value) {
  const std::uint8_t before = modem_lines();
  state_.modem_control = value & kMcrMask;
  const std::uint8_t after = modem_lines();
  const std::uint8_t changed = before ^ after;
  // A delta bit stands four below its line; that of RI marks its trailing edge only.
  std::uint8_t changes = static_cast<std::uint8_t>((changed & ~kMsrRi) >> 4);
  if ((changed & before & kMsrRi) != 0) changes |= kMsrTrailingRi;
  state_.modem_changes |= changes;
  drain_loopback();
}

// In loopback mode the transmitter feeds the receiver, which is not asked for room.
void Uart::drain_loopback() {
  if (!loopback() || state_.transmitting.empty()) return;
  const std::vector<std::byte> bytes = std::exchange(state_.transmitting, {});
  receive(bytes);
  state_.line_idle = true;
  state_.transmitter_emptied = true;
}

}  // namespace gangway::serial
