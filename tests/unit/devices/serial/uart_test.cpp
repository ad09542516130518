// Register behaviour of the 16550A.
#include "devices/serial/uart.h"

#include <initializer_list>
#include <numeric>

#include <gtest/gtest.h>

#include "devices/serial/uart_registers.h"

namespace gangway::serial {
namespace {

constexpr std::uint8_t kFifosOn = kFcrEnable;

void receive(Uart& uart, std::initializer_list<int> bytes) {
  std::vector<std::byte> received;
  for (const int byte : bytes) received.push_back(static_cast<std::byte>(byte));
  uart.receive(received);
}

void receive_many(Uart& uart, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) receive(uart, {static_cast<int>(i)});
}

std::uint8_t interrupt(Uart& uart) { return uart.read(kInterruptIdentification) & 0x0f; }

void enter_loopback(Uart& uart, std::uint8_t fifo_control = 0) {
  uart.write(kInterruptIdentification, fifo_control);
  uart.write(kModemControl, kMcrLoopback);
  uart.read(kModemStatus);  // the lines changed
}

TEST(Uart, starts_as_the_data_sheet_says) {
  Uart uart;
  EXPECT_EQ(uart.read(kInterruptEnable), 0);
  EXPECT_EQ(uart.read(kInterruptIdentification), 0x01);
  EXPECT_EQ(uart.read(kLineControl), 0);
  EXPECT_EQ(uart.read(kModemControl), 0);
  EXPECT_EQ(uart.read(kLineStatus), 0x60);
  EXPECT_EQ(uart.read(kModemStatus), 0xb0) << "connected: CTS, DSR, DCD, and no change";
  EXPECT_FALSE(uart.interrupts());
}

TEST(Uart, registers_keep_the_bits_they_have) {
  Uart uart;
  uart.write(kScratch, 0xa5);
  EXPECT_EQ(uart.read(kScratch), 0xa5);
  uart.write(kInterruptEnable, 0xf0);
  EXPECT_EQ(uart.read(kInterruptEnable), 0) << "the upper half reads 0, by which drivers tell a UART";
  uart.write(kModemControl, 0xe3);
  EXPECT_EQ(uart.read(kModemControl), 0x03);
  uart.write(kLineStatus, 0);
  uart.write(kModemStatus, 0);
  EXPECT_EQ(uart.read(kLineStatus), 0x60) << "read-only";
}

TEST(Uart, the_divisor_is_behind_dlab) {
  Uart uart;
  uart.write(kLineControl, kLcrDivisorLatch | 0x03);
  uart.write(kData, 0x34);
  uart.write(kInterruptEnable, 0x12);
  EXPECT_EQ(uart.read(kData), 0x34);
  EXPECT_EQ(uart.read(kInterruptEnable), 0x12);
  uart.write(kLineControl, 0x03);
  EXPECT_EQ(uart.read(kInterruptEnable), 0) << "the divisor is not the interrupt enable register";
  EXPECT_TRUE(uart.transmitting().empty()) << "and was not sent";
  EXPECT_EQ(uart.state().divisor, 0x1234);
}

TEST(Uart, transmits_one_byte_without_fifos_and_sixteen_with) {
  Uart uart;
  uart.write(kData, 'a');
  EXPECT_EQ(uart.read(kLineStatus) & 0x60, 0) << "not empty";
  uart.write(kData, 'b');
  EXPECT_EQ(uart.transmitting().size(), 1U);
  uart.transmitted(1);
  EXPECT_EQ(uart.read(kLineStatus) & 0x60, 0x60);
  uart.write(kInterruptIdentification, kFifosOn);
  for (int i = 0; i < 20; ++i) uart.write(kData, static_cast<std::uint8_t>(i));
  ASSERT_EQ(uart.transmitting().size(), 16U);
  EXPECT_EQ(uart.transmitting()[15], std::byte{15});
}

TEST(Uart, receives_in_order) {
  Uart uart;
  uart.write(kInterruptIdentification, kFifosOn);
  EXPECT_EQ(uart.room(), 16U);
  receive(uart, {'x', 'y'});
  EXPECT_EQ(uart.room(), 14U);
  EXPECT_EQ(uart.read(kLineStatus) & kLsrDataReady, 1);
  EXPECT_EQ(uart.read(kData), 'x');
  EXPECT_EQ(uart.read(kData), 'y');
  EXPECT_EQ(uart.read(kLineStatus) & kLsrDataReady, 0);
  EXPECT_EQ(uart.read(kData), 0) << "nothing is there";
}

TEST(Uart, switching_the_fifos_or_clearing_them_empties_them) {
  Uart uart;
  uart.write(kInterruptIdentification, kFifosOn);
  receive(uart, {1, 2});
  uart.write(kData, 9);
  uart.write(kInterruptIdentification, kFifosOn | kFcrClearReceived);
  EXPECT_EQ(uart.room(), 16U);
  EXPECT_EQ(uart.transmitting().size(), 1U);
  uart.write(kInterruptIdentification, kFifosOn | kFcrClearTransmitting);
  EXPECT_TRUE(uart.transmitting().empty());
  receive(uart, {1});
  uart.write(kInterruptIdentification, 0);
  EXPECT_EQ(uart.read(kLineStatus) & kLsrDataReady, 0);
  EXPECT_EQ(uart.read(kInterruptIdentification) & 0xc0, 0);
}

TEST(Uart, interrupts_at_each_trigger_level) {
  const std::vector<std::pair<std::uint8_t, std::size_t>> levels{{0x00, 1}, {0x40, 4}, {0x80, 8}, {0xc0, 14}};
  for (const auto& [bits, level] : levels) {
    Uart uart;
    uart.write(kInterruptIdentification, kFifosOn | bits);
    uart.write(kInterruptEnable, kIerReceived);
    receive_many(uart, level - 1);
    EXPECT_FALSE(uart.interrupts()) << level;
    receive(uart, {7});
    EXPECT_EQ(uart.read(kInterruptIdentification), 0xc4) << level;
    uart.read(kData);
    EXPECT_FALSE(uart.interrupts()) << "below the level again: " << level;
  }
}

TEST(Uart, what_stays_below_the_trigger_level_times_out) {
  Uart uart;
  uart.write(kInterruptIdentification, kFifosOn | 0xc0);
  uart.write(kInterruptEnable, kIerReceived);
  receive(uart, {1, 2});
  EXPECT_FALSE(uart.interrupts()) << "more may be coming";
  uart.set_line_idle();
  EXPECT_EQ(interrupt(uart), kIirCharacterTimeout);
  uart.read(kData);
  EXPECT_EQ(interrupt(uart), kIirCharacterTimeout) << "one byte is left";
  uart.read(kData);
  EXPECT_FALSE(uart.interrupts());
}

TEST(Uart, the_transmitter_interrupts_when_it_empties_until_acknowledged) {
  Uart uart;
  uart.write(kInterruptEnable, kIerTransmitterEmpty);
  EXPECT_EQ(interrupt(uart), kIirTransmitterEmpty) << "enabling it while empty interrupts";
  EXPECT_FALSE(uart.interrupts()) << "reading IIR acknowledged it";
  uart.write(kData, 'a');
  EXPECT_FALSE(uart.interrupts());
  uart.transmitted(1);
  EXPECT_TRUE(uart.interrupts());
  uart.write(kData, 'b');
  EXPECT_FALSE(uart.interrupts()) << "writing THR acknowledges it too";
}

TEST(Uart, interrupts_by_priority) {
  Uart uart;
  uart.write(kInterruptEnable, kIerMask);
  enter_loopback(uart);
  uart.write(kModemControl, kMcrLoopback | kMcrDtr);  // DSR changes
  uart.write(kData, 1);
  uart.write(kData, 2);  // overruns
  EXPECT_EQ(interrupt(uart), kIirLineStatus);
  EXPECT_EQ(interrupt(uart), kIirLineStatus) << "reading IIR acknowledges only what it shows";
  uart.read(kLineStatus);
  EXPECT_EQ(interrupt(uart), kIirReceived);
  uart.read(kData);
  EXPECT_EQ(interrupt(uart), kIirTransmitterEmpty);
  EXPECT_EQ(interrupt(uart), kIirModemStatus);
  uart.read(kModemStatus);
  EXPECT_EQ(interrupt(uart), kIirNone);
}

TEST(Uart, masked_sources_do_not_interrupt) {
  Uart uart;
  receive(uart, {1});
  EXPECT_FALSE(uart.interrupts());
  uart.write(kInterruptEnable, kIerReceived);
  EXPECT_TRUE(uart.interrupts());
  uart.write(kInterruptEnable, 0);
  EXPECT_FALSE(uart.interrupts());
}

TEST(Uart, loopback_feeds_the_receiver_and_nothing_leaves) {
  Uart uart;
  enter_loopback(uart, kFifosOn);
  for (const int c : {'l', 'o', 'o', 'p'}) uart.write(kData, static_cast<std::uint8_t>(c));
  EXPECT_TRUE(uart.transmitting().empty());
  EXPECT_EQ(uart.room(), 0U) << "the line is cut off";
  for (const int c : {'l', 'o', 'o', 'p'}) EXPECT_EQ(uart.read(kData), c);
}

TEST(Uart, loopback_turns_the_modem_outputs_into_inputs) {
  Uart uart;
  enter_loopback(uart);
  EXPECT_EQ(uart.read(kModemStatus), 0);
  uart.write(kModemControl, kMcrLoopback | kMcrRts);
  EXPECT_EQ(uart.read(kModemStatus), 0x11) << "CTS, and that it changed";
  EXPECT_EQ(uart.read(kModemStatus), 0x10) << "reading it took the change";
  uart.write(kModemControl, kMcrLoopback | kMcrOut1);
  EXPECT_EQ(uart.read(kModemStatus), 0x41) << "RI rose, which is no change of its own";
  uart.write(kModemControl, kMcrLoopback | kMcrOut2 | kMcrDtr);
  EXPECT_EQ(uart.read(kModemStatus), 0xae) << "DSR and DCD rose, RI fell";
}

TEST(Uart, a_full_fifo_keeps_what_it_has_and_reports_the_overrun_once) {
  Uart uart;
  enter_loopback(uart, kFifosOn);
  for (int i = 0; i < 18; ++i) uart.write(kData, static_cast<std::uint8_t>(i));
  EXPECT_EQ(uart.read(kLineStatus) & kLsrOverrun, kLsrOverrun);
  EXPECT_EQ(uart.read(kLineStatus) & kLsrOverrun, 0);
  for (int i = 0; i < 16; ++i) EXPECT_EQ(uart.read(kData), i);
  EXPECT_EQ(uart.read(kLineStatus) & kLsrDataReady, 0);
}

TEST(Uart, without_a_fifo_an_overrun_replaces_the_byte) {
  Uart uart;
  enter_loopback(uart);
  uart.write(kData, 1);
  uart.write(kData, 2);
  EXPECT_EQ(uart.read(kLineStatus) & kLsrOverrun, kLsrOverrun);
  EXPECT_EQ(uart.read(kData), 2);
}

TEST(Uart, restores_only_what_it_can_be) {
  Uart uart;
  uart.write(kScratch, 7);
  const auto refused = [&](auto change) {
    Uart::State state;
    change(state);
    const bool restored = uart.restore(std::move(state));
    return !restored && uart.read(kScratch) == 7;
  };
  EXPECT_TRUE(refused([](Uart::State& s) { s.interrupt_enable = 0x10; }));
  EXPECT_TRUE(refused([](Uart::State& s) { s.modem_control = 0x20; }));
  EXPECT_TRUE(refused([](Uart::State& s) { s.modem_changes = 0x10; }));
  EXPECT_TRUE(refused([](Uart::State& s) { s.fifo_control = 0xc0; }));
  EXPECT_TRUE(refused([](Uart::State& s) { s.received.resize(2); }));
  EXPECT_TRUE(refused([](Uart::State& s) { s.transmitting.resize(2); }));
  EXPECT_TRUE(refused([](Uart::State& s) {
    s.fifo_control = kFcrEnable;
    s.received.resize(17);
  }));
  EXPECT_TRUE(uart.restore({}));
  EXPECT_EQ(uart.read(kScratch), 0);
}

}  // namespace
}  // namespace gangway::serial
