#include "vfio_user/channel.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <ctime>

#include <fmt/format.h>

namespace gangway::vfio_user {
namespace {

// What a peer may have us keep of commands that came while we wait for its reply: 65,536 small ones, with room to
// spare.
constexpr std::size_t kMaxQueuedBytes = 64U << 20;
constexpr std::size_t kQueuedCommandCost = sizeof(Message) + 64;
// Of descriptors fewer: a process has 1024 in all by default, and every client takes from them.
constexpr std::size_t kMaxQueuedFds = 128;
// The socket holds this much of what we send, or what the machine allows: who sends migration data gets the next piece
// ready in place of waiting for room.
constexpr std::size_t kSendRoom = 400U << 10;
// Who polls for room does not read meanwhile, and the peer may wait for just that.
constexpr std::chrono::microseconds kMostSpinForRoom{100};
// Of a placed body this much comes in one read: it is looked at while it is in the cache, and the peer fills the socket
// meanwhile.
constexpr std::size_t kPlacedPiece = 128U << 10;

std::unexpected<Error> abandoned(Command command) {
  return fail(ECANCELED, fmt::format("command {} to the peer was abandoned", static_cast<int>(command)));
}

std::chrono::milliseconds until(std::chrono::steady_clock::time_point deadline) {
  const auto left = deadline - std::chrono::steady_clock::now();
  return std::max(std::chrono::ceil<std::chrono::milliseconds>(left), std::chrono::milliseconds(0));
}

// Some milliseconds before now, at most, and told sooner than the exact time is.
std::chrono::steady_clock::time_point about_now() {
  timespec time{};
  ::clock_gettime(CLOCK_MONOTONIC_COARSE, &time);
  return std::chrono::steady_clock::time_point(std::chrono::seconds(time.tv_sec) +
                                               std::chrono::nanoseconds(time.tv_nsec));
}

}  // namespace

Channel::Channel(Fd socket, Options options)
    : socket_(std::move(socket)),
      options_(options),
      socket_times_out_(options.calls && !options.limits),
      wake_(options.limits ? ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) : -1),
      room_spin_(std::min(options.spin, kMostSpinForRoom)),
      spin_(options.spin),
      commands_(options.commands) {
  make_room_for_sending(socket_.get(), kSendRoom);
  if (socket_times_out_) set_receive_timeout(socket_.get(), options_.timeout);
}

Channel::~Channel() = default;

Call::~Call() {
  if (!in_flight_) return;
  channel_.close(Error{ECANCELED, "a command was given up before its reply came", {}});
  (void)channel_.finish(*this);  // nobody writes to its buffers any more
}

Result<void> Channel::next(Message& message, Placer* placer) {
  std::unique_lock lock(mutex_);
  for (;;) {
    if (!queue_.empty()) {
      message = std::move(queue_.front());
      queue_.pop_front();
      queued_bytes_ -= message.body.size() + kQueuedCommandCost;
      queued_fds_ -= message.fds.size();
      return {};
    }
    if (broken_) return std::unexpected(*broken_);
    if (reading_) {
      command_thread_waits_ = true;
      command_came_.wait(lock);
      command_thread_waits_ = false;
      continue;
    }
    if (!may_read_in_next()) {
      command_came_.wait_for(lock, options_.quiet);
      continue;
    }
    reading_ = true;
    lock.unlock();
    Result<Event> event = read_message(std::nullopt, placer);
    lock.lock();
    if (event && std::holds_alternative<CommandCame>(*event)) {
      std::swap(message, incoming_);
      give_up_reading();
      return {};
    }
    if (event) {
      deliver(*event);
    } else {
      break_with(std::move(event.error()));
    }
    give_up_reading();
  }
}

bool Channel::may_read_in_next() {
  if (options_.quiet.count() == 0) return true;
  return std::exchange(calls_seen_, calls_started_) == calls_started_ && calls_.empty();
}

Result<Channel::Reply> Channel::finish(Call& call) {
  std::unique_lock lock(mutex_);
  for (bool tried = false;; tried = true) {
    if (call.done_) break;
    if (broken_) {
      while (target_ == &call) call.wake_.wait(lock);  // its buffers are still being written to
      forget(call);
      return std::unexpected(*broken_);
    }
    // One look at the socket first: what has arrived has arrived in time.
    if (tried && abandons(call)) {
      abandon(call);
      continue;
    }
    if (tried && Clock::now() >= call.deadline_) {
      break_with(Error{ETIMEDOUT,
                       fmt::format("the peer did not answer command {} within {} ms", static_cast<int>(call.command_),
                                   options_.timeout.count()),
                       {}});
      continue;
    }
    const Clock::time_point wait_end = limit_ && target_ != &call ? std::min(*limit_, call.deadline_) : call.deadline_;
    if (reading_) {
      call.waiting_ = true;
      call.wake_.wait_until(lock, wait_end);
      call.waiting_ = false;
      continue;
    }
    reading_ = true;
    descriptors_ = descriptors_may_come() ? Descriptors::Taken : Descriptors::Closed;
    lock.unlock();
    Result<Event> event = read_message(wait_end);
    lock.lock();
    if (event) {
      deliver(*event);
    } else {
      break_with(std::move(event.error()));
    }
    give_up_reading();
  }
  if (call.abandoned_) return abandoned(call.command_);
  if ((call.reply_.flags & kError) != 0) {
    const int code = call.reply_.error > 0 && call.reply_.error < 4096 ? static_cast<int>(call.reply_.error) : EIO;
    return fail(code, fmt::format("command {}: refused by the peer: {}", static_cast<int>(call.command_),
                                  strerrordesc_np(code) != nullptr ? strerrordesc_np(code) : "unknown error"));
  }
  return Reply{call.reply_.size - sizeof(Header), std::move(call.fds_)};
}

