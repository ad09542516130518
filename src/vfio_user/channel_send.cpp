#include <poll.h>

#include <algorithm>
#include <array>
#include <climits>
#include <cstring>

#include <fmt/format.h>

#include "vfio_user/channel.h"

namespace gangway::vfio_user {
namespace {

std::size_t size_of(Outgoing outgoing) {
  std::size_t size = sizeof(Header);
  for (const std::span<const std::byte> piece : outgoing.body) size += piece.size();
  return size;
}

// A message as short as this is put together before it is sent: the copy costs less than what the kernel does for each
// piece.
constexpr std::size_t kShortMessage = 256;

iovec to_iovec(std::span<const std::byte> bytes) { return {const_cast<std::byte*>(bytes.data()), bytes.size()}; }

}  // namespace

Result<void> Channel::reply(const Message& command, Outgoing outgoing) {
  if (!command.wants_reply()) return {};
  return transmit({.id = command.header.id,
                   .command = command.header.command,
                   .size = static_cast<std::uint32_t>(size_of(outgoing)),
                   .flags = kTypeReply},
                  outgoing);
}

Result<void> Channel::refuse(const Message& command, int error_number) {
  if (!command.wants_reply()) return {};
  return transmit({.id = command.header.id,
                   .command = command.header.command,
                   .size = sizeof(Header),
                   .flags = kTypeReply | kError,
                   .error = static_cast<std::uint32_t>(error_number)},
                  {});
}

Result<void> Channel::start(Call& call, Command command, Outgoing outgoing) {
  {
    std::unique_lock lock(mutex_);
    if (broken_) return std::unexpected(*broken_);
    if (limit_ && Clock::now() >= *limit_) {
      return fail(ECANCELED, fmt::format("command {} to the peer: not asked now", static_cast<int>(command)));
    }
    call.id_ = new_id();
    call.command_ = command;
    call.done_ = false;
    call.in_flight_ = true;
    calls_.push_back(&call);
    ++calls_started_;
    // Who reads just now and takes none would lose them; it reads until the reply that it waits for.
    if (reply_brings_descriptors(command)) {
      descriptors_taken_.wait(lock, [this] { return descriptors_ == Descriptors::Taken; });
    }
    call.deadline_ = Clock::now() + options_.timeout;
  }
  Result<void> sent = transmit({.id = call.id_,
                                .command = static_cast<std::uint16_t>(command),
                                .size = static_cast<std::uint32_t>(size_of(outgoing)),
                                .flags = kTypeCommand},
                               outgoing);
  if (!sent) (void)finish(call);
  return sent;
}

Result<Channel::Reply> Channel::call(Command command, Outgoing outgoing, std::span<std::byte> head,
                                     std::span<std::byte> data) {
  Call call(*this, head, data);
  if (Result<void> started = start(call, command, outgoing); !started) return std::unexpected(started.error());
  return finish(call);
}

std::uint16_t Channel::new_id() {
  const auto in_use = [&](std::uint16_t id) {
    return std::ranges::find(calls_, id, &Call::id_) != calls_.end() ||
           std::ranges::find(abandoned_, id, &Abandoned::id) != abandoned_.end();
  };
  do {
    ++last_id_;
  } while (in_use(last_id_));
  return last_id_;
}

// A failure breaks the connection: part of a message may have left.
Result<void> Channel::transmit(const Header& header, Outgoing outgoing) {
  const std::scoped_lock lock(send_mutex_);
  std::array<std::byte, kShortMessage> whole;
  std::size_t copied = 0;
  send_vector_.clear();
  const auto add = [&](std::span<const std::byte> piece) {
    if (piece.empty()) return;
    if (header.size > whole.size()) {
      send_vector_.push_back(to_iovec(piece));
    } else {
      std::memcpy(whole.data() + copied, piece.data(), piece.size());
      copied += piece.size();
    }
  };
  add(std::as_bytes(std::span(&header, 1)));
  for (const std::span<const std::byte> piece : outgoing.body) add(piece);
  if (copied != 0) send_vector_.push_back(to_iovec(std::span(whole).first(copied)));
  std::span<iovec> left = send_vector_;
  std::span<const int> fds = outgoing.fds;
  while (!left.empty()) {
    const Result<std::size_t> sent = send_some(left, fds);
    if (sent) {
      left = skip(left, *sent);
      fds = {};
      continue;
    }
    Result<void> room =
        sent.error().code == EAGAIN ? wait_for_room() : fail_errno("send to the peer", sent.error().code);
    if (room) continue;
    const std::scoped_lock state(mutex_);
    break_with(std::move(room.error()));
    return std::unexpected(*broken_);
  }
  return {};
}

// EAGAIN when the socket stayed full for as long as it pays to poll: a peer that is reading makes room sooner than a
// sleeper is woken.
Result<std::size_t> Channel::send_some(std::span<iovec> from, std::span<const int> fds) {
  from = from.first(std::min(from.size(), static_cast<std::size_t>(IOV_MAX)));
  Result<std::size_t> sent = send(socket_.get(), from, fds);
  const auto is_full = [&] { return !sent && sent.error().code == EAGAIN; };
  if (!is_full() || room_spin_.now().count() == 0) return sent;
  const Clock::time_point spin_until = Clock::now() + room_spin_.now();
  while (is_full() && Clock::now() < spin_until) sent = send(socket_.get(), from, fds);
  if (sent) room_spin_.covered();
  return sent;
}

// Returns when something may have left the full socket. Reads meanwhile if nobody else does.
Result<void> Channel::wait_for_room() {
  const Clock::time_point begin = Clock::now();
  const Clock::time_point deadline = begin + options_.timeout;
  for (;;) {
    bool read_too = false;
    {
      const std::scoped_lock lock(mutex_);
      if (broken_) return std::unexpected(*broken_);
      read_too = !std::exchange(reading_, true);
    }
    pollfd socket{.fd = socket_.get(), .events = static_cast<short>(POLLOUT | (read_too ? POLLIN : 0)), .revents = 0};
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now());
    ::poll(&socket, 1, static_cast<int>(std::max<std::int64_t>(left.count(), 0)));
    if (read_too) {
      Result<void> read;
      if ((socket.revents & POLLIN) != 0) read = read_what_is_there();
      const std::scoped_lock lock(mutex_);
      if (!read) break_with(std::move(read.error()));
      give_up_reading();
    }
    if ((socket.revents & (POLLOUT | POLLHUP | POLLERR)) != 0) {
      room_spin_.slept(room_spin_.now() + (Clock::now() - begin));
      return {};
    }
    if (Clock::now() >= deadline) {
      return fail(ETIMEDOUT, fmt::format("the peer took nothing off its socket for {} ms", options_.timeout.count()));
    }
  }
}

}  // namespace gangway::vfio_user
