// Concurrency: acts that meet each other. Whatever comes first, the device ends in one state and goes on.
#include <array>

#include <fmt/core.h>

#include "conformance/steps.h"

namespace gangway::conformance {
namespace {

using enum DeviceState;

constexpr int kRounds = 20;

// Whoever came last: after all is done a reset still leads to RUNNING, and the device migrates.
void expect_whole(Context& c, std::string_view clause, const std::string& after) {
  expect(clause, !c.device.lost(), after + " the device answers", c.device.why_lost());
  const DeviceState now = expect_answer(clause, c.device.get(), after + " GET answers");
  expect(clause, now == Error || contract::advertised(now, c.flags()), after + " the device is in one of its states",
         std::string(contract::name(now)));
  expect_done(clause, c.device.reset(), after + " a reset succeeds");
  expect_state(clause, c.device, Running);
}

void wait_for_other(Context& c, std::string_view clause, const std::string& what) {
  (void)c.device.wait();  // it may fail, but it ends
  expect(clause, !c.device.lost(), what + " both end", c.device.why_lost());
}

Result<void> reset_device(DeviceHandle& device) { return device.reset(); }

void reset_during_set(Context& c) {
  make_stream(c.device);
  const std::vector<DeviceState> states = states_of(c.flags());
  for (int round = 0; round < kRounds; ++round) {
    const DeviceState to = states[static_cast<std::size_t>(round) % states.size()];
    const std::string what = fmt::format("a reset during a SET of {}:", contract::name(to));
    c.device.alongside("reset", reset_device);
    (void)c.device.set(to);
    wait_for_other(c, "RST-CONCURRENT", what);
    expect_whole(c, "RST-CONCURRENT", what);
  }
  expect_migrates("RST-CONCURRENT", c.device);
}

// The act that a reset meets after another act was refused.
void reset_during_a_refused_set(Context& c) {
  go(c.device, Resuming);
  c.device.alongside("reset", reset_device);
  (void)c.device.set(Stop);
  wait_for_other(c, "RST-CONCURRENT", "a reset during a SET that is refused:");
  expect_whole(c, "RST-CONCURRENT", "after a reset during a SET that is refused");
}

void reset_during_read(Context& c) {
  for (int round = 0; round < kRounds; ++round) {
    go(c.device, StopCopy);
    c.device.alongside("reset", reset_device);
    const Result<StreamRead> read = c.device.read_all(64);
    wait_for_other(c, "RST-CONCURRENT", "a reset during a read:");
    // A session that a reset did not end (RST-CLEARS) would be read without an end in every round.
    if (!read && read.error().code == ENOSPC) throw Untestable{read.error().message};
    expect_whole(c, "RST-CONCURRENT", "after a reset during a read");
  }
}

void reset_during_write(Context& c) {
  make_stream(c.device);
  for (int round = 0; round < kRounds; ++round) {
    go(c.device, Resuming);
    c.device.choose({});
    c.device.alongside("reset", reset_device);
    (void)c.device.write_all(64);
    wait_for_other(c, "RST-CONCURRENT", "a reset during a write:");
    expect_whole(c, "RST-CONCURRENT", "after a reset during a write");
  }
  expect_migrates("RST-CONCURRENT", c.device);
}

// At the end of pre-copy data a reader may be made to wait; a SET wakes it and is not held up by it.
void set_wakes_a_reader(Context& c) {
  go(c.device, PreCopy);
  step(c.device.read_all(), "read all");
  c.device.alongside("read 64", [](DeviceHandle& device) -> Result<void> {
    std::array<std::byte, 64> room{};
    const Result<StreamRead> read = device.read_data(room);
    if (!read) return std::unexpected(read.error());
    return {};
  });
  const Result<void> set = c.device.set(Running);
  (void)c.device.wait();
  expect("DAT-SESSION", !c.device.lost(), "a reader is woken when its session ends", c.device.why_lost());
  expect_done("DAT-SESSION", set, "a SET is not held up by a reader");
  expect_state("DAT-SESSION", c.device, Running);
}

// Two writers race, so what arrives is no good stream unless they happened to follow each other: it may be refused or
// loaded, and the device goes on.
void two_writers_on_one_session(Context& c) {
  make_stream(c.device);
  for (int round = 0; round < 3; ++round) {
    go(c.device, Resuming);
    c.device.choose({});
    auto bytes = std::make_shared<Bytes>(c.device.good());
    c.device.alongside("write", [bytes](DeviceHandle& device) { return device.write_data(*bytes); });
    const bool one = c.device.write_all().has_value();
    const bool other = c.device.wait().has_value();
    expect("DAT-STREAM", !c.device.lost(), "two writers on one session end", c.device.why_lost());
    // Both streams together are longer than one, so they are not whole. Where a writer was refused, the other's may be.
    const Result<void> set = c.device.set(Running);
    if (one && other) expect_refused("DAT-VALIDATE", c.device, set, "two streams in one session are refused");
    expect("DAT-STREAM", !c.device.lost(), "a SET after two writers ends", c.device.why_lost());
    step(c.device.reset(), "reset");
  }
  expect_migrates("RST-CONCURRENT", c.device);
}

// The client goes while the device reads for it.
void close_during_read(Context& c) {
  for (int round = 0; round < 5; ++round) {
    go(c.device, StopCopy);
    c.device.alongside("read 1048576", [](DeviceHandle& device) -> Result<void> {
      Bytes room(1U << 20);
      const Result<StreamRead> read = device.read_data(room);
      if (!read) return std::unexpected(read.error());
      return {};
    });
    c.device.close();
    (void)c.device.wait();
    expect_done("FSM-INITIAL", c.device.open(), "the device opens again after a close during a read");
    expect_state("FSM-INITIAL", c.device, Running);
  }
}

}  // namespace

std::vector<Test> concurrency_tests() {
  constexpr std::uint32_t kNeeds = kMigration | kReset;
  return {
      {"reset_during_set", {"RST-CONCURRENT"}, kNeeds, reset_during_set},
      {"reset_during_a_refused_set", {"RST-CONCURRENT"}, kNeeds, reset_during_a_refused_set},
      {"reset_during_read", {"RST-CONCURRENT"}, kNeeds, reset_during_read},
      {"reset_during_write", {"RST-CONCURRENT"}, kNeeds, reset_during_write},
      {"set_wakes_a_reader", {"DAT-SESSION"}, kMigration | kPreCopy, set_wakes_a_reader},
      {"two_writers_on_one_session", {"DAT-STREAM", "DAT-VALIDATE"}, kNeeds, two_writers_on_one_session},
      {"close_during_read", {"FSM-INITIAL"}, kMigration, close_during_read, Level::Must, true},
  };
}

}  // namespace gangway::conformance
