#include "migrate/channel.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <array>
#include <cstring>
#include <memory>

#include <fmt/format.h>
#include <xxhash.h>

#include "base/bytes.h"

namespace gangway::migrate {
namespace {

constexpr std::chrono::seconds kFinishWait{1};

// XXH3 of two parts as of one.
std::uint64_t hash(std::span<const std::byte> first, std::span<const std::byte> second, std::uint64_t seed) {
  if (second.empty()) return XXH3_64bits_withSeed(first.data(), first.size(), seed);
  const std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> state(XXH3_createState(), &XXH3_freeState);
  XXH3_64bits_reset_withSeed(state.get(), seed);
  XXH3_64bits_update(state.get(), first.data(), first.size());
  XXH3_64bits_update(state.get(), second.data(), second.size());
  return XXH3_64bits_digest(state.get());
}

std::uint64_t checksum(MessageHeader header, std::span<const std::byte> first, std::span<const std::byte> second = {}) {
  header.checksum = 0;
  return hash(first, second, XXH3_64bits(&header, sizeof header));
}

Result<void> set_time_limit(int socket, std::chrono::milliseconds limit) {
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(limit);
  const timeval value{.tv_sec = seconds.count(),
                      .tv_usec = std::chrono::duration_cast<std::chrono::microseconds>(limit - seconds).count()};
  if (::setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &value, sizeof value) != 0 ||
      ::setsockopt(socket, SOL_SOCKET, SO_SNDTIMEO, &value, sizeof value) != 0) {
    return fail_errno("set the time limit of a socket");
  }
  return {};
}

std::unexpected<Error> transfer_failed(std::string_view doing, int error_number) {
  if (error_number == EAGAIN || error_number == EWOULDBLOCK) {
    return fail(ETIMEDOUT, fmt::format("{} the peer: no progress within the time limit", doing));
  }
  return fail_errno(fmt::format("{} the peer", doing), error_number);
}

// Drops the first `done` bytes of the parts; returns those that are left.
std::span<iovec> after(std::span<iovec> parts, std::size_t done) {
  while (!parts.empty() && done >= parts.front().iov_len) {
    done -= parts.front().iov_len;
    parts = parts.subspan(1);
  }
  if (!parts.empty() && done != 0) {
    parts.front().iov_base = static_cast<std::byte*>(parts.front().iov_base) + done;
    parts.front().iov_len -= done;
  }
  return parts;
}

iovec part(std::span<const std::byte> bytes) {
  return {.iov_base = const_cast<std::byte*>(bytes.data()), .iov_len = bytes.size()};  // sendmsg does not write there
}

}  // namespace

