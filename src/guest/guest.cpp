#include "guest/guest.h"

#include <fmt/format.h>

#include "base/json_text.h"
#include "base/log.h"
#include "guest/report.h"

namespace gangway::guest {

using nlohmann::ordered_json;

std::string_view name(GuestState state) {
  switch (state) {
    case GuestState::Waiting:
      return "waiting";
    case GuestState::Running:
      return "running";
    case GuestState::Migrating:
      return "migrating";
    case GuestState::Migrated:
      return "migrated";
    case GuestState::Unknown:
      return "unknown";
    case GuestState::Stopped:
      return "stopped";
    case GuestState::Failed:
      return "failed";
  }
  return "?";
}

Result<std::unique_ptr<Guest>> Guest::create(GuestOptions options) {
  std::unique_ptr<Guest> guest(new Guest(std::move(options)));
  auto ready = guest->options_.incoming.empty() ? guest->boot() : guest->listen();
  if (!ready) return std::unexpected(ready.error());
  return guest;
}

Guest::~Guest() {
  // The threads use everything else, so they end first.
  incoming_thread_ = {};
  migration_thread_ = {};
}

Result<std::unique_ptr<GuestMachine>> Guest::make_machine() const {
  std::vector<GuestMachine::Device> devices;
  for (const auto& [id, target] : options_.devices) {
    auto handle = open_when_ready(target, options_.patience);
    if (!handle) return fail_within(id, handle.error());
    devices.push_back({.id = id, .handle = std::move(*handle)});
  }
  return GuestMachine::create(options_.memory, std::move(devices), options_.tracking);
}

Result<void> Guest::boot() {
  auto machine = make_machine();
  if (!machine) return std::unexpected(machine.error());
  if (auto booted = (*machine)->boot(options_.boot); !booted) return booted;
  machine_ = std::move(*machine);
  state_ = GuestState::Running;
  return {};
}

Result<void> Guest::listen() {
  auto listener = migrate::Listener::bind(options_.incoming);
  if (!listener) return std::unexpected(listener.error());
  auto machine = make_machine();
  if (!machine) return std::unexpected(machine.error());
  machine_ = std::move(*machine);
  incoming_address_ = listener->address();
  listener_ = std::move(*listener);
  incoming_thread_ = std::jthread([this](const std::stop_token& stop) { wait_for_machines(stop); });
  return {};
}

// After a failure the machine is made anew, devices and all: nothing of what arrived in part is left over.
void Guest::wait_for_machines(const std::stop_token& stop) {
  while (!stop.stop_requested()) {
    auto arrived = listener_->migrate_in(*machine(), {.cancel = stop});
    if (arrived) {
      const std::scoped_lock lock(mutex_);
      arrival_ = std::move(*arrived);
      state_ = GuestState::Running;
      changed_.notify_all();
      return;
    }
    if (stop.stop_requested()) return;
    log::warn("no machine arrived: {}", arrived.error().message);
    {
      const std::scoped_lock lock(mutex_);
      reason_ = arrived.error().message;
      machine_.reset();
    }
    auto fresh = make_machine();
    if (!fresh) return enter(GuestState::Failed, fresh.error().message);
    const std::scoped_lock lock(mutex_);
    machine_ = std::move(*fresh);
  }
}

std::shared_ptr<GuestMachine> Guest::machine() const {
  const std::scoped_lock lock(mutex_);
  return machine_;
}

GuestState Guest::state() const {
  const std::scoped_lock lock(mutex_);
  return state_;
}

void Guest::enter(GuestState state, std::string reason) {
  {
    const std::scoped_lock lock(mutex_);
    state_ = state;
    if (!reason.empty()) reason_ = std::move(reason);
  }
  changed_.notify_all();
}

Result<void> Guest::migrate(const Migration& request) {
  const std::scoped_lock lock(mutex_);
  if (stopping_) return fail(EBUSY, "the guest is being stopped");
  if (state_ != GuestState::Running) return fail(EBUSY, fmt::format("the guest is {}, not running", name(state_)));
  // The thread of an earlier migration has done its work: the state says so.
  migration_thread_ = {};
  events_.clear();
  events_end_ = false;
  state_ = GuestState::Migrating;
  migration_thread_ = std::jthread([this, request](const std::stop_token& cancel) { run_migration(request, cancel); });
  return {};
}

void Guest::run_migration(const Migration& request, const std::stop_token& cancel) {
  const auto moved = machine();
  migrate::SourceOptions options{.max_downtime = request.max_downtime, .channels = request.channels};
  options.cancel = cancel;
  options.progress = [this](const migrate::Progress& progress) { add_event(to_json(progress)); };
  const auto outcome = migrate::migrate_out(*moved, request.to, options);
  conclude(outcome);
}

void Guest::conclude(const Result<migrate::SourceReport>& outcome) {
  if (!outcome) log::warn("the migration failed: {}", outcome.error().message);
  const std::scoped_lock lock(mutex_);
  if (outcome) {
    state_ = GuestState::Migrated;
    events_.push_back(json_text(to_json(*outcome)));
  } else {
    state_ = outcome.error().code == EINPROGRESS ? GuestState::Unknown : GuestState::Running;
    reason_ = outcome.error().message;
    events_.push_back(json_text(failure_to_json(outcome.error())));
  }
  events_end_ = true;
  changed_.notify_all();
}

void Guest::add_event(const ordered_json& event) {
  {
    const std::scoped_lock lock(mutex_);
    events_.push_back(json_text(event));
  }
  changed_.notify_all();
}

std::vector<std::string> Guest::wait_events(std::size_t from) const {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return events_.size() > from || events_end_; });
  if (from >= events_.size()) return {};
  return {events_.begin() + static_cast<std::ptrdiff_t>(from), events_.end()};
}

