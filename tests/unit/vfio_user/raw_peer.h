// A peer that says exactly what a test has it say, and hears what comes.
#pragma once

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <gangway/fd.h>

#include "base/bytes.h"
#include "vfio_user/protocol.h"

namespace gangway::test {

using Bytes = std::vector<std::byte>;

template <class... Parts>
Bytes bytes(const Parts&... parts) {
  Bytes all;
  const auto append = [&](std::span<const std::byte> part) { all.insert(all.end(), part.begin(), part.end()); };
  (append(bytes_of(parts)), ...);
  return all;
}
inline Bytes with(Bytes all, std::span<const std::byte> more) {
  all.insert(all.end(), more.begin(), more.end());
  return all;
}
inline Bytes text(std::string_view text) {
  const auto all = std::as_bytes(std::span(text));
  return {all.begin(), all.end()};
}

inline std::pair<Fd, Fd> socket_pair() {
  std::array<int, 2> ends{};
  (void)!::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data());
  return {Fd(ends[0]), Fd(ends[1])};
}

struct Heard {
  vfio_user::Header header;
  Bytes body;
  std::vector<Fd> fds;

  [[nodiscard]] int error() const {
    return (header.flags & vfio_user::kError) != 0 ? static_cast<int>(header.error) : 0;
  }
  template <class T>
  [[nodiscard]] T as(std::size_t offset = 0) const {
    return load_at<T>(body, offset).value_or(T{});
  }
};

class RawPeer {
 public:
  explicit RawPeer(Fd socket) : socket_(std::move(socket)) {
    const timeval limit{.tv_sec = 20, .tv_usec = 0};
    ::setsockopt(socket_.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  }

  // False when the other side is gone.
  bool send_bytes(std::span<const std::byte> all, std::span<const int> fds = {}) {
    while (!all.empty()) {
      alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(253 * sizeof(int))> control{};
      iovec vector{const_cast<std::byte*>(all.data()), all.size()};
      msghdr message{};
      message.msg_iov = &vector;
      message.msg_iovlen = 1;
      if (!fds.empty()) {
        message.msg_control = control.data();
        message.msg_controllen = CMSG_SPACE(fds.size_bytes());
        cmsghdr* header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(fds.size_bytes());
        std::memcpy(CMSG_DATA(header), fds.data(), fds.size_bytes());
      }
      const ssize_t sent = ::sendmsg(socket_.get(), &message, MSG_NOSIGNAL);
      if (sent <= 0) return false;
      all = all.subspan(static_cast<std::size_t>(sent));
      fds = {};
    }
    return true;
  }

  static Bytes command(vfio_user::Command command, std::span<const std::byte> body, std::uint32_t flags = 0,
                       std::uint16_t id = 1) {
    const vfio_user::Header header{.id = id,
                                   .command = static_cast<std::uint16_t>(command),
                                   .size = static_cast<std::uint32_t>(sizeof(vfio_user::Header) + body.size()),
                                   .flags = flags};
    return with(bytes(header), body);
  }
  bool send(vfio_user::Command what, std::span<const std::byte> body = {}, std::span<const int> fds = {},
            std::uint32_t flags = 0) {
    return send_bytes(command(what, body, flags, ++last_id_), fds);
  }
  bool reply(const Heard& to, std::span<const std::byte> body, std::span<const int> fds = {}) {
    vfio_user::Header header = to.header;
    header.flags = vfio_user::kTypeReply;
    header.size = static_cast<std::uint32_t>(sizeof header + body.size());
    return send_bytes(with(bytes(header), body), fds);
  }

  // nullopt at the end of the stream (or when nothing came for long).
  std::optional<Heard> hear() {
    Heard heard;
    if (!receive(std::as_writable_bytes(std::span(&heard.header, 1)), heard.fds)) return std::nullopt;
    heard.body.resize(heard.header.size - sizeof heard.header);
    if (!receive(heard.body, heard.fds)) return std::nullopt;
    return heard;
  }
  // The reply to a command, which must come next.
  Heard ask(vfio_user::Command what, std::span<const std::byte> body = {}, std::span<const int> fds = {}) {
    if (!send(what, body, fds)) return gone();
    std::optional<Heard> heard = hear();
    if (!heard || heard->header.id != last_id_ || (heard->header.flags & vfio_user::kTypeMask) != 1) return gone();
    return *std::move(heard);
  }
  // Whether the other side closed; waits for it.
  bool closed() {
    for (;;) {
      std::array<std::byte, 4096> ignored;
      const ssize_t got = ::recv(socket_.get(), ignored.data(), ignored.size(), 0);
      if (got == 0 || (got < 0 && errno == ECONNRESET)) return true;
      if (got < 0) return false;
    }
  }
  Heard negotiate(std::string_view json = {}) {
    return ask(vfio_user::Command::Version, with(bytes(vfio_user::Version{0, 1}), text(json)));
  }
  [[nodiscard]] int fd() const { return socket_.get(); }
  void hang_up() { socket_.reset(); }

 private:
  static Heard gone() { return {.header = {.flags = vfio_user::kError, .error = ECONNRESET}}; }

  bool receive(std::span<std::byte> into, std::vector<Fd>& fds) {
    while (!into.empty()) {
      alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(253 * sizeof(int))> control{};
      iovec vector{into.data(), into.size()};
      msghdr message{};
      message.msg_iov = &vector;
      message.msg_iovlen = 1;
      message.msg_control = control.data();
      message.msg_controllen = control.size();
      const ssize_t got = ::recvmsg(socket_.get(), &message, MSG_CMSG_CLOEXEC);
      if (got <= 0) return false;
      for (cmsghdr* c = CMSG_FIRSTHDR(&message); c != nullptr; c = CMSG_NXTHDR(&message, c)) {
        for (std::size_t i = 0; i < (c->cmsg_len - CMSG_LEN(0)) / sizeof(int); ++i) {
          int fd = -1;
          std::memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
          fds.emplace_back(fd);
        }
      }
      into = into.subspan(static_cast<std::size_t>(got));
    }
    return true;
  }

  Fd socket_;
  std::uint16_t last_id_ = 0;
};

}  // namespace gangway::test
