// The card as a client sees it, alone and over a migration.
#include "devices/serial/card.h"

#include <array>
#include <string>
#include <string_view>
#include <vector>

#include <gangway/endpoint.h>
#include <gtest/gtest.h>

#include "devices/serial/loopback_backend.h"
#include "devices/serial/uart_registers.h"
#include "unit/device/stream_ops.h"

namespace gangway::serial {
namespace {

constexpr std::uint32_t kBar = 0;
constexpr std::uint64_t kPortB = Uart::kRegisters;

// A line that takes and gives as a test says.
class TestBackend : public Backend {
 public:
  std::size_t write(std::span<const std::byte> bytes) override {
    const std::size_t size = std::min(bytes.size(), room);
    for (const std::byte byte : bytes.first(size)) sent.push_back(static_cast<char>(byte));
    room -= size;
    return size;
  }
  std::size_t read(std::span<std::byte> out) override {
    const std::size_t size = std::min(out.size(), coming.size());
    for (std::size_t i = 0; i < size; ++i) out[i] = static_cast<std::byte>(coming[i]);
    coming.erase(0, size);
    return size;
  }
  void connect(std::function<void()> ready) override { tell = std::move(ready); }

  std::size_t room = 1000;
  std::string sent;
  std::string coming;
  std::function<void()> tell;
};

// A card behind an endpoint, RUNNING, with FIFOs on.
struct CardRig {
  CardRig() {
    CardOptions options;
    for (std::size_t i = 0; i < kPorts; ++i) {
      auto backend = std::make_unique<TestBackend>();
      lines.at(i) = backend.get();
      options.backends.at(i) = std::move(backend);
    }
    endpoint = *Endpoint::create(std::make_unique<Card>(std::move(options)));
    for (const std::uint64_t port : {std::uint64_t{0}, kPortB})
      write(port + kInterruptIdentification, kFcrEnable | 0xc0);
  }
  struct Loopback {};
  explicit CardRig(Loopback) : endpoint(*Endpoint::create(std::make_unique<Card>())) {
    write(kInterruptIdentification, kFcrEnable | 0xc0);
  }
  std::uint8_t read(std::uint64_t offset) {
    std::byte value{};
    EXPECT_TRUE(endpoint->read(kBar, offset, std::span(&value, 1)));
    return static_cast<std::uint8_t>(value);
  }
  Result<void> try_write(std::uint64_t offset, int value) {
    const auto byte = static_cast<std::byte>(value);
    return endpoint->write(kBar, offset, std::span(&byte, 1));
  }
  void write(std::uint64_t offset, int value) { EXPECT_TRUE(try_write(offset, value)); }
  void send(std::uint64_t port, std::string_view text) {
    for (const char c : text) write(port + kData, c);
  }
  std::string receive(std::uint64_t port) {
    std::string text;
    while ((read(port + kLineStatus) & kLsrDataReady) != 0) text.push_back(static_cast<char>(read(port + kData)));
    return text;
  }
  Result<void> go(DeviceState state) { return endpoint->migration()->set_state(static_cast<std::uint32_t>(state)); }
  [[nodiscard]] bool interrupts() const { return endpoint->interrupts().intx_asserted(); }

