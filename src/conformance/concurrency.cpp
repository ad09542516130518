// Concurrency: acts that meet each other. Whatever comes first, the device ends in one state and goes on.
#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <memory>

#include <fmt/core.h>

#include "conformance/steps.h"

namespace gangway::conformance {
namespace {

using enum DeviceState;

constexpr int kRounds = 20;
constexpr unsigned kWriteLimits = 6;  // a whole stream is many pieces

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
    c.device.alongside("reset", 1, reset_device);
    (void)c.device.set(to);
    wait_for_other(c, "RST-CONCURRENT", what);
    expect_whole(c, "RST-CONCURRENT", what);
  }
  expect_migrates("RST-CONCURRENT", c.device);
}

// The act that a reset meets after another act was refused.
void reset_during_a_refused_set(Context& c) {
  go(c.device, Resuming);
  c.device.alongside("reset", 1, reset_device);
  (void)c.device.set(Stop);
  wait_for_other(c, "RST-CONCURRENT", "a reset during a SET that is refused:");
  expect_whole(c, "RST-CONCURRENT", "after a reset during a SET that is refused");
}

void reset_during_read(Context& c) {
  for (int round = 0; round < kRounds; ++round) {
    go(c.device, StopCopy);
    c.device.alongside("reset", 1, reset_device);
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
    c.device.alongside("reset", 1, reset_device);
    (void)c.device.write_all(64);
    wait_for_other(c, "RST-CONCURRENT", "a reset during a write:");
    expect_whole(c, "RST-CONCURRENT", "after a reset during a write");
  }
  expect_migrates("RST-CONCURRENT", c.device);
}

// At the end of pre-copy data a reader may be made to wait; a SET wakes it and is not held up by it.
void set_wakes_a_reader(Context& c) {
  // Which of the two comes first is open, so it is tried again.
  for (int round = 0; round < 5; ++round) {
    go(c.device, PreCopy);
    step(c.device.read_all(), "read all");
    const auto begun = std::make_shared<std::atomic<bool>>(false);
    c.device.alongside("read 64", 1, [begun](DeviceHandle& device) -> Result<void> {
      std::array<std::byte, 64> room{};
      *begun = true;
      begun->notify_all();
      const Result<StreamRead> read = device.read_data(room);
      if (!read) return std::unexpected(read.error());
      return {};
    });
    begun->wait(false);
    const Result<void> set = c.device.set(Running);
    (void)c.device.wait();
    expect("DAT-SESSION", !c.device.lost(), "a reader is woken when its session ends", c.device.why_lost());
    expect_done("DAT-SESSION", set, "a SET is not held up by a reader");
    expect_state("DAT-SESSION", c.device, Running);
  }
}

// Two writers race, so what arrives is no good stream unless they happened to follow each other: it may be refused or
// loaded, and the device goes on.
void two_writers_on_one_session(Context& c) {
  make_stream(c.device);
  for (int round = 0; round < 3; ++round) {
    go(c.device, Resuming);
    c.device.choose({});
    auto bytes = std::make_shared<Bytes>(c.device.good());
    c.device.alongside("write", kWriteLimits, [bytes](DeviceHandle& device) { return device.write_data(*bytes); });
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

// Reads by a data descriptor of its own, from before the device is closed to after it.
struct Reader {
  explicit Reader(Fd from) : data(std::move(from)) {}

  Result<void> run() {
    constexpr int kReadsAfter = 100;
    Bytes room(4096);
    begun = true;
    begun.notify_all();
    for (int after = 0; after < kReadsAfter; after += closed ? 1 : 0) {
      const ssize_t got = ::read(data.get(), room.data(), room.size());
      if (got < 0 && closed && errno != EINTR && errno != EAGAIN) break;
    }
    return {};
  }

  const Fd data;
  std::atomic<bool> begun = false;
  std::atomic<bool> closed = false;
};

// The client goes while a thread of it reads: the reader holds the data descriptor and not the device. What it reads
// then, and whether it fails, is open; that it ends is not.
void close_during_read(Context& c) {
  for (int round = 0; round < 5; ++round) {
    go(c.device, StopCopy);
    const auto reader = std::make_shared<std::unique_ptr<Reader>>();
    step(c.device.perform("data descriptor",
                          [reader](DeviceHandle& device) -> Result<void> {
                            const Result<int> data = device.data_descriptor();
                            if (!data) return std::unexpected(data.error());
                            Fd copy(::fcntl(*data, F_DUPFD_CLOEXEC, 0));
                            if (!copy) return fail_errno("duplicate the data descriptor");
                            *reader = std::make_unique<Reader>(std::move(copy));
                            return {};
                          }),
         "take the data descriptor");
    c.device.alongside("read until it is closed", 1, [reader] { return (*reader)->run(); });
    (*reader)->begun.wait(false);
    c.device.close();
    (*reader)->closed = true;
    const Result<void> ended = c.device.wait();
    expect("DAT-SESSION", ended || ended.error().code != ETIMEDOUT, "a reader ends when its device is closed",
           "it does not");
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
      {"close_during_read", {"FSM-INITIAL", "DAT-SESSION"}, kMigration | kDataFd, close_during_read, Level::Must, true},
  };
}

}  // namespace gangway::conformance
