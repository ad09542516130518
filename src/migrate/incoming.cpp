#include "migrate/incoming.h"

#include <algorithm>
#include <stop_token>
#include <utility>

#include <fmt/format.h>

#include "base/bytes.h"
#include "base/log.h"
#include "migrate/address.h"
#include "migrate/alive_timer.h"
#include "migrate/conversation.h"
#include "migrate/setup.h"

namespace gangway::migrate {
namespace {

constexpr std::chrono::milliseconds kGreetingLimit{1000};

// It was silent, or went again.
bool said_nothing(const Error& error) { return error.code == ETIMEDOUT || error.code == ECONNRESET; }

}  // namespace

Incoming::Incoming(Machine& machine, const Fd& listener, const DestinationOptions& options)
    : machine_(machine), listener_(listener), options_(options) {}

Incoming::~Incoming() { stop_receivers(); }

Result<DestinationReport> Incoming::run() {
  {
    // What the source hears from us, and a COMMIT that has come, decide where the machine runs: they are not cut off.
    const std::stop_callback interrupt(options_.cancel, [this] { channels_.interrupt_receiving(); });
    if (auto committed = until_committed(); !committed) return give_up(std::move(committed.error()));
  }
  // From here on nothing but a device that does not run keeps the machine from running.
  if (auto ran = take_over(); !ran) return give_up(std::move(ran.error()));
  timeline_.finish();
  const auto waited = timeline_.phases().front().took;
  return DestinationReport{.phases = timeline_.phases(),
                           .total = timeline_.total() - waited,
                           .memory_bytes = memory_->bytes_received(),
                           .device_bytes = devices_->bytes_received(),
                           .rounds = static_cast<int>(gate_->rounds())};
}

Result<void> Incoming::until_committed() {
  timeline_.enter("wait for a source");
  PageSet in_use = pages_in_use(machine_.memory());
  if (options_.prefault) prefault_ = std::make_unique<Prefault>(machine_.memory());
  if (auto accepted = accept_source(); !accepted) return accepted;
  if (auto agreed = agree(std::move(in_use)); !agreed) return agreed;
  timeline_.enter("receive");
  if (auto received = receive_until_last(); !received) return received;
  // The last word before the source may give the machine away.
  if (options_.cancel.stop_requested()) return fail(ECANCELED, "cancelled");
  if (auto said = channels_.control().send(MessageType::Prepared, {}); !said) return said;

  timeline_.enter("wait for the order to run");
  auto message = next_or_commit();
  if (!message) return std::unexpected(message.error());
  if (message->type != MessageType::Commit) {
    return fail(EPROTO, fmt::format("{} from the source instead of COMMIT", name(message->type)));
  }
  return {};
}

Result<void> Incoming::take_over() {
  timeline_.enter("run");
  const AliveTimer alive(channels_.control(), options_.stall);
  if (auto ran = devices_->run(); !ran) return ran;
  if (auto resumed = machine_.resume(); !resumed) return fail_within("resume", resumed.error());
  // The machine runs here whether the source hears it or not.
  if (auto said = channels_.control().send(MessageType::Running, {}); !said) {
    log::warn("the machine runs, but the source could not be told: {}", said.error().message);
  }
  return {};
}

Result<void> Incoming::accept_source() {
  for (;;) {
    auto control = accept_one(std::nullopt);
    if (!control) return std::unexpected(control.error());
    auto hello = greet(**control);
    if (!hello && said_nothing(hello.error())) {
      log::warn("a connection was closed that did not say what it wants: {}", hello.error().message);
      channels_.drop_last();
      continue;
    }
    if (!hello) return std::unexpected(hello.error());
    if (hello->channel != 0 || hello->channels == 0 || hello->channels > kMaxChannels) {
      return fail(EPROTO, fmt::format("hello of channel {} of {}", hello->channel, hello->channels));
    }
    timeline_.enter("setup");
    greeted_ = true;
    return accept_further(*hello);
  }
}

// Whoever comes has a moment to greet, and no more: a source may wait behind him.
Result<Channel*> Incoming::accept_one(std::optional<std::chrono::milliseconds> wait) {
  auto socket = accept_on(listener_, wait, options_.cancel);
  if (!socket) return std::unexpected(socket.error());
  auto adopted = Channel::adopt(std::move(*socket), std::min(options_.stall, kGreetingLimit));
  if (!adopted) return std::unexpected(adopted.error());
  return &channels_.add(std::move(*adopted));
}

Result<Hello> Incoming::greet(Channel& channel) {
  auto hello = channel.receive_hello();
  if (!hello && hello.error().code != EPROTONOSUPPORT) return hello;
  // A peer of another revision is told ours, so that it can say what is wrong.
  const Hello answer = hello ? *hello : Hello{};
  if (auto sent = channel.send_hello(answer); !sent) return std::unexpected(sent.error());
  if (auto limited = channel.limit(options_.stall); !limited) return std::unexpected(limited.error());
  return hello;
}

// The source opens its further channels one after the other; somebody else who connects meanwhile is sent away.
Result<void> Incoming::accept_further(const Hello& first) {
  const auto deadline = Timeline::Clock::now() + options_.stall;
  while (channels_.all().size() < first.channels) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Timeline::Clock::now());
    auto channel = accept_one(std::max(left, std::chrono::milliseconds(0)));
    if (!channel) return fail_within("wait for the source's further channels", channel.error());
    const auto hello = greet(**channel);
    const bool ours = hello && hello->migration == first.migration && hello->channel == channels_.all().size() - 1;
    if (!ours) {
      log::warn("a connection that is not the source's was closed");
      channels_.drop_last();
    }
  }
  return {};
}

