#include "integration/hostile/memory_file.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

namespace gangway::hostile {
namespace {

void need(bool done, const char* what) {
  if (!done) throw std::runtime_error(std::string(what) + ": " + std::strerror(errno));
}

bool send_descriptor(int socket, int fd) {
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
  char byte = 0;
  iovec vector{.iov_base = &byte, .iov_len = 1};
  msghdr header{};
  header.msg_iov = &vector;
  header.msg_iovlen = 1;
  header.msg_control = control.data();
  header.msg_controllen = control.size();
  cmsghdr* rights = CMSG_FIRSTHDR(&header);
  rights->cmsg_level = SOL_SOCKET;
  rights->cmsg_type = SCM_RIGHTS;
  rights->cmsg_len = CMSG_LEN(sizeof(int));
  std::memcpy(CMSG_DATA(rights), &fd, sizeof(fd));
  return ::sendmsg(socket, &header, MSG_NOSIGNAL) == 1;
}

std::optional<Fd> receive_descriptor(int socket) {
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
  char byte = 0;
  iovec vector{.iov_base = &byte, .iov_len = 1};
  msghdr header{};
  header.msg_iov = &vector;
  header.msg_iovlen = 1;
  header.msg_control = control.data();
  header.msg_controllen = control.size();
  if (::recvmsg(socket, &header, MSG_CMSG_CLOEXEC) != 1) return std::nullopt;
  const cmsghdr* rights = CMSG_FIRSTHDR(&header);
  if (rights == nullptr || rights->cmsg_type != SCM_RIGHTS) return std::nullopt;
  int fd = -1;
  std::memcpy(&fd, CMSG_DATA(rights), sizeof(fd));
  return Fd(fd);
}

// In a child process, between fork and _exit: system calls only.
void offer_file_without_room(int socket, std::size_t size) {
  constexpr int kNamespaces = CLONE_NEWNS | CLONE_NEWUSER;
  if (::unshare(CLONE_NEWNS) != 0 && ::unshare(kNamespaces) != 0) return;
  if (::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return;
  if (::mount("none", "/tmp", "tmpfs", 0, "size=4k") != 0) return;
  const int fd = ::open("/tmp/full", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0 || ::ftruncate(fd, static_cast<off_t>(size)) != 0) return;
  send_descriptor(socket, fd);
}

}  // namespace

Fd memory_file(std::size_t size) {
  Fd file(::memfd_create("client-memory", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  need(static_cast<bool>(file), "memfd_create");
  truncate_file(file, size);
  return file;
}

void write_file(const Fd& file, std::size_t offset, std::span<const std::byte> bytes) {
  need(::pwrite(file.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset)) ==
           static_cast<ssize_t>(bytes.size()),
       "pwrite");
}

std::vector<std::byte> read_file(const Fd& file, std::size_t offset, std::size_t size) {
  std::vector<std::byte> bytes(size);
  need(::pread(file.get(), bytes.data(), size, static_cast<off_t>(offset)) == static_cast<ssize_t>(size), "pread");
  return bytes;
}

void truncate_file(const Fd& file, std::size_t size) {
  need(::ftruncate(file.get(), static_cast<off_t>(size)) == 0, "ftruncate");
}

std::optional<Fd> file_without_room(std::size_t size) {
  std::array<int, 2> pair{};
  need(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair.data()) == 0, "socketpair");
  const Fd ours(pair[0]);
  Fd theirs(pair[1]);
  const pid_t child = ::fork();
  need(child >= 0, "fork");
  if (child == 0) {
    offer_file_without_room(theirs.get(), size);
    ::_exit(0);
  }
  theirs.reset();
  std::optional<Fd> file = receive_descriptor(ours.get());
  need(::waitpid(child, nullptr, 0) == child, "waitpid");
  return file;
}

}  // namespace gangway::hostile
