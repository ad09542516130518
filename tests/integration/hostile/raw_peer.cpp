#include "integration/hostile/raw_peer.h"

#include <linux/sockios.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <system_error>

namespace gangway::hostile {
namespace {

using namespace std::chrono_literals;

// Far beyond what a loaded machine with sanitizers needs; a server that is silent as long hangs.
constexpr auto kPatience = 30s;
constexpr std::size_t kMaxDescriptors = 253;  // SCM_MAX_FD

[[noreturn]] void give_up(const std::string& what) { throw std::runtime_error(what); }

[[noreturn]] void give_up_errno(const char* what) { throw std::system_error(errno, std::generic_category(), what); }

bool server_is_gone(int error) { return error == EPIPE || error == ECONNRESET || error == ENOTCONN; }

void wait_for(int socket, short events, const char* what) {
  pollfd entry{.fd = socket, .events = events, .revents = 0};
  const auto limit = static_cast<int>(std::chrono::milliseconds(kPatience).count());
  int ready = 0;
  do {
    ready = ::poll(&entry, 1, limit);
  } while (ready < 0 && errno == EINTR);
  if (ready < 0) give_up_errno("poll");
  if (ready == 0) give_up(std::string("the server hangs: it neither ") + what + " nor closes the connection");
}

Fd connect_to(const std::filesystem::path& path) {
  Fd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket) give_up_errno("socket");
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string name = path.string();
  if (name.size() >= sizeof(address.sun_path)) give_up("socket path too long: " + name);
  std::memcpy(address.sun_path, name.c_str(), name.size() + 1);
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    give_up_errno("connect");
  }
  return socket;
}

}  // namespace

RawPeer::RawPeer(const std::filesystem::path& socket) : socket_(connect_to(socket)) {}

bool RawPeer::send(std::span<const std::byte> bytes, const Descriptors& fds) {
  alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(sizeof(int) * kMaxDescriptors)> control{};
  std::span<const int> with = fds;
  while (!bytes.empty()) {
    iovec vector{.iov_base = const_cast<std::byte*>(bytes.data()), .iov_len = bytes.size()};
    msghdr header{};
    header.msg_iov = &vector;
    header.msg_iovlen = 1;
    if (!with.empty()) {
      header.msg_control = control.data();
      header.msg_controllen = CMSG_SPACE(with.size_bytes());
      cmsghdr* rights = CMSG_FIRSTHDR(&header);
      rights->cmsg_level = SOL_SOCKET;
      rights->cmsg_type = SCM_RIGHTS;
      rights->cmsg_len = CMSG_LEN(with.size_bytes());
      std::memcpy(CMSG_DATA(rights), with.data(), with.size_bytes());
    }
    const ssize_t sent = ::sendmsg(socket_.get(), &header, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0) {
      if (errno == EINTR) continue;
      if (errno == EAGAIN) {
        wait_for(socket_.get(), POLLOUT, "reads");
        continue;
      }
      if (server_is_gone(errno)) return false;
      give_up_errno("sendmsg");
    }
    bytes = bytes.subspan(static_cast<std::size_t>(sent));
    with = {};
  }
  return true;
}

void RawPeer::await_taken() {
  const auto limit = std::chrono::steady_clock::now() + kPatience;
  for (;;) {
    int unread = 0;
    if (::ioctl(socket_.get(), SIOCOUTQ, &unread) != 0) give_up_errno("ioctl SIOCOUTQ");
    if (unread == 0) return;
    if (std::chrono::steady_clock::now() > limit) give_up("the server hangs: it does not read what was sent");
    ::sched_yield();
  }
}

void RawPeer::finish_sending() { ::shutdown(socket_.get(), SHUT_WR); }

bool RawPeer::readable(std::chrono::milliseconds within) {
  pollfd entry{.fd = socket_.get(), .events = POLLIN, .revents = 0};
  return ::poll(&entry, 1, static_cast<int>(within.count())) > 0;
}

std::uint16_t RawPeer::post(std::uint16_t command, std::span<const std::byte> body, const Descriptors& fds,
                            std::uint32_t flags) {
  const std::uint16_t id = next_id();
  send(message(id, command, body, flags), fds);
  return id;
}