Result<void> Incoming::agree(PageSet in_use) {
  auto message = next();
  if (!message) return std::unexpected(message.error());
  if (message->type != MessageType::Setup) {
    return fail(EPROTO, fmt::format("{} from the source instead of SETUP", name(message->type)));
  }
  auto setup = decode_setup(message->payload);
  if (!setup) return std::unexpected(setup.error());
  auto here = describe(machine_);
  if (!here) return std::unexpected(here.error());
  if (auto same = check_same(*setup, *here); !same) return same;

  memory_.emplace(machine_.memory(), std::move(in_use), prefault_.get(), setup->page_checksums);
  devices_.emplace(machine_);
  gate_.emplace(channels_.all().size());
  if (auto prepared = prepare_devices(here->devices.size()); !prepared) return prepared;
  if (auto said = channels_.control().send(MessageType::SetupDone, {}); !said) return said;
  start_receivers();
  return {};
}

Result<void> Incoming::prepare_devices(std::size_t count) {
  const AliveTimer alive(channels_.control(), options_.stall);
  for (std::size_t i = 0; i < count; ++i) {
    auto message = next();
    if (!message) return std::unexpected(message.error());
    if (message->type != MessageType::DeviceConfig) {
      return fail(EPROTO, fmt::format("{} from the source instead of DEVICE_CONFIG", name(message->type)));
    }
    if (auto taken = devices_->receive_config(message->payload); !taken) return taken;
  }
  return {};
}

// A message from the control channel, unless somebody cancelled, another channel failed or the source gave up.
Result<Channel::Message> Incoming::next() {
  // What comes without a pause would be received without an end.
  if (options_.cancel.stop_requested()) return fail(ECANCELED, "cancelled");
  return next_or_commit();
}

// After PREPARED: an order to run that came before somebody cancelled is obeyed.
Result<Channel::Message> Incoming::next_or_commit() {
  auto message = next_message(channels_.control());
  {
    const std::scoped_lock lock(failure_mutex_);
    if (failure_) return std::unexpected(*failure_);
  }
  if (message && message->type == MessageType::Failed) {
    source_gave_up_ = true;
    return fail_within("the source gave up", decode_failure(message->payload).error);
  }
  return message;
}

Result<void> Incoming::receive_until_last() {
  for (;;) {
    auto message = next();
    if (!message) return std::unexpected(message.error());
    if (message->type == MessageType::Last) {
      timeline_.enter("load");
      return load(message->payload);
    }
    if (auto received = receive_one(*message); !received) return received;
  }
}

Result<void> Incoming::receive_one(Channel::Message& message) {
  if (message.type == MessageType::Pages || message.type == MessageType::RoundEnd) {
    if (auto settled = devices_->settle(); !settled) return settled;
  }
  switch (message.type) {
    case MessageType::Pages:
      return memory_->receive(channels_.control(), message.payload);
    case MessageType::RoundEnd:
      return end_round(message.payload);
    case MessageType::DeviceConfig:
      return devices_->receive_config(message.payload);
    case MessageType::DeviceData:
      return devices_->receive_data(message.payload);
    case MessageType::Cpus:
      if (cpus_) return fail(EPROTO, "CPUS came twice");
      cpus_ = std::move(message.payload);
      return {};
    default:
      return fail(EPROTO, fmt::format("{} from the source, out of turn", name(message.type)));
  }
}