// --- reading ---

Result<Channel::Event> Channel::read_message(Deadline deadline, Placer* placer) {
  for (;;) {
    const Result<MessageReader::Progress> progress = reader_.advance();
    if (!progress) return std::unexpected(progress.error());
    if (placer != nullptr && placed_left_ != 0) tell_what_arrived(*placer);
    switch (*progress) {
      case MessageReader::Progress::NeedsBytes: {
        const Result<Arrival> came = wait_for_bytes(deadline);
        if (!came) return std::unexpected(came.error());
        if (*came == Arrival::Nothing) return NothingCame{};
        break;
      }
      case MessageReader::Progress::Header:
        if (Result<void> placed = place_body(placer); !placed) return std::unexpected(placed.error());
        break;
      case MessageReader::Progress::Message:
        if (target_ != nullptr) return target_;
        if (std::exchange(dropping_, false)) {
          (void)reader_.take_descriptors();
          break;
        }
        incoming_.header = reader_.header();
        incoming_.fds = reader_.take_descriptors();
        return CommandCame{};
    }
  }
}

Result<Channel::Arrival> Channel::wait_for_bytes(Deadline deadline) {
  // nullopt: nothing is there.
  const auto read_once = [this](Wait wait) -> std::optional<Result<Arrival>> {
    Result<void> got = reader_.receive(socket_.get(), wait, descriptors_);
    if (got) return Arrival::Bytes;
    if (got.error().code == EAGAIN) return std::nullopt;
    return std::unexpected(std::move(got.error()));
  };
  const Clock::time_point begin = spin_.enabled() ? Clock::now() : deadline ? about_now() : Clock::time_point();
  const Clock::time_point spin_until = begin + spin_.now();
  for (int tries = 1; spin_.now().count() != 0; ++tries) {
    if (auto got = read_once(Wait::No)) {
      if (*got && tries > 1) spin_.covered();
      return *std::move(got);
    }
    const Clock::time_point now = Clock::now();
    if (deadline && now >= *deadline) return Arrival::Nothing;
    if (now >= spin_until) break;
  }
  Clock::time_point now = begin;
  for (;;) {
    // The socket's own time limit serves whoever waits for about that long; a shorter wait is made with poll.
    const bool about_as_long = deadline && *deadline - now >= options_.timeout - std::chrono::milliseconds(1);
    if (deadline && !(socket_times_out_ && about_as_long)) {
      if (!wait_readable(*deadline)) return Arrival::Nothing;
      if (auto got = read_once(Wait::No)) return *std::move(got);
    } else if (auto got = read_once(Wait::Yes)) {
      if (*got && spin_.enabled()) spin_.slept(Clock::now() - begin);
      return *std::move(got);
    }
    if (!deadline) continue;
    now = Clock::now();
    if (now >= *deadline) return Arrival::Nothing;
  }
}

// False when limit_calls() ended the wait: whoever reads has less time than it thought.
bool Channel::wait_readable(Clock::time_point deadline) const {
  std::array<pollfd, 2> ready{{{socket_.get(), POLLIN, 0}, {wake_.get(), POLLIN, 0}}};
  ::poll(ready.data(), ready.size(), static_cast<int>(until(deadline).count()));
  std::uint64_t count = 0;
  return ready[1].revents == 0 || ::read(wake_.get(), &count, sizeof count) != sizeof count;
}

Result<void> Channel::place_body(Placer* placer) {
  const Header& header = reader_.header();
  Result<MessageReader::Body> room = room_for(header, placer);
  if (!room) return std::unexpected(std::move(room.error()));
  reader_.place(*room);
  return {};
}

Result<MessageReader::Body> Channel::room_for(const Header& header, Placer* placer) {
  const std::uint32_t type = header.flags & kTypeMask;
  if (type == kTypeCommand) return room_for_command(header, placer);
  if (type == kTypeReply) return room_for_reply(header);
  return fail(EPROTO, fmt::format("message of type {}: neither command nor reply", type), "WIR-FRAME");
}