std::string Guest::events_so_far() const {
  const std::scoped_lock lock(mutex_);
  std::string lines;
  for (const std::string& event : events_) lines += event + "\n";
  return lines;
}

Result<void> Guest::cancel() {
  const std::scoped_lock lock(mutex_);
  if (state_ != GuestState::Migrating) return fail(EINVAL, "no migration is going on");
  migration_thread_.request_stop();
  return {};
}

Result<ordered_json> Guest::resume() {
  {
    // Held all the while, so that nobody stops or moves a machine half resumed: two steps of each device.
    const std::scoped_lock lock(mutex_);
    if (stopping_) return fail(EBUSY, "the guest is being stopped");
    if (state_ != GuestState::Unknown) {
      return fail(EBUSY, fmt::format("the guest is {}; only one in state unknown is resumed", name(state_)));
    }
    if (auto resumed = migrate::resume_here(*machine_); !resumed) reason_ = resumed.error().message;
    state_ = GuestState::Running;
  }
  changed_.notify_all();
  return status();
}

Result<ordered_json> Guest::stop() {
  {
    const std::scoped_lock lock(mutex_);
    if (stopping_) return fail(EBUSY, "the guest is being stopped already");
    if (state_ == GuestState::Migrating) return fail(EBUSY, "the guest is migrating; cancel that first");
    stopping_ = true;
  }
  // A machine that is just arriving arrives in full or not at all.
  incoming_thread_ = {};
  const GuestState was = state();
  const bool verified = was == GuestState::Running && machine()->finish();
  {
    const std::scoped_lock lock(mutex_);
    // Nothing ran here, or it is verified where it runs now. Of a machine in doubt, or one that failed, nobody can say.
    verified_ = verified || was == GuestState::Waiting || was == GuestState::Migrated;
    state_ = GuestState::Stopped;
  }
  auto report = status();
  changed_.notify_all();
  return report;
}

bool Guest::wait_ended(std::chrono::milliseconds limit) const {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, limit,
                           [this] { return state_ == GuestState::Stopped || state_ == GuestState::Failed; });
}

std::string Guest::failure() const {
  const auto held = machine();
  return held == nullptr ? std::string() : held->findings().failure();
}

bool Guest::succeeded() const {
  const std::scoped_lock lock(mutex_);
  return state_ == GuestState::Stopped && verified_;
}

ordered_json Guest::status() const {
  std::unique_lock lock(mutex_);
  const auto held = machine_;
  ordered_json json{{"state", name(state_)}};
  if (state_ == GuestState::Stopped) json["verified"] = verified_;
  if (!incoming_address_.empty()) json["incoming"] = incoming_address_;
  if (!reason_.empty()) json["reason"] = reason_;
  if (arrival_) json["arrival"] = to_json(*arrival_);
  if (!events_.empty()) json["migration"] = ordered_json::parse(events_.back());
  lock.unlock();
  if (held != nullptr) add_machine(json, *held);
  return json;
}

std::string Guest::metrics() const {
  const auto held = machine();
  return held == nullptr ? std::string() : metrics_of(held->totals());
}

}  // namespace gangway::guest