Result<void> Incoming::end_round(std::span<const std::byte> payload) {
  const auto end = load_at<RoundEnd>(payload);
  if (!end) return fail(EPROTO, fmt::format("ROUND_END of {} bytes", payload.size()));
  control_waits_ = true;
  auto ended = gate_->arrive(*end);
  control_waits_ = false;
  if (!ended) return ended;
  if (end->final != 0) return {};
  return channels_.control().send(MessageType::RoundDone, bytes_of(end->round));
}

Result<void> Incoming::load(std::span<const std::byte> payload) {
  const AliveTimer alive(channels_.control(), options_.stall);
  const auto totals = load_at<LastTotals>(payload);
  if (!totals) return fail(EPROTO, fmt::format("LAST of {} bytes", payload.size()));
  if (!gate_->finished()) return fail(EPROTO, "LAST before the final round of memory");
  if (!cpus_) return fail(EPROTO, "LAST before CPUS");
  stop_receivers();
  prefault_.reset();
  if (totals->memory_bytes != memory_->bytes_received() || totals->device_bytes != devices_->bytes_received()) {
    return fail(ENODATA,
                fmt::format("{} bytes of memory and {} of devices came, of {} and {}", memory_->bytes_received(),
                            devices_->bytes_received(), totals->memory_bytes, totals->device_bytes));
  }
  if (auto complete = memory_->check_complete(); !complete) return complete;
  if (auto loaded = devices_->load(); !loaded) return loaded;
  if (auto loaded = machine_.load_cpus(*cpus_); !loaded) return fail_within("load the CPUs", loaded.error());
  return {};
}

void Incoming::start_receivers() {
  for (Channel& channel : channels_.all().subspan(1)) {
    receivers_.emplace_back([this, &channel] { receive_memory(channel); });
  }
}

void Incoming::stop_receivers() {
  if (receivers_.empty()) return;
  gate_->abort();
  for (Channel& channel : channels_.all().subspan(1)) channel.interrupt();
  receivers_.clear();
}

// Runs on a thread of its own for every channel beside the control channel.
void Incoming::receive_memory(Channel& channel) {
  std::vector<std::byte> storage;
  for (bool final = false; !final;) {
    if (auto came = await_memory(channel); !came) return note_failure(std::move(came.error()));
    auto message = channel.receive(std::move(storage));
    if (!message) return note_failure(std::move(message.error()));
    Result<void> result;
    if (message->type == MessageType::Pages) {
      result = memory_->receive(channel, message->payload);
    } else if (const auto end = load_at<RoundEnd>(message->payload); message->type == MessageType::RoundEnd && end) {
      result = gate_->arrive(*end);
      final = end->final != 0;
    } else {
      result = fail(EPROTO, fmt::format("{} on a channel for memory", name(message->type)));
    }
    if (!result) return note_failure(std::move(result.error()));
    storage = std::move(message->payload);
  }
}

// Silence is no failure as long as the control channel is listened to: the source may be busy with what goes over that,
// and it has its limit. When the control channel waits at the gate for this one nobody else watches over the source.
Result<void> Incoming::await_memory(Channel& channel) {
  for (;;) {
    const bool waited_for = control_waits_;
    if (channel.readable(options_.stall)) return {};
    if (waited_for && control_waits_) {
      return fail(ETIMEDOUT, "the source sends the end of a round on one channel, and nothing on another");
    }
  }
}

void Incoming::note_failure(Error error) {
  {
    const std::scoped_lock lock(failure_mutex_);
    if (!failure_) failure_ = std::move(error);
  }
  gate_->abort();
  channels_.control().interrupt_receiving();
}

std::unexpected<Error> Incoming::give_up(Error error) {
  {
    // What made us fail, if another channel did; what fails from here on is our own doing.
    const std::scoped_lock lock(failure_mutex_);
    if (failure_) error = *failure_;
  }
  stop_receivers();
  prefault_.reset();
  const bool ran = devices_ && devices_->ran();
  if (options_.cancel.stop_requested() && timeline_.current() != "run") error = {ECANCELED, "cancelled", {}};
  // Before the source hears of it, so that what devices hold here (a lock on an image) is free again.
  if (devices_) devices_->reset();
  error.message = fmt::format("{}: {}", timeline_.current(), error.message);
  if (greeted_ && !source_gave_up_) {
    (void)channels_.control().send(MessageType::Failed, encode(PeerFailure{.error = error, .ran = ran}));
  }
  if (!channels_.empty()) channels_.control().finish();
  return std::unexpected(std::move(error));
}

}  // namespace gangway::migrate
