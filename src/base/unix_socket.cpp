#include "base/unix_socket.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <thread>
#include <utility>

#include <fmt/format.h>

namespace gangway {
namespace {

constexpr int kBacklog = 16;
constexpr std::chrono::milliseconds kLockedPause{10};
constexpr int kLockTries = 200;  // 2 s; a lock is held for as long as a few system calls take

const sockaddr* generic(const sockaddr_un& address) { return reinterpret_cast<const sockaddr*>(&address); }

Result<Fd> new_socket() {
  Fd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket) return fail_errno("make a UNIX socket");
  return socket;
}

// Between bind() and listen() a socket refuses connections as one that is left over does, so who looks at a file, or
// makes one, holds its directory. A directory that cannot be locked is used without: it is private, or knows no locks.
Result<Fd> lock_directory_of(const std::filesystem::path& path) {
  const std::filesystem::path directory = path.has_parent_path() ? path.parent_path() : ".";
  Fd lock(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!lock) return lock;
  for (int tries = 0; ::flock(lock.get(), LOCK_EX | LOCK_NB) != 0; ++tries) {
    if (errno != EWOULDBLOCK && errno != EINTR) return lock;
    if (tries == kLockTries) {
      return fail(EBUSY, fmt::format("listen on '{}': another process keeps '{}' locked (flock)", path.native(),
                                     directory.native()));
    }
    std::this_thread::sleep_for(kLockedPause);
  }
  return lock;
}

// Leaves no file at the path, if what is there is a socket that nobody listens on.
Result<void> remove_left_over(const std::filesystem::path& path) {
  struct stat info{};
  if (::lstat(path.c_str(), &info) != 0 || !S_ISSOCK(info.st_mode)) {
    return fail(EADDRINUSE, fmt::format("listen on '{}': a file that is no socket is there", path.native()));
  }
  const Result<Fd> other = connect_unix(path, std::chrono::milliseconds(1));
  if (other || other.error().code != ECONNREFUSED) {
    return fail(EADDRINUSE, fmt::format("listen on '{}': another process listens there", path.native()));
  }
  ::unlink(path.c_str());
  return {};
}

}  // namespace

Result<sockaddr_un> unix_address(const std::filesystem::path& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string& text = path.native();
  if (text.empty() || text.size() >= sizeof address.sun_path) {
    return fail(ENAMETOOLONG, fmt::format("socket '{}': a path has 1 to {} bytes", text, sizeof address.sun_path - 1));
  }
  std::memcpy(address.sun_path, text.data(), text.size());
  return address;
}

Result<Fd> connect_unix(const std::filesystem::path& path, std::chrono::milliseconds timeout) {
  Result<sockaddr_un> address = unix_address(path);
  if (!address) return std::unexpected(address.error());
  Result<Fd> socket = new_socket();
  if (!socket) return socket;
  const timeval limit{.tv_sec = timeout.count() / 1000, .tv_usec = (timeout.count() % 1000) * 1000};
  ::setsockopt(socket->get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  if (::connect(socket->get(), generic(*address), sizeof *address) != 0) {
    if (errno == EAGAIN) {
      return fail(ETIMEDOUT, fmt::format("connect to '{}': its listener accepts nobody", path.native()));
    }
    return fail_errno(fmt::format("connect to '{}'", path.native()));
  }
  return socket;
}

SocketFile::SocketFile(SocketFile&& other) noexcept
    : path_(std::exchange(other.path_, {})), device_(other.device_), inode_(other.inode_) {}

SocketFile& SocketFile::operator=(SocketFile&& other) noexcept {
  if (this == &other) return *this;
  remove();
  path_ = std::exchange(other.path_, {});
  device_ = other.device_;
  inode_ = other.inode_;
  return *this;
}

Result<SocketFile> SocketFile::of(const std::filesystem::path& path) {
  struct stat info{};
  if (::lstat(path.c_str(), &info) != 0) return fail_errno(fmt::format("look at the socket '{}'", path.native()));
  SocketFile file;
  file.path_ = path;
  file.device_ = info.st_dev;
  file.inode_ = info.st_ino;
  return file;
}

void SocketFile::remove() {
  const std::filesystem::path path = std::exchange(path_, {});
  struct stat info{};
  if (path.empty() || ::lstat(path.c_str(), &info) != 0) return;
  if (info.st_dev == device_ && info.st_ino == inode_) ::unlink(path.c_str());
}

Result<UnixListener> listen_unix(const std::filesystem::path& path) {
  Result<sockaddr_un> address = unix_address(path);
  if (!address) return std::unexpected(address.error());
  Result<Fd> socket = new_socket();
  if (!socket) return std::unexpected(socket.error());
  const auto bound = [&] { return ::bind(socket->get(), generic(*address), sizeof *address) == 0; };
  const auto refused = [&] { return fail_errno(fmt::format("listen on '{}'", path.native())); };

  const Result<Fd> lock = lock_directory_of(path);
  if (!lock) return std::unexpected(lock.error());
  if (!bound()) {
    if (errno != EADDRINUSE) return refused();
    if (Result<void> removed = remove_left_over(path); !removed) return std::unexpected(removed.error());
    if (!bound()) return refused();
  }
  Result<SocketFile> file = SocketFile::of(path);
  if (!file) return std::unexpected(file.error());
  if (::listen(socket->get(), kBacklog) != 0) return refused();
  return UnixListener{*std::move(socket), *std::move(file)};
}

}  // namespace gangway