  std::array<TestBackend*, kPorts> lines{};
  std::unique_ptr<Endpoint> endpoint;
};

void migrate(CardRig& source, CardRig& destination) {
  ASSERT_TRUE(source.go(DeviceState::StopCopy));
  const test::Drained state = test::drain(*source.endpoint->migration(), test::pieces_of(17));
  ASSERT_EQ(state.end, StreamEnd::Final);
  ASSERT_TRUE(destination.go(DeviceState::Resuming));
  ASSERT_TRUE(test::fill(*destination.endpoint->migration(), state.bytes, test::pieces_of(5)));
  const Result<void> stopped = destination.go(DeviceState::Stop);
  ASSERT_TRUE(stopped) << stopped.error().message;
}

TEST(SerialCard, is_what_stock_drivers_know) {
  const Card card;
  const DeviceInfo info = card.info();
  EXPECT_EQ(info.pci.identity.vendor, 0x1b36);
  EXPECT_EQ(info.pci.identity.device, 0x0003);
  EXPECT_EQ(info.pci.identity.class_code, 0x070002U);
  EXPECT_EQ(info.pci.bars[0].kind, BarSpec::Kind::Io);
  EXPECT_EQ(info.pci.bars[0].size, 16U);
  EXPECT_TRUE(info.pci.intx);
}

TEST(SerialCard, ports_are_apart) {
  CardRig card;
  card.send(0, "to a");
  card.send(kPortB, "to b");
  EXPECT_EQ(card.lines[0]->sent, "to a");
  EXPECT_EQ(card.lines[1]->sent, "to b");
  card.lines[1]->coming = "from b";
  card.lines[1]->tell();
  EXPECT_EQ(card.receive(0), "");
  EXPECT_EQ(card.receive(kPortB), "from b");
}

TEST(SerialCard, wide_accesses_reach_the_registers_in_turn) {
  CardRig card;
  const std::array<std::byte, 2> control{std::byte{0x03}, std::byte{0x0b}};
  EXPECT_TRUE(card.endpoint->write(kBar, kLineControl, control));
  EXPECT_EQ(card.read(kLineControl), 0x03);
  EXPECT_EQ(card.read(kModemControl), 0x0b);
  std::array<std::byte, 16> all{};
  EXPECT_TRUE(card.endpoint->read(kBar, 0, all));
  EXPECT_EQ(all[kPortB + kLineStatus], std::byte{0x60});
}

TEST(SerialCard, receives_no_more_than_it_has_room_for) {
  CardRig card;
  card.lines[0]->coming = std::string(40, 'x');
  card.lines[0]->tell();
  EXPECT_EQ(card.lines[0]->coming.size(), 24U);
  EXPECT_EQ(card.receive(0).size(), 40U) << "reading makes room for the rest";
  EXPECT_EQ(card.read(kLineStatus) & kLsrOverrun, 0);
}

TEST(SerialCard, sends_on_when_the_line_takes_more) {
  CardRig card;
  card.lines[0]->room = 3;
  card.send(0, "slowly");
  EXPECT_EQ(card.lines[0]->sent, "slo");
  EXPECT_EQ(card.read(kLineStatus) & kLsrTransmitterHoldingEmpty, 0);
  card.lines[0]->room = 100;
  card.lines[0]->tell();
  EXPECT_EQ(card.lines[0]->sent, "slowly");
}

TEST(SerialCard, asserts_intx_while_a_port_interrupts) {
  CardRig card;
  card.write(kPortB + kInterruptEnable, kIerReceived);
  EXPECT_FALSE(card.interrupts());
  card.lines[1]->coming = "!";
  card.lines[1]->tell();
  EXPECT_TRUE(card.interrupts());
  EXPECT_EQ(card.read(kPortB + kInterruptIdentification), 0xcc) << "a single byte times out";
  card.read(kPortB + kData);
  EXPECT_FALSE(card.interrupts());
}

TEST(SerialCard, has_a_loopback_line_by_default) {
  std::unique_ptr<Endpoint> endpoint = *Endpoint::create(std::make_unique<Card>());
  const std::byte sent{'q'};
  ASSERT_TRUE(endpoint->write(kBar, kData, std::span(&sent, 1)));
  std::byte got{};
  ASSERT_TRUE(endpoint->read(kBar, kData, std::span(&got, 1)));
  EXPECT_EQ(got, sent);
}

// More than a FIFO holds: the rest is on its way.
constexpr std::string_view kMuch = "what a client sends and does not read stays its own secret";

TEST(SerialCard, a_reset_takes_what_is_on_its_way) {
  CardRig card(CardRig::Loopback{});
  card.send(0, kMuch);
  ASSERT_TRUE(card.endpoint->reset());
  card.write(kInterruptIdentification, kFcrEnable);
  EXPECT_EQ(card.receive(0), "");
  card.send(0, "mine");
  EXPECT_EQ(card.receive(0), "mine");
}

TEST(SerialCard, the_next_client_gets_nothing_of_the_last) {
  CardRig card(CardRig::Loopback{});
  card.send(0, kMuch);
  ASSERT_TRUE(card.endpoint->client_gone());
  card.write(kInterruptIdentification, kFcrEnable);
  EXPECT_EQ(card.receive(0), "");
}

TEST(SerialCard, what_is_on_its_way_migrates) {
  CardRig source(CardRig::Loopback{});
  CardRig destination(CardRig::Loopback{});
  destination.send(0, "left over, and more of it than a FIFO holds");
  source.send(0, kMuch);
  EXPECT_EQ(source.read(kData), 'w');
  migrate(source, destination);
  ASSERT_TRUE(destination.go(DeviceState::Running));
  EXPECT_EQ(destination.receive(0), kMuch.substr(1));
}

TEST(SerialCard, a_line_that_cannot_hold_what_is_on_its_way_refuses_it) {
  CardRig source(CardRig::Loopback{});
  source.send(0, kMuch);
  ASSERT_TRUE(source.go(DeviceState::StopCopy));
  const test::Drained state = test::drain(*source.endpoint->migration(), test::pieces_of(64));
  CardRig destination;
  ASSERT_TRUE(destination.go(DeviceState::Resuming));
  (void)test::fill(*destination.endpoint->migration(), state.bytes, test::pieces_of(64));
  const Result<void> stopped = destination.go(DeviceState::Stop);
  ASSERT_FALSE(stopped);
  EXPECT_NE(stopped.error().message.find("same kind of line"), std::string::npos) << stopped.error().message;
  ASSERT_TRUE(source.go(DeviceState::Running));
  EXPECT_EQ(source.receive(0), kMuch) << "the source goes on";
}

TEST(SerialCard, moves_nothing_while_it_does_not_run) {
  CardRig card;
  for (const DeviceState state : {DeviceState::RunningP2p, DeviceState::Stop}) {
    ASSERT_TRUE(card.go(state));
    card.lines[0]->coming = "wait";
    card.lines[0]->tell();
    EXPECT_EQ(card.lines[0]->coming, "wait") << contract::name(state);
    ASSERT_TRUE(card.go(DeviceState::Running));
    EXPECT_EQ(card.receive(0), "wait");
  }
  ASSERT_TRUE(card.go(DeviceState::RunningP2p));
  card.send(0, "later");  // P2P-INITIATE: served, but nothing leaves
  EXPECT_EQ(card.lines[0]->sent, "");
  ASSERT_TRUE(card.go(DeviceState::Running));
  EXPECT_EQ(card.lines[0]->sent, "later");
}

TEST(SerialCard, is_not_changed_by_accesses_while_stopped) {
  CardRig card;
  card.lines[0]->coming = "kept";
  card.lines[0]->tell();
  ASSERT_TRUE(card.go(DeviceState::Stop));
  EXPECT_EQ(card.read(kData), 0xff) << "STP-QUIET: a read of the FIFO would change it";
  EXPECT_FALSE(card.try_write(kScratch, 1));
  ASSERT_TRUE(card.go(DeviceState::Running));
  EXPECT_EQ(card.receive(0), "kept");
}

TEST(SerialCard, migrates_in_the_middle_of_a_transfer) {
  CardRig source;
  CardRig destination;
  destination.write(kScratch, 0x11);
  destination.send(0, "left over");
  destination.lines[0]->sent.clear();

  source.write(kLineControl, 0x83);
  source.write(kData, 1);
  source.write(kLineControl, 0x03);
  source.write(kScratch, 0x5a);
  source.write(kInterruptEnable, kIerReceived | kIerTransmitterEmpty);
  source.lines[0]->room = 4;
  source.send(0, "half is sent");
  source.lines[1]->coming = "half is read";
  source.lines[1]->tell();
  EXPECT_EQ(source.read(kPortB + kData), 'h');
  EXPECT_EQ(source.lines[0]->sent, "half");

  migrate(source, destination);
  EXPECT_EQ(destination.lines[0]->sent, "") << "nothing leaves before it runs";
  ASSERT_TRUE(destination.go(DeviceState::Running));
  EXPECT_EQ(destination.lines[0]->sent, " is sent");
  EXPECT_EQ(destination.receive(kPortB), "alf is read");
  EXPECT_EQ(destination.read(kScratch), 0x5a);
  EXPECT_EQ(destination.read(kInterruptEnable), 0x03);
  EXPECT_TRUE(destination.interrupts()) << "the transmitter emptied";
  destination.write(kLineControl, 0x83);
  EXPECT_EQ(destination.read(kData), 1) << "the divisor";
}

TEST(SerialCard, an_asserted_interrupt_migrates) {
  CardRig source;
  CardRig destination;
  source.write(kInterruptEnable, kIerReceived);
  source.lines[0]->coming = "?";
  source.lines[0]->tell();
  ASSERT_TRUE(source.interrupts());
  migrate(source, destination);
  ASSERT_TRUE(destination.go(DeviceState::Running));
  EXPECT_TRUE(destination.interrupts());
  EXPECT_EQ(destination.receive(0), "?");
  EXPECT_FALSE(destination.interrupts());
}

TEST(SerialCard, a_state_that_makes_no_sense_is_refused_and_leaves_it_cleared) {
  const auto load = [](std::string_view bytes) {
    Card card;
    StateReader reader(1);
    const auto span = std::as_bytes(std::span(bytes));
    reader.add("card", {span.begin(), span.end()});
    return card.load(reader);
  };
  EXPECT_FALSE(load("")) << "no ports";
  EXPECT_FALSE(load("\xff\xff\xff")) << "no message";
  using namespace std::string_view_literals;
  EXPECT_TRUE(load("\x0a\x00\x0a\x00"sv));
  EXPECT_FALSE(load("\x0a\x00\x0a\x00\x0a\x00"sv)) << "three ports";
  EXPECT_FALSE(load("\x0a\x02\x10\x10\x0a\x00"sv)) << "IER has no bit 4";
  EXPECT_FALSE(load("\x0a\x03\x38\x80\x02\x0a\x00"sv)) << "SCR of 0x100";
  const std::string most = "\x0a\x83\x20\x6a\x80\x20" + std::string(4096, 'x') + std::string("\x0a") + '\0';
  EXPECT_TRUE(load(most));
  EXPECT_FALSE(load("\x0a\x84\x20\x6a\x81\x20" + std::string(4097, 'x') + std::string("\x0a") + '\0'))
      << "a line holds 4 KiB";
  EXPECT_FALSE(Card().load(StateReader(1))) << "no section";
}

TEST(SerialCard, its_size_estimate_is_near) {
  CardRig card;
  const std::uint64_t estimate = card.endpoint->migration()->data_size();
  ASSERT_TRUE(card.go(DeviceState::StopCopy));
  const std::size_t read = test::drain(*card.endpoint->migration(), test::pieces_of(4096)).bytes.size();
  EXPECT_LE(read, estimate * 2);
  EXPECT_LE(estimate, read * 4);

  CardRig full(CardRig::Loopback{});
  full.send(0, std::string(5000, 'x'));
  const std::uint64_t more = full.endpoint->migration()->data_size();
  ASSERT_TRUE(full.go(DeviceState::StopCopy));
  EXPECT_LE(test::drain(*full.endpoint->migration(), test::pieces_of(4096)).bytes.size(), more * 2);
}

}  // namespace
}  // namespace gangway::serial