Result<MessageReader::Body> Channel::room_for_command(const Header& header, Placer* placer) {
  if (!commands_) return fail(EPROTO, fmt::format("command {} on a socket for replies", header.command), "WIR-FRAME");
  const std::size_t size = header.size - sizeof(Header);
  if (size > options_.max_command_body) {
    return fail(
        EPROTO,
        fmt::format("command {}: {} bytes, at most {} are read", header.command, size, options_.max_command_body),
        "WIR-FRAME");
  }
  incoming_.placed = placer != nullptr ? placer->place(header) : std::span<std::byte>();
  placed_left_ = incoming_.placed.size();
  return MessageReader::Body{incoming_.body.resize(size - incoming_.placed.size()), incoming_.placed, kPlacedPiece};
}

void Channel::tell_what_arrived(Placer& placer) {
  const std::size_t left = reader_.data_to_come();
  if (const std::size_t arrived = std::exchange(placed_left_, left) - left; arrived != 0) placer.arrived(arrived);
}

Result<MessageReader::Body> Channel::room_for_reply(const Header& header) {
  const std::size_t size = header.size - sizeof(Header);
  const std::scoped_lock lock(mutex_);
  const auto found = std::ranges::find_if(calls_, [&](const Call* call) {
    return !call->done_ && call->id_ == header.id && static_cast<std::uint16_t>(call->command_) == header.command;
  });
  if (found == calls_.end()) {
    if (const auto dropped = room_for_abandoned(header)) return *dropped;
    return fail(EPROTO,
                fmt::format("reply to command {} with number {}: none such was asked", header.command, header.id),
                "WIR-FRAME");
  }
  Call& call = **found;
  const std::size_t room = (header.flags & kError) != 0 ? 0 : call.room_.size();
  if (size > room) {
    return fail(EPROTO, fmt::format("reply to command {}: {} bytes, at most {} were asked", header.command, size, room),
                "WIR-FRAME");
  }
  target_ = &call;
  call.reply_ = header;
  MessageReader::Body body{call.room_.head.first(std::min(size, call.room_.head.size())), {}};
  body.data = call.room_.data.first(size - body.head.size());
  return body;
}

// Without waiting: the bytes that have arrived, as far as the first whole message.
Result<void> Channel::read_what_is_there() {
  Result<Event> event = read_message(Clock::now());
  if (!event) return std::unexpected(std::move(event.error()));
  const std::scoped_lock lock(mutex_);
  deliver(*event);
  return {};
}

// --- with mutex_ held ---

void Channel::deliver(Event event) {
  if (std::holds_alternative<NothingCame>(event)) return;
  if (std::holds_alternative<CommandCame>(event)) {
    enqueue();
    return;
  }
  Call& call = *std::get<Call*>(event);
  target_ = nullptr;
  call.fds_ = reader_.take_descriptors();
  call.done_ = true;
  forget(call);
  call.wake_.notify_one();
}

void Channel::enqueue() {
  queued_bytes_ += incoming_.body.size() + kQueuedCommandCost;
  queued_fds_ += incoming_.fds.size();
  if (queued_bytes_ > kMaxQueuedBytes || queued_fds_ > kMaxQueuedFds) {
    break_with(Error{EPROTO, "the peer sends commands without end and does not answer or read meanwhile", {}});
    return;
  }
  queue_.push_back(std::exchange(incoming_, {}));
  command_came_.notify_one();
}

bool Channel::descriptors_may_come() const {
  return commands_ ||
         std::ranges::any_of(calls_, [](const Call* call) { return reply_brings_descriptors(call->command_); });
}

void Channel::give_up_reading() {
  reading_ = false;
  if (std::exchange(descriptors_, Descriptors::Taken) == Descriptors::Closed) descriptors_taken_.notify_all();
  if (broken_ && target_ != nullptr) std::exchange(target_, nullptr)->wake_.notify_one();
  // Somebody must read as long as somebody waits. Those who wait for replies come first: in next() a thread may leave
  // reading to them.
  const auto waiting = std::ranges::find_if(calls_, &Call::waiting_);
  if (waiting != calls_.end()) {
    (*waiting)->wake_.notify_one();
  } else if (command_thread_waits_) {
    command_came_.notify_one();
  }
}

void Channel::break_with(Error reason) {
  if (broken_) return;
  broken_ = std::move(reason);
  if (broken_->message.empty()) {
    broken_->message = broken_->code == ECONNRESET ? "the peer closed the connection" : strerrordesc_np(broken_->code);
  }
  shut_down(socket_.get());
  command_came_.notify_all();
  for (Call* call : calls_) call->wake_.notify_one();
}

void Channel::forget(const Call& call) {
  std::erase(calls_, &call);
  const_cast<Call&>(call).in_flight_ = false;
}

// --- from outside ---

void Channel::close(Error reason) {
  const std::scoped_lock lock(mutex_);
  break_with(std::move(reason));
}

std::optional<Error> Channel::broken() const {
  const std::scoped_lock lock(mutex_);
  return broken_;
}

}  // namespace gangway::vfio_user
