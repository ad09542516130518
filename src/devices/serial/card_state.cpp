#include "devices/serial/card_state.h"

#include <limits>
#include <optional>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include <card_state.pb.h>

namespace gangway::serial {
namespace {

std::string to_text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::vector<std::byte> to_bytes(const std::string& text) {
  const std::span<const std::byte> bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

void encode(const Uart::State& uart, state::Uart& saved) {
  saved.set_divisor(uart.divisor);
  saved.set_interrupt_enable(uart.interrupt_enable);
  saved.set_fifo_control(uart.fifo_control);
  saved.set_line_control(uart.line_control);
  saved.set_modem_control(uart.modem_control);
  saved.set_modem_changes(uart.modem_changes);
  saved.set_scratch(uart.scratch);
  saved.set_overrun(uart.overrun);
  saved.set_transmitter_emptied(uart.transmitter_emptied);
  saved.set_line_idle(uart.line_idle);
  saved.set_received(to_text(uart.received));
  saved.set_transmitting(to_text(uart.transmitting));
}

// Takes a register out of a field that could hold more.
class Narrow {
 public:
  template <class Register>
  void operator()(std::uint32_t saved, Register& target) {
    fits_ = fits_ && saved <= std::numeric_limits<Register>::max();
    target = static_cast<Register>(saved);
  }
  [[nodiscard]] bool fits() const { return fits_; }

 private:
  bool fits_ = true;
};

std::optional<Uart::State> decode(const state::Uart& saved) {
  Uart::State uart;
  Narrow take;
  take(saved.divisor(), uart.divisor);
  take(saved.interrupt_enable(), uart.interrupt_enable);
  take(saved.fifo_control(), uart.fifo_control);
  take(saved.line_control(), uart.line_control);
  take(saved.modem_control(), uart.modem_control);
  take(saved.modem_changes(), uart.modem_changes);
  take(saved.scratch(), uart.scratch);
  uart.overrun = saved.overrun();
  uart.transmitter_emptied = saved.transmitter_emptied();
  uart.line_idle = saved.line_idle();
  uart.received = to_bytes(saved.received());
  uart.transmitting = to_bytes(saved.transmitting());
  if (!take.fits()) return std::nullopt;
  return uart;
}

}  // namespace

Result<std::string> encode_state(std::span<const Uart> ports, Lines lines) {
  state::Card card;
  for (std::size_t i = 0; i < ports.size(); ++i) {
    state::Uart& saved = *card.add_ports();
    encode(ports[i].state(), saved);
    saved.set_line(to_text(lines[i]->on_the_way()));
  }
  std::string bytes;
  if (!card.SerializeToString(&bytes)) return fail(EIO, "serial card: the state cannot be encoded");
  return bytes;
}

Result<void> decode_state(std::span<const std::byte> bytes, std::span<Uart> ports, Lines lines) {
  state::Card card;
  const bool parsed = std::cmp_less_equal(bytes.size(), std::numeric_limits<int>::max()) &&
                      card.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()));
  if (!parsed) return fail(EINVAL, "serial card: the state is no state of one");
  if (std::cmp_not_equal(card.ports_size(), ports.size())) {
    return fail(EINVAL, fmt::format("serial card: {} ports in the state and {} here", card.ports_size(), ports.size()));
  }
  for (std::size_t i = 0; i < ports.size(); ++i) {
    const state::Uart& saved = card.ports(static_cast<int>(i));
    std::optional<Uart::State> uart = decode(saved);
    if (!uart || !ports[i].restore(std::move(*uart))) {
      return fail(EINVAL, fmt::format("serial card: port {} has a value that a 16550A cannot have", i));
    }
    if (!lines[i]->restore(to_bytes(saved.line()))) {
      return fail(EINVAL, fmt::format("serial card: {} bytes are on their way to port {}, more than its line here can "
                                      "hold; give it the same kind of line as at the source",
                                      saved.line().size(), i));
    }
  }
  return {};
}

}  // namespace gangway::serial