std::size_t RawPeer::receive_some(std::span<std::byte> into, std::vector<Fd>& fds) {
  alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(sizeof(int) * kMaxDescriptors)> control{};
  for (;;) {
    wait_for(socket_.get(), POLLIN, "answers");
    iovec vector{.iov_base = into.data(), .iov_len = into.size()};
    msghdr header{};
    header.msg_iov = &vector;
    header.msg_iovlen = 1;
    header.msg_control = control.data();
    header.msg_controllen = control.size();
    const ssize_t got = ::recvmsg(socket_.get(), &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (got < 0) {
      if (errno == EINTR || errno == EAGAIN) continue;
      if (server_is_gone(errno)) return 0;
      give_up_errno("recvmsg");
    }
    for (cmsghdr* part = CMSG_FIRSTHDR(&header); part != nullptr; part = CMSG_NXTHDR(&header, part)) {
      if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
      for (std::size_t at = 0; at + sizeof(int) <= part->cmsg_len - CMSG_LEN(0); at += sizeof(int)) {
        int fd = -1;
        std::memcpy(&fd, CMSG_DATA(part) + at, sizeof(fd));
        fds.emplace_back(fd);
      }
    }
    return static_cast<std::size_t>(got);
  }
}

bool RawPeer::receive_all(std::span<std::byte> into, std::vector<Fd>& fds) {
  while (!into.empty()) {
    const std::size_t got = receive_some(into, fds);
    if (got == 0) return false;
    into = into.subspan(got);
  }
  return true;
}

std::optional<Message> RawPeer::receive() {
  Message message;
  Bytes raw(kHeaderSize);
  wait_for(socket_.get(), POLLIN, "answers");
  int there = 0;
  if (::ioctl(socket_.get(), FIONREAD, &there) != 0) give_up_errno("ioctl FIONREAD");
  if (!receive_all(raw, message.fds)) return std::nullopt;
  message.header = {.id = field<std::uint16_t>(raw, 0),
                    .command = field<std::uint16_t>(raw, 2),
                    .size = field<std::uint32_t>(raw, 4),
                    .flags = field<std::uint32_t>(raw, 8),
                    .error = field<std::uint32_t>(raw, 12)};
  const std::uint32_t size = message.header.size;
  if (size < kHeaderSize) give_up("the server sent a message of size " + std::to_string(size));
  if (size > (1U << 30)) give_up("the server sent a message of size " + std::to_string(size) + ": out of step");
  message.arrived_whole = static_cast<std::uint32_t>(there) >= size;
  message.body.resize(size - kHeaderSize);
  if (!receive_all(message.body, message.fds)) return std::nullopt;
  // "If an error occurs, the reply message must only include the reply header."
  if (message.failed() && (!message.body.empty() || !message.fds.empty())) {
    give_up("an error reply to command " + std::to_string(message.header.command) + " has a payload of " +
            std::to_string(message.body.size()) + " bytes and " + std::to_string(message.fds.size()) + " descriptors");
  }
  return message;
}

std::optional<Message> RawPeer::receive_reply() {
  for (;;) {
    std::optional<Message> message = receive();
    if (!message || message->is_reply()) return message;
    if (!on_command) give_up("a surprising command from the server: " + std::to_string(message->header.command));
    on_command(*message);
  }
}

Message RawPeer::request(std::uint16_t command, std::span<const std::byte> body, const Descriptors& fds) {
  const std::uint16_t id = post(command, body, fds);
  std::optional<Message> message = receive_reply();
  if (!message) give_up("the server closed the connection upon command " + std::to_string(command));
  if (message->header.id != id || message->header.command != command) {
    give_up("command " + std::to_string(command) + " with id " + std::to_string(id) + " got the reply of command " +
            std::to_string(message->header.command) + " with id " + std::to_string(message->header.id));
  }
  return std::move(*message);
}

bool RawPeer::reply(const Message& command, std::span<const std::byte> body, std::uint32_t flags, std::uint32_t error) {
  return send(joined(encode({.id = command.header.id,
                             .command = command.header.command,
                             .size = static_cast<std::uint32_t>(kHeaderSize + body.size()),
                             .flags = flags,
                             .error = error}),
                     body));
}

void RawPeer::await_close() {
  Bytes sink(64U << 10);
  std::vector<Fd> fds;
  while (receive_some(sink, fds) != 0) fds.clear();
}

Message RawPeer::negotiate(std::string_view json) {
  Message reply = request(kVersion, version(json));
  if (reply.failed()) give_up("the server refused VERSION with errno " + std::to_string(reply.error()));
  return reply;
}

}  // namespace gangway::hostile
