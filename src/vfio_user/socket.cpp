#include "vfio_user/socket.h"

#include <sys/socket.h>

#include <array>
#include <cstring>

namespace gangway::vfio_user {
namespace {

// An end that is no surprise to the caller carries no message: nobody formats one for every empty poll.
std::unexpected<Error> quietly(int code) { return std::unexpected(Error{code, {}, {}}); }

Result<std::size_t> sent_or_error(ssize_t sent) {
  if (sent < 0) return quietly(errno == EWOULDBLOCK ? EAGAIN : errno);
  return static_cast<std::size_t>(sent);
}

// What sendmsg does, without the description of a message that the kernel would have to take over.
Result<std::size_t> send_bytes(int socket, const iovec& bytes) {
  ssize_t sent = 0;
  do {
    sent = ::send(socket, bytes.iov_base, bytes.iov_len, MSG_DONTWAIT | MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  return sent_or_error(sent);
}

void take_descriptors(msghdr& message, std::vector<Fd>& fds) {
  for (cmsghdr* control = CMSG_FIRSTHDR(&message); control != nullptr; control = CMSG_NXTHDR(&message, control)) {
    if (control->cmsg_level != SOL_SOCKET || control->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (control->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(control) + i * sizeof(int), sizeof fd);
      fds.emplace_back(fd);
    }
  }
}

}  // namespace

Result<std::size_t> receive_bytes(int socket, std::span<iovec> into, Wait wait) {
  const int flags = wait == Wait::No ? MSG_DONTWAIT : 0;
  msghdr message{};
  message.msg_iov = into.data();
  message.msg_iovlen = into.size();
  ssize_t got = 0;
  do {
    got = into.size() == 1 ? ::recv(socket, into.front().iov_base, into.front().iov_len, flags)
                           : ::recvmsg(socket, &message, flags);
  } while (got < 0 && errno == EINTR);
  if (got < 0) return quietly(errno == EWOULDBLOCK ? EAGAIN : errno);
  if (got == 0) return quietly(ECONNRESET);
  return static_cast<std::size_t>(got);
}

Result<std::size_t> receive(int socket, std::span<iovec> into, std::vector<Fd>& fds, Wait wait) {
  alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(kMaxDescriptors * sizeof(int))> control;
  msghdr message{};
  message.msg_iov = into.data();
  message.msg_iovlen = into.size();
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  ssize_t got = 0;
  do {
    got = ::recvmsg(socket, &message, MSG_CMSG_CLOEXEC | (wait == Wait::No ? MSG_DONTWAIT : 0));
  } while (got < 0 && errno == EINTR);
  if (got < 0) return quietly(errno == EWOULDBLOCK ? EAGAIN : errno);
  if (message.msg_controllen != 0) take_descriptors(message, fds);
  if ((message.msg_flags & MSG_CTRUNC) != 0) {
    return fail(EMSGSIZE, "descriptors that came with a message could not be received", "WIR-FDS");
  }
  if (got == 0) return quietly(ECONNRESET);
  return static_cast<std::size_t>(got);
}

Result<std::size_t> send(int socket, std::span<iovec> from, std::span<const int> fds) {
  if (fds.empty() && from.size() == 1) return send_bytes(socket, from.front());
  alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(kMaxDescriptors * sizeof(int))> control;
  msghdr message{};
  message.msg_iov = from.data();
  message.msg_iovlen = from.size();
  if (!fds.empty()) {
    if (fds.size() > kMaxDescriptors) return fail(EINVAL, "more descriptors than one message can carry");
    std::memset(control.data(), 0, CMSG_SPACE(fds.size_bytes()));
    message.msg_control = control.data();
    message.msg_controllen = CMSG_SPACE(fds.size_bytes());
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(fds.size_bytes());
    std::memcpy(CMSG_DATA(header), fds.data(), fds.size_bytes());
  }
  ssize_t sent = 0;
  do {
    sent = ::sendmsg(socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  return sent_or_error(sent);
}

std::span<iovec> skip(std::span<iovec> vector, std::size_t bytes) {
  while (!vector.empty() && bytes >= vector.front().iov_len) {
    bytes -= vector.front().iov_len;
    vector = vector.subspan(1);
  }
  if (bytes != 0) {
    vector.front().iov_base = static_cast<std::byte*>(vector.front().iov_base) + bytes;
    vector.front().iov_len -= bytes;
  }
  return vector;
}

void set_receive_timeout(int socket, std::chrono::milliseconds timeout) {
  const timeval limit{.tv_sec = timeout.count() / 1000, .tv_usec = (timeout.count() % 1000) * 1000};
  ::setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
}

void make_room_for_sending(int socket, std::size_t bytes) {
  const int size = static_cast<int>(bytes);
  ::setsockopt(socket, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
}

void shut_down(int socket) { ::shutdown(socket, SHUT_RDWR); }

}  // namespace gangway::vfio_user
