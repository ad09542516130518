#include "device/interrupts_eventfd.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <string_view>

#include <fmt/format.h>

namespace gangway::eventfd {

bool is_eventfd(int fd) {
  std::array<char, 64> target{};
  const std::string link = fmt::format("/proc/self/fd/{}", fd);
  const ssize_t length = ::readlink(link.c_str(), target.data(), target.size());
  if (length < 0) return ::fcntl(fd, F_GETFD) >= 0;
  return std::string_view(target.data(), static_cast<std::size_t>(length)).starts_with("anon_inode:[eventfd");
}

void signal(int fd) {
  // A write to a full eventfd blocks unless the client opened it O_NONBLOCK, and eventfds know RWF_NOWAIT for reading
  // only. So ask first. The flag is not set here: it belongs to the open file, and a client that reads its end
  // blocking would find that changed under its hands.
  pollfd ready{fd, POLLOUT, 0};
  if (::poll(&ready, 1, 0) != 1 || (ready.revents & POLLOUT) == 0) return;
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(fd, &one, sizeof(one));
}

bool consume(int fd) {
  std::uint64_t count = 0;
  const iovec into{&count, sizeof(count)};
  return ::preadv2(fd, &into, 1, -1, RWF_NOWAIT) == sizeof(count);
}

}  // namespace gangway::eventfd