Result<Channel> Channel::adopt(Fd socket, std::chrono::milliseconds stall) {
  if (auto limited = set_time_limit(socket.get(), stall); !limited) return std::unexpected(limited.error());
  const int on = 1;
  // Not a TCP socket: nothing to switch off.
  (void)::setsockopt(socket.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  return Channel(std::move(socket));
}

Result<void> Channel::limit(std::chrono::milliseconds stall) { return set_time_limit(socket_.get(), stall); }

Result<void> Channel::send_hello(const Hello& hello) {
  std::array parts{part(bytes_of(hello))};
  return send_all(parts);
}

Result<Hello> Channel::receive_hello() {
  Hello hello;
  const std::span<std::byte> bytes = std::as_writable_bytes(std::span(&hello, 1));
  constexpr std::size_t kFixed = offsetof(Hello, migration);
  if (auto received = receive_all(bytes.first(kFixed)); !received) return std::unexpected(received.error());
  if (hello.magic != kMagic) return fail(EPROTO, "the peer does not speak gangway's migration protocol");
  if (hello.revision != kRevision) {
    return fail(EPROTONOSUPPORT, fmt::format("the peer speaks revision {} of the migration protocol, this side {}",
                                             hello.revision, kRevision));
  }
  if (hello.size != sizeof(Hello)) return fail(EPROTO, fmt::format("hello of {} bytes", hello.size));
  if (auto received = receive_all(bytes.subspan(kFixed)); !received) return std::unexpected(received.error());
  return hello;
}

Result<void> Channel::send(MessageType type, std::span<const std::byte> payload) { return send(type, payload, {}); }

Result<void> Channel::send(MessageType type, std::span<const std::byte> head, std::span<const std::byte> body) {
  MessageHeader header{.type = type, .length = static_cast<std::uint32_t>(head.size() + body.size())};
  header.checksum = checksum(header, head, body);
  std::array parts{part(bytes_of(header)), part(head), part(body)};
  return send_all(parts);
}

Result<void> Channel::send_with_data(MessageType type, std::span<const std::byte> payload, std::span<iovec> data) {
  MessageHeader header{.type = type, .length = static_cast<std::uint32_t>(payload.size())};
  header.checksum = checksum(header, payload);
  std::vector<iovec> parts;
  parts.reserve(2 + data.size());
  parts.push_back(part(bytes_of(header)));
  parts.push_back(part(payload));
  parts.insert(parts.end(), data.begin(), data.end());
  return send_all(parts);
}

Result<Channel::Message> Channel::receive(std::vector<std::byte> reuse) {
  MessageHeader header;
  if (auto received = receive_all(std::as_writable_bytes(std::span(&header, 1))); !received) {
    return std::unexpected(received.error());
  }
  const std::optional<std::uint32_t> longest = longest_payload(header.type);
  if (!longest) return fail(EPROTO, fmt::format("message of unknown type {}", static_cast<unsigned>(header.type)));
  if (header.flags != 0) return fail(EPROTO, fmt::format("{}: unknown flags {:#x}", name(header.type), header.flags));
  if (header.length > *longest) {
    return fail(EPROTO,
                fmt::format("{}: payload of {} bytes (at most {})", name(header.type), header.length, *longest));
  }
  reuse.resize(header.length);
  if (auto received = receive_all(reuse); !received) return std::unexpected(received.error());
  if (checksum(header, reuse) != header.checksum) {
    return fail(EBADMSG, fmt::format("{}: the checksum differs", name(header.type)));
  }
  return Message{.type = header.type, .payload = std::move(reuse)};
}

Result<void> Channel::receive_data(std::span<iovec> data) {
  data = after(data, 0);
  while (!data.empty()) {
    const msghdr message{.msg_iov = data.data(), .msg_iovlen = data.size()};
    const ssize_t got = ::recvmsg(socket_.get(), const_cast<msghdr*>(&message), MSG_WAITALL);
    if (got == 0) return fail(ECONNRESET, "the peer closed the connection");
    if (got < 0) {
      if (errno == EINTR) continue;
      return transfer_failed("receive from", errno);
    }
    data = after(data, static_cast<std::size_t>(got));
  }
  return {};
}

bool Channel::readable(std::chrono::milliseconds wait) const {
  pollfd entry{.fd = socket_.get(), .events = POLLIN};
  int ready = -1;
  do {
    ready = ::poll(&entry, 1, static_cast<int>(wait.count()));
  } while (ready < 0 && errno == EINTR);
  return ready > 0;
}

void Channel::finish() {
  if (::shutdown(socket_.get(), SHUT_WR) != 0) return;
  if (!set_time_limit(socket_.get(), kFinishWait)) return;
  const auto deadline = std::chrono::steady_clock::now() + kFinishWait;
  std::vector<std::byte> unread(256 * 1024);
  while (std::chrono::steady_clock::now() < deadline) {
    if (::recv(socket_.get(), unread.data(), unread.size(), 0) <= 0) return;
  }
}

void Channel::interrupt() { (void)::shutdown(socket_.get(), SHUT_RDWR); }

void Channel::interrupt_receiving() { (void)::shutdown(socket_.get(), SHUT_RD); }

Result<void> Channel::send_all(std::span<iovec> parts) {
  const std::scoped_lock lock(*sending_);
  if (out_of_step_) return fail(EPIPE, "the connection broke within a message");
  parts = after(parts, 0);
  bool begun = false;
  while (!parts.empty()) {
    const msghdr message{.msg_iov = parts.data(), .msg_iovlen = parts.size()};
    const ssize_t sent = ::sendmsg(socket_.get(), &message, MSG_NOSIGNAL);
    if (sent < 0) {
      if (errno == EINTR) continue;
      out_of_step_ = begun;
      return transfer_failed("send to", errno);
    }
    begun = true;
    parts = after(parts, static_cast<std::size_t>(sent));
  }
  return {};
}

Result<void> Channel::receive_all(std::span<std::byte> out) {
  std::array parts{iovec{.iov_base = out.data(), .iov_len = out.size()}};
  return receive_data(parts);
}

}  // namespace gangway::migrate
