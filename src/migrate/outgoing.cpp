#include "migrate/outgoing.h"

#include <algorithm>
#include <random>
#include <stop_token>
#include <utility>

#include <fmt/format.h>

#include "base/bytes.h"
#include "base/log.h"
#include "migrate/alive_timer.h"
#include "migrate/conversation.h"

namespace gangway::migrate {
namespace {

using Clock = Timeline::Clock;

// Below this a round says nothing about the bandwidth: what it takes is the way there and back.
constexpr std::uint64_t kTellingBytes = 1U << 20;
// Stopping and starting devices and CPUs, beside the round trips.
constexpr std::chrono::milliseconds kStopAndStart{5};
// PREPARED, COMMIT and RUNNING, and the data's own way.
constexpr int kSwitchoverRoundTrips = 2;

double seconds_since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

std::array<std::uint64_t, 2> draw_number() {
  std::random_device random;
  const auto word = [&] { return std::uint64_t{random()} << 32 | random(); };
  return {word(), word()};
}

}  // namespace

Outgoing::Outgoing(Machine& machine, const SourceOptions& options)
    : machine_(machine),
      options_(options),
      meter_(options.progress),
      pending_(machine.memory()),
      logs_(machine.devices(), machine.memory()) {}

Result<SourceReport> Outgoing::run(const Address& destination) {
  {
    const std::stop_callback interrupt(options_.cancel, [this] { channels_.interrupt(); });
    if (auto prepared = until_prepared(destination); !prepared) return give_up(std::move(prepared.error()));
  }
  if (options_.cancel.stop_requested()) return give_up({ECANCELED, "cancelled", {}});
  return commit();
}

Result<void> Outgoing::until_prepared(const Address& destination) {
  timeline_.enter("connect");
  if (auto connected = connect(destination); !connected) return connected;
  // Between what it sends the source waits for devices, trackers and CPUs.
  const AliveTimer alive(channels_.control(), options_.stall);
  timeline_.enter("setup");
  if (auto done = set_up(); !done) return done;
  if (auto started = start_tracking(); !started) return started;
  timeline_.enter("pre-copy");
  if (auto copied = pre_copy(); !copied) return copied;
  return switch_over();
}

Result<void> Outgoing::connect(const Address& destination) {
  auto setup = describe(machine_);
  if (!setup) return std::unexpected(setup.error());
  setup_ = std::move(*setup);
  setup_.page_checksums = options_.page_checksums;

  const std::uint32_t count = std::clamp(options_.channels, 1U, kMaxChannels);
  const auto migration = draw_number();
  for (std::uint32_t i = 0; i < count; ++i) {
    auto socket = connect_to(destination, options_.stall, options_.cancel);
    if (!socket) return std::unexpected(socket.error());
    auto adopted = Channel::adopt(std::move(*socket), options_.stall);
    if (!adopted) return std::unexpected(adopted.error());
    Channel& channel = channels_.add(std::move(*adopted));
    const auto begin = Clock::now();
    if (auto sent = channel.send_hello({.migration = migration, .channel = i, .channels = count}); !sent) return sent;
    if (auto answer = channel.receive_hello(); !answer) return std::unexpected(answer.error());
    round_trip_ = Clock::now() - begin;
  }
  memory_.emplace(machine_.memory(), channels_.all(), meter_, setup_.page_checksums);
  devices_.emplace(machine_.devices(), setup_, channels_.control(), meter_);
  return {};
}

// Everything that can be refused is refused here, before anything was changed at the source.
Result<void> Outgoing::set_up() {
  meter_.phase("setup");
  if (auto sent = channels_.control().send(MessageType::Setup, encode(setup_)); !sent) return sent;
  if (auto sent = devices_->send_configs(); !sent) return sent;
  return expect(MessageType::SetupDone);
}

Result<void> Outgoing::start_tracking() {
  tracking_ = true;
  if (auto started = machine_.dirty_tracker().start(); !started) {
    return fail_within("start to track writes", started.error());
  }
  logs_.start();
  collected_ = Clock::now();
  pending_.fill();
  return devices_->start_pre_copy();
}

Result<void> Outgoing::pre_copy() {
  meter_.phase("pre-copy");
  for (int fitting_rounds = 0;;) {
    const auto now = figures(fitting_rounds);
    if (!now) return std::unexpected(now.error());
    const Decision decision = decide(*now);
    converged_ = decision == Decision::Switch;
    if (decision != Decision::AnotherRound) return {};
    fitting_rounds = fits(*now) ? fitting_rounds + 1 : 0;

    const auto begin = Clock::now();
    const std::uint64_t sent_before = meter_.memory_bytes() + meter_.device_bytes();
    if (auto sent = devices_->send_pre_copy(); !sent) return sent;
    if (auto sent = send_round(false); !sent) return sent;
    if (auto done = expect(MessageType::RoundDone); !done) return done;
    const std::uint64_t sent = meter_.memory_bytes() + meter_.device_bytes() - sent_before;
    if (sent >= kTellingBytes || bandwidth_ == 0) bandwidth_ = static_cast<double>(sent) / seconds_since(begin);
    if (auto collected = collect(); !collected) return collected;
  }
}

Result<Figures> Outgoing::figures(int fitting_rounds) {
  auto device_bytes = devices_->remaining();
  if (!device_bytes) return std::unexpected(device_bytes.error());
  return Figures{.bytes_remaining = pending_.count() * kPageSize + *device_bytes,
                 .bandwidth = bandwidth_,
                 .dirty_rate = dirty_rate_,
                 .rounds = rounds_,
                 .max_rounds = options_.max_rounds,
                 .fitting_rounds = fitting_rounds,
                 .max_downtime = options_.max_downtime,
                 .fixed_downtime = kStopAndStart + kSwitchoverRoundTrips * round_trip_,
                 .rounds_help = logs_.exact()};
}

// Sends what is pending, and leaves nothing pending.
Result<void> Outgoing::send_round(bool final) {
  ++rounds_;
  meter_.round(rounds_, pending_.count() * kPageSize);
  if (rounds_ == 1) {
    if (auto sent = memory_->send_holes(pending_); !sent) return sent;
  }
  const RoundEnd end{.round = static_cast<std::uint32_t>(rounds_), .final = final ? 1U : 0U};
  if (auto sent = memory_->send_round(pending_, end); !sent) return sent;
  pending_.clear();
  return {};
}

// A page is read only after the writes to it were collected and are watched for again, so none is lost.
Result<void> Outgoing::collect() {
  logs_.collect(pending_);
  for (std::size_t block = 0; block < machine_.memory().size(); ++block) {
    if (auto collected = machine_.dirty_tracker().collect(block, pending_.bitmap(block)); !collected) {
      return fail_within("collect the pages written", collected.error());
    }
  }
  const double seconds = seconds_since(std::exchange(collected_, Clock::now()));
  dirty_rate_ = static_cast<double>(pending_.count() * kPageSize) / std::max(seconds, 1e-9);
  return {};
}

Result<void> Outgoing::switch_over() {
  meter_.phase("switchover");
  timeline_.enter("switchover: pause");
  paused_ = true;
  paused_at_ = Clock::now();
  if (auto paused = machine_.pause(); !paused) return paused;

  timeline_.enter("switchover: stop devices");
  if (auto stopped = devices_->stop_initiating(); !stopped) return stopped;
  if (auto stopped = devices_->stop(); !stopped) return stopped;

  timeline_.enter("switchover: memory");
  if (auto collected = collect(); !collected) return collected;
  if (auto sent = send_round(true); !sent) return sent;

  timeline_.enter("switchover: devices");
  if (auto sent = devices_->send_configs(); !sent) return sent;
  if (auto sent = devices_->send_rest(); !sent) return sent;

  timeline_.enter("switchover: load");
  auto cpus = machine_.save_cpus();
  if (!cpus) return fail_within("save the CPUs", cpus.error());
  if (cpus->size() > kMaxCpuState) {
    return fail(E2BIG, fmt::format("CPU state of {} bytes (at most {})", cpus->size(), kMaxCpuState));
  }
  if (auto sent = channels_.control().send(MessageType::Cpus, *cpus); !sent) return sent;
  const LastTotals totals{.memory_bytes = meter_.memory_bytes(), .device_bytes = meter_.device_bytes()};
  if (auto sent = channels_.control().send(MessageType::Last, bytes_of(totals)); !sent) return sent;
  return expect(MessageType::Prepared);
}

Result<SourceReport> Outgoing::commit() {
  timeline_.enter("switchover: run");
  Channel& control = channels_.control();
  if (control.readable()) return give_up({ECONNRESET, "the destination is gone", {}});
  // What could not be sent whole cannot be obeyed.
  if (auto sent = control.send(MessageType::Commit, {}); !sent) return give_up(std::move(sent.error()));

  if (auto running = expect(MessageType::Running); !running) {
    if (peer_failure_ && !peer_failure_->ran) return give_up(std::move(running.error()));
    stop_tracking();
    return fail(EINPROGRESS,
                fmt::format("switchover: run: {}; the destination had been told to run and may be running, "
                            "so the machine stays paused here",
                            running.error().message));
  }
  const auto downtime = Clock::now() - paused_at_;
  timeline_.enter("clean up");
  devices_->leave();
  stop_tracking();
  timeline_.finish();
  SourceReport done = report();
  done.downtime = downtime;
  return done;
}

Result<void> Outgoing::expect(MessageType type) {
  auto message = next_message(channels_.control());
  if (!message) return std::unexpected(message.error());
  if (message->type == MessageType::Failed) {
    peer_failure_ = decode_failure(message->payload);
    return fail_within("the destination gave up", peer_failure_->error);
  }
  if (message->type != type) {
    return fail(EPROTO, fmt::format("{} from the destination instead of {}", name(message->type), name(type)));
  }
  return {};
}

SourceReport Outgoing::report() {
  return {.phases = timeline_.phases(),
          .total = timeline_.total(),
          .memory_bytes = meter_.memory_bytes(),
          .device_bytes = meter_.device_bytes(),
          .rounds = rounds_,
          .converged = converged_};
}

std::unexpected<Error> Outgoing::give_up(Error error) {
  // The machine first: the rest may have to wait for the peer.
  const Result<void> back = take_back();
  if (options_.cancel.stop_requested()) {
    error = {ECANCELED, "cancelled", {}};
  } else if (!peer_failure_ && !channels_.empty()) {
    if (peer_failure_ = last_words(channels_.control()); peer_failure_) {
      error = fail_within("the destination gave up", peer_failure_->error).error();
    }
  }
  if (!channels_.empty() && !peer_failure_) {
    (void)channels_.control().send(MessageType::Failed, encode(PeerFailure{.error = error}));
    channels_.control().finish();
  }
  error.message = fmt::format("{}: {}", timeline_.current(), error.message);
  if (!back) error.message += fmt::format("; and the machine does not run as before: {}", back.error().message);
  return std::unexpected(std::move(error));
}

// Devices before CPUs, so that nobody talks to a stopped device.
Result<void> Outgoing::take_back() {
  Result<void> first;
  if (devices_) first = devices_->take_back();
  stop_tracking();
  if (paused_) {
    auto resumed = machine_.resume();
    if (first && !resumed) first = fail_within("resume", resumed.error());
  }
  return first;
}

void Outgoing::stop_tracking() {
  logs_.stop();
  if (!std::exchange(tracking_, false)) return;
  if (auto stopped = machine_.dirty_tracker().stop(); !stopped) {
    log::warn("stop to track writes: {}", stopped.error().message);
  }
}

}  // namespace gangway::migrate
