#include "devices/serial/fd_backend.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <tuple>
#include <utility>

namespace gangway::serial {
namespace {

bool is_stream_socket(int fd) {
  int type = 0;
  socklen_t size = sizeof(type);
  return ::getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0 && type == SOCK_STREAM;
}

ssize_t send_bytes(int fd, std::span<const std::byte> bytes) {
  const ssize_t sent = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
  if (sent < 0 && errno == ENOTSOCK) return ::write(fd, bytes.data(), bytes.size());  // a terminal raises no SIGPIPE
  return sent;
}

}  // namespace

Result<std::unique_ptr<FdBackend>> FdBackend::create(Fd fd) {
  if (!is_stream_socket(fd.get()) && ::isatty(fd.get()) == 0) {
    return fail(EINVAL, "serial line: the descriptor is neither a stream socket nor a terminal");
  }
  const int flags = ::fcntl(fd.get(), F_GETFL);
  if (flags < 0 || ::fcntl(fd.get(), F_SETFL, flags | O_NONBLOCK) < 0) return fail_errno("serial line: not to block");
  Fd wake(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake) return fail_errno("serial line: eventfd");
  return std::unique_ptr<FdBackend>(new FdBackend(std::move(fd), std::move(wake)));
}

FdBackend::~FdBackend() {
  if (!thread_.joinable()) return;
  {
    std::scoped_lock lock(mutex_);
    ended_ = true;
  }
  wait_for(0);
  thread_.join();
}

std::size_t FdBackend::write(std::span<const std::byte> bytes) {
  const ssize_t sent = send_bytes(fd_.get(), bytes);
  if (sent < 0 && errno != EAGAIN && errno != EINTR) return bytes.size();
  const std::size_t taken = sent < 0 ? 0 : static_cast<std::size_t>(sent);
  if (taken < bytes.size()) wait_for(POLLOUT);
  return taken;
}

std::size_t FdBackend::read(std::span<std::byte> out) {
  const ssize_t got = ::read(fd_.get(), out.data(), out.size());
  if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) return 0;  // the peer is gone: nothing to wait for
  const std::size_t size = got < 0 ? 0 : static_cast<std::size_t>(got);
  if (size < out.size()) wait_for(POLLIN);
  return size;
}

void FdBackend::connect(std::function<void()> ready) {
  thread_ = std::thread([this, ready = std::move(ready)] { run(ready); });
}

void FdBackend::wait_for(short event) {
  {
    std::scoped_lock lock(mutex_);
    waited_ = static_cast<short>(waited_ | event);
  }
  const std::uint64_t one = 1;
  std::ignore = ::write(wake_.get(), &one, sizeof(one));  // full means that it is awake already
}

void FdBackend::run(const std::function<void()>& ready) {
  for (;;) {
    std::array<pollfd, 2> polled{{{.fd = wake_.get(), .events = POLLIN}, {.fd = fd_.get()}}};
    {
      std::scoped_lock lock(mutex_);
      if (ended_) return;
      polled[1].events = waited_;
      if (waited_ == 0) polled[1].fd = -1;  // or a hang-up would be reported for ever
    }
    if (::poll(polled.data(), polled.size(), -1) < 0) continue;
    std::uint64_t count = 0;
    std::ignore = ::read(wake_.get(), &count, sizeof(count));
    if (polled[1].revents == 0) continue;
    {
      std::scoped_lock lock(mutex_);
      const bool hung_up = (polled[1].revents & ~(POLLIN | POLLOUT)) != 0;
      waited_ = hung_up ? short{0} : static_cast<short>(waited_ & ~polled[1].revents);
    }
    ready();
  }
}

}  // namespace gangway::serial
