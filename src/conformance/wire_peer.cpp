#include "conformance/wire_peer.h"

#include <linux/sockios.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <thread>

#include <fmt/core.h>

#include "base/bytes.h"

namespace gangway::conformance {
namespace {

using namespace vfio_user;

constexpr std::size_t kMostFds = 64;
constexpr std::size_t kLongestMessage = 64U << 20;
constexpr std::chrono::milliseconds kUntilRead{50};

}  // namespace

Result<WirePeer> WirePeer::connect(const std::string& socket, std::chrono::milliseconds limit) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (socket.size() >= sizeof address.sun_path) return fail(ENAMETOOLONG, fmt::format("socket {}: too long", socket));
  socket.copy(address.sun_path, socket.size());
  Fd connected(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!connected || ::connect(connected.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return fail_errno(fmt::format("connect to {}", socket));
  }
  return WirePeer(std::move(connected), limit);
}

Result<void> WirePeer::negotiate(std::string_view json) {
  const Version version{.major = kMajor, .minor = kMinor};
  Bytes body(sizeof version);
  (void)store_at(std::span(body), 0, version);
  for (const char c : json) body.push_back(static_cast<std::byte>(c));
  if (!json.empty()) body.push_back(std::byte{0});
  const Result<Reply> reply = call(Command::Version, body);
  if (!reply) return std::unexpected(reply.error());
  if (reply->failed()) return fail(static_cast<int>(reply->header.error), "VERSION is refused");
  return {};
}

Result<void> WirePeer::send(std::span<const std::byte> bytes, std::span<const int> fds) {
  std::vector<std::byte> control(CMSG_SPACE(sizeof(int) * std::max<std::size_t>(fds.size(), 1)));
  std::size_t done = 0;
  while (done < bytes.size()) {
    iovec part{const_cast<std::byte*>(bytes.data() + done), bytes.size() - done};
    msghdr header{};
    header.msg_iov = &part;
    header.msg_iovlen = 1;
    if (done == 0 && !fds.empty()) {
      header.msg_control = control.data();
      header.msg_controllen = CMSG_SPACE(fds.size_bytes());
      cmsghdr* const rights = CMSG_FIRSTHDR(&header);
      rights->cmsg_level = SOL_SOCKET;
      rights->cmsg_type = SCM_RIGHTS;
      rights->cmsg_len = CMSG_LEN(fds.size_bytes());
      std::memcpy(CMSG_DATA(rights), fds.data(), fds.size_bytes());
    }
    pollfd writable{socket_.get(), POLLOUT, 0};
    if (::poll(&writable, 1, static_cast<int>(limit_.count())) == 0) return fail(ETIMEDOUT, "the server does not read");
    const ssize_t sent = ::sendmsg(socket_.get(), &header, MSG_NOSIGNAL);
    if (sent < 0) return fail(ECONNRESET, "the server closed the connection");
    done += static_cast<std::size_t>(sent);
  }
  return {};
}

void WirePeer::await_read() {
  const auto deadline = std::chrono::steady_clock::now() + std::min(kUntilRead, limit_);
  int unread = 1;
  while (::ioctl(socket_.get(), SIOCOUTQ, &unread) == 0 && unread != 0 && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::yield();
  }
}

Result<void> WirePeer::read_exactly(std::span<std::byte> out, std::vector<Fd>& fds) {
  alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(sizeof(int) * kMostFds)> control{};
  while (!out.empty()) {
    pollfd readable{socket_.get(), POLLIN, 0};
    if (::poll(&readable, 1, static_cast<int>(limit_.count())) == 0) return fail(ETIMEDOUT, "the server is silent");
    iovec part{out.data(), out.size()};
    msghdr header{};
    header.msg_iov = &part;
    header.msg_iovlen = 1;
    header.msg_control = control.data();
    header.msg_controllen = control.size();
    const ssize_t got = ::recvmsg(socket_.get(), &header, MSG_CMSG_CLOEXEC);
    if (got <= 0) return fail(ECONNRESET, "the server closed the connection");
    for (cmsghdr* rights = CMSG_FIRSTHDR(&header); rights != nullptr; rights = CMSG_NXTHDR(&header, rights)) {
      if (rights->cmsg_level != SOL_SOCKET || rights->cmsg_type != SCM_RIGHTS) continue;
      for (std::size_t at = 0; CMSG_LEN(at + sizeof(int)) <= rights->cmsg_len; at += sizeof(int)) {
        int fd = -1;
        std::memcpy(&fd, CMSG_DATA(rights) + at, sizeof fd);
        fds.emplace_back(fd);
      }
    }
    out = out.subspan(static_cast<std::size_t>(got));
  }
  return {};
}

Result<WirePeer::Reply> WirePeer::receive() {
  for (;;) {
    Reply reply;
    if (Result<void> read = read_exactly(std::as_writable_bytes(std::span(&reply.header, 1)), reply.fds); !read) {
      return std::unexpected(read.error());
    }
    if (reply.header.size < sizeof reply.header || reply.header.size > kLongestMessage) {
      return fail(EPROTO, fmt::format("a message of {} bytes", reply.header.size));
    }
    reply.body.resize(reply.header.size - sizeof reply.header);
    int there = 0;
    reply.whole = ::ioctl(socket_.get(), FIONREAD, &there) == 0 &&
                  static_cast<std::size_t>(there) >= std::min<std::size_t>(reply.body.size(), 4096);
    if (Result<void> read = read_exactly(reply.body, reply.fds); !read) return std::unexpected(read.error());
    if ((reply.header.flags & kTypeMask) == kTypeReply) return reply;
    if ((reply.header.flags & kNoReply) != 0) continue;
    Header refusal = reply.header;
    refusal.size = sizeof refusal;
    refusal.flags = kTypeReply | kError;
    refusal.error = EINVAL;
    if (Result<void> sent = send(bytes_of(refusal)); !sent) return std::unexpected(sent.error());
  }
}

Bytes WirePeer::message(std::uint16_t command, std::span<const std::byte> body, std::uint32_t flags) {
  const Header header{.id = ++last_id_,
                      .command = command,
                      .size = static_cast<std::uint32_t>(sizeof header + body.size()),
                      .flags = kTypeCommand | flags};
  Bytes bytes(sizeof header + body.size());
  (void)store_at(std::span(bytes), 0, header);
  std::ranges::copy(body, bytes.begin() + sizeof header);
  return bytes;
}

Result<WirePeer::Reply> WirePeer::call(Command command, std::span<const std::byte> body, std::span<const int> fds,
                                       std::uint32_t flags) {
  const Bytes bytes = message(static_cast<std::uint16_t>(command), body, flags);
  if (Result<void> sent = send(bytes, fds); !sent) return std::unexpected(sent.error());
  Result<Reply> reply = receive();
  if (reply && (reply->header.id != last_id_ || reply->header.command != static_cast<std::uint16_t>(command))) {
    return fail(EPROTO, fmt::format("command {} of id {} is answered with command {} of id {}",
                                    static_cast<int>(command), last_id_, reply->header.command, reply->header.id));
  }
  return reply;
}

int WirePeer::server_pid() const {
  ucred peer{};
  socklen_t size = sizeof peer;
  return ::getsockopt(socket_.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 ? peer.pid : 0;
}

}  // namespace gangway::conformance
