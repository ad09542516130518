// A 16550A UART: eight byte-wide registers, two FIFOs of 16, one interrupt line.
//
// The line is perfect and infinitely fast: a byte is received without error, and a line that has nothing to deliver is
// idle at once, so the character timeout follows without a timer.
// Source: National Semiconductor PC16550D data sheet, sections 8 (registers) and 8.5 (interrupt identification).
//
// Thread-safety: one thread at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace gangway::serial {

class Uart {
 public:
  static constexpr std::size_t kRegisters = 8;
  static constexpr std::size_t kFifoSize = 16;

  // Everything that a UART remembers.
  struct State {
    std::uint16_t divisor = 12;           // DLM, DLL
    std::uint8_t interrupt_enable = 0;    // IER
    std::uint8_t fifo_control = 0;        // FCR: enable and trigger level
    std::uint8_t line_control = 0;        // LCR
    std::uint8_t modem_control = 0;       // MCR
    std::uint8_t modem_changes = 0;       // the delta bits of MSR
    std::uint8_t scratch = 0;             // SCR
    bool overrun = false;                 // LSR's OE
    bool transmitter_emptied = false;     // the THRE interrupt is due
    bool line_idle = true;                // nothing more is coming: the character timeout has passed
    std::vector<std::byte> received;      // RBR and its FIFO, the oldest first
    std::vector<std::byte> transmitting;  // THR and its FIFO, the oldest first
  };

  // --- the guest ---
  std::uint8_t read(std::size_t offset);
  void write(std::size_t offset, std::uint8_t value);
  [[nodiscard]] bool interrupts() const;  // level of its interrupt line

  // --- the line ---
  [[nodiscard]] std::span<const std::byte> transmitting() const;  // waits to be sent; nothing in loopback mode
  void transmitted(std::size_t bytes);                            // the first of them were
  [[nodiscard]] std::size_t room() const;                         // bytes that may be received without an overrun
  void receive(std::span<const std::byte> bytes);
  void set_line_idle() { state_.line_idle = true; }

  // --- its owner ---
  void reset() { state_ = {}; }
  [[nodiscard]] const State& state() const { return state_; }
  // False, and nothing changed, for values that a UART cannot have.
  [[nodiscard]] bool restore(State state);

 private:
  [[nodiscard]] bool divisor_latched() const;
  [[nodiscard]] bool loopback() const;
  [[nodiscard]] bool fifos_enabled() const;
  [[nodiscard]] std::size_t fifo_size() const;
  [[nodiscard]] std::size_t trigger_level() const;
  [[nodiscard]] std::uint8_t modem_lines() const;
  [[nodiscard]] std::uint8_t pending_interrupt() const;

  std::uint8_t read_received();
  std::uint8_t read_interrupt_identification();
  [[nodiscard]] std::uint8_t line_status() const;
  std::uint8_t read_line_status();
  std::uint8_t read_modem_status();
  void write_transmitted(std::uint8_t value);
  void write_interrupt_enable(std::uint8_t value);
  void write_fifo_control(std::uint8_t value);
  void write_modem_control(std::uint8_t value);
  void drain_loopback();

  State state_;
};

}  // namespace gangway::serial
