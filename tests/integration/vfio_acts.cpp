// A program that uses devices as a VMM does, one way for each word of its command line; statically linked, so that
// nothing could be put before its libraries. Ends with status 7.
//
// usage: vfio_acts FOLDER WAY
#include <fcntl.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>

namespace {

constexpr int kStatus = 7;
constexpr unsigned long kReset = 0x3b6f;    // VFIO_DEVICE_RESET
constexpr unsigned long kFeature = 0x3b75;  // VFIO_DEVICE_FEATURE
constexpr std::uint32_t kSetState = 2 | 1U << 17;

int device(const std::string& folder, int flags = 0) {
  return ::open((folder + "/devices/vfio0").c_str(), O_RDWR | flags);
}

void read_at(int fd, off_t offset) {
  std::array<char, 4> bytes{};
  if (::pread(fd, bytes.data(), bytes.size(), offset) != 4) std::abort();
}

int receive(int socket) {
  char byte = 0;
  iovec vector{&byte, 1};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
  msghdr message{};
  message.msg_iov = &vector;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  if (::recvmsg(socket, &message, 0) != 1) std::abort();
  int fd = -1;
  std::memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
  return fd;
}

void send(int socket, int fd) {
  char byte = 0;
  iovec vector{&byte, 1};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
  msghdr message{};
  message.msg_iov = &vector;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  cmsghdr* head = CMSG_FIRSTHDR(&message);
  head->cmsg_level = SOL_SOCKET;
  head->cmsg_type = SCM_RIGHTS;
  head->cmsg_len = CMSG_LEN(sizeof fd);
  std::memcpy(CMSG_DATA(head), &fd, sizeof fd);
  if (::sendmsg(socket, &message, 0) != 1) std::abort();
}

void plain(const std::string& folder) {
  const int fd = device(folder);
  read_at(fd, 0x10);
  const std::uint32_t value = 0x04030201;
  if (::pwrite(fd, &value, sizeof value, 0x20) != 4) std::abort();
  std::array<iovec, 2> vectors{{{const_cast<std::uint32_t*>(&value), 2}, {const_cast<std::uint32_t*>(&value), 4}}};
  if (::pwritev(fd, vectors.data(), vectors.size(), 0x30) != 6) std::abort();
  void* mapped = ::mmap(nullptr, 4096, PROT_READ, MAP_SHARED, fd, 0);
  if (mapped == MAP_FAILED) std::abort();
  ::munmap(mapped, 4096);
  (void)::ioctl(fd, kReset);
  struct {
    std::uint32_t argsz = 16, flags = kSetState, state = 3;
    std::int32_t data_fd = -1;
  } feature;
  (void)::ioctl(fd, kFeature, &feature);
  ::close(fd);
}

void forked(const std::string& folder) {
  const int fd = device(folder);
  const pid_t child = ::fork();
  if (child == 0) {
    read_at(fd, 0x40);
    ::_exit(0);
  }
  ::waitpid(child, nullptr, 0);
  const pid_t light = ::vfork();
  if (light == 0) ::_exit(0);
  ::waitpid(light, nullptr, 0);
  read_at(fd, 0x44);
}

void threads(const std::string& folder) {
  const int fd = device(folder);
  std::array<std::thread, 4> all;
  for (std::size_t i = 0; i < all.size(); ++i) {
    all[i] = std::thread([fd, i] {
      for (int round = 0; round < 100; ++round) read_at(fd, static_cast<off_t>(0x100 + 4 * i));
    });
  }
  for (std::thread& one : all) one.join();
}

void duplicates(const std::string& folder) {
  const int fd = device(folder);
  const int second = ::dup(fd);
  const int third = ::fcntl(fd, F_DUPFD_CLOEXEC, 100);
  ::close(fd);
  read_at(second, 0x50);
  read_at(third, 0x54);
  const int null = ::open("/dev/null", O_RDWR);
  ::dup2(null, second);  // which closes the duplicate
  ::close_range(100, 200, 0);
}

void onto_itself(const std::string& folder) {
  const int fd = device(folder);
  if (::dup2(fd, fd) != fd) std::abort();
  read_at(fd, 0x58);
  ::close(fd);
}

// A child that lives on, and says that it has no parent any more.
void outlived(const std::string& folder) {
  const pid_t parent = ::getpid();
  if (::fork() != 0) return;
  while (::getppid() == parent) ::usleep(1000);
  ::close(::open((folder + "/alone").c_str(), O_CREAT | O_WRONLY, 0600));
  for (;;) ::pause();
}

void passed(const std::string& folder) {
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_STREAM, 0, ends.data()) != 0) std::abort();
  const pid_t child = ::fork();
  if (child == 0) {
    read_at(receive(ends[1]), 0x60);
    ::_exit(0);
  }
  const int fd = device(folder);
  send(ends[0], fd);
  ::close(fd);
  ::waitpid(child, nullptr, 0);
}

void executed(const std::string& folder, const char* self) {
  (void)device(folder, O_CLOEXEC);
  const int kept = device(folder);
  ::dup2(kept, 50);
  ::execl(self, self, folder.c_str(), "after", nullptr);
  std::abort();
}

void on_signal(int) { ::_exit(9); }

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) return 2;
  const std::string folder = argv[1];
  const std::string way = argv[2];
  if (way == "plain") plain(folder);
  if (way == "fork") forked(folder);
  if (way == "threads") threads(folder);
  if (way == "duplicates") duplicates(folder);
  if (way == "itself") onto_itself(folder);
  if (way == "outlived") outlived(folder);
  if (way == "passed") passed(folder);
  if (way == "exec") executed(folder, argv[0]);
  if (way == "after") read_at(50, 0x70);
  if (way == "signal") {
    ::signal(SIGUSR1, on_signal);
    ::raise(SIGUSR1);
  }
  if (way == "killed") ::raise(SIGKILL);
  if (way == "stopped") {
    const pid_t child = ::fork();
    if (child == 0) {
      ::raise(SIGSTOP);
      ::_exit(0);
    }
    int status = 0;
    if (::waitpid(child, &status, WUNTRACED) != child || !WIFSTOPPED(status)) return 1;
    ::kill(child, SIGCONT);
    if (::waitpid(child, &status, 0) != child || !WIFEXITED(status)) return 1;
  }
  return kStatus;
}
