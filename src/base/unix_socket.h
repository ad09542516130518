// UNIX stream sockets by the path of their file.
//
// Thread-safety: functions from any thread; an object from one at a time.
#pragma once

#include <sys/types.h>
#include <sys/un.h>

#include <chrono>
#include <filesystem>

#include <gangway/error.h>
#include <gangway/fd.h>

namespace gangway {

// ENAMETOOLONG with the most that a path may have.
Result<sockaddr_un> unix_address(const std::filesystem::path& path);

// `timeout` is for a listener whose queue is full: ETIMEDOUT.
Result<Fd> connect_unix(const std::filesystem::path& path, std::chrono::milliseconds timeout);

// The file of a listening socket: removed in the end, unless another file has taken its place.
class SocketFile {
 public:
  SocketFile() = default;  // none
  SocketFile(SocketFile&& other) noexcept;
  SocketFile& operator=(SocketFile&& other) noexcept;
  SocketFile(const SocketFile&) = delete;
  SocketFile& operator=(const SocketFile&) = delete;
  ~SocketFile() { remove(); }

  void remove();
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }  // empty when there is none

 private:
  friend Result<struct UnixListener> listen_unix(const std::filesystem::path& path);
  static Result<SocketFile> of(const std::filesystem::path& path);

  std::filesystem::path path_;
  dev_t device_ = 0;
  ino_t inode_ = 0;
};

struct UnixListener {
  Fd socket;
  SocketFile file;
};

// A socket file that nobody listens on any more is replaced; EADDRINUSE when somebody does, or another kind of file is
// there. Of several that begin at once on one path, one gets it. EBUSY when the path's directory stays locked (flock).
Result<UnixListener> listen_unix(const std::filesystem::path& path);

}  // namespace gangway
