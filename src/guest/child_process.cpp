#include "guest/child_process.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <optional>
#include <sstream>

#include <fmt/format.h>

#include <gangway/fd.h>

namespace gangway::guest {
namespace {

constexpr int kCannotExecute = 127;

// In the child, before it becomes another program: only what is safe after fork() in a program with threads.
[[noreturn]] void become(const char* program, char* const* arguments, int output, pid_t parent) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(kCannotExecute);  // it died before we asked
  ::setpgid(0, 0);
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  const int input = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  if (input < 0) ::_exit(kCannotExecute);
  ::dup2(input, STDIN_FILENO);
  ::dup2(output, STDOUT_FILENO);
  ::dup2(output, STDERR_FILENO);
  ::execv(program, arguments);
  ::_exit(kCannotExecute);
}

Result<pid_t> spawn(const std::filesystem::path& program, const std::vector<std::string>& arguments, int output) {
  if (::access(program.c_str(), X_OK) != 0) return fail_errno(fmt::format("run {}", program.string()));
  std::vector<std::string> words{program.string()};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> pointers;
  for (std::string& word : words) pointers.push_back(word.data());
  pointers.push_back(nullptr);
  const pid_t parent = ::getpid();
  const pid_t child = ::fork();
  if (child < 0) return fail_errno(fmt::format("run {}", program.string()));
  if (child == 0) become(program.c_str(), pointers.data(), output, parent);
  return child;
}

std::optional<std::filesystem::path> find_program(const std::string& name) {
  if (name.find('/') != std::string::npos) return name;
  const char* path = std::getenv("PATH");
  std::istringstream directories(std::string(path == nullptr ? "" : path) + ":/usr/sbin:/sbin:/usr/local/sbin");
  for (std::string directory; std::getline(directories, directory, ':');) {
    if (directory.empty()) continue;
    std::filesystem::path candidate = std::filesystem::path(directory) / name;
    if (::access(candidate.c_str(), X_OK) == 0) return candidate;
  }
  return std::nullopt;
}

std::string read_all(int file) {
  std::string text;
  std::array<char, 4096> piece;
  for (ssize_t size = 0; (size = ::pread(file, piece.data(), piece.size(), static_cast<off_t>(text.size()))) > 0;) {
    text.append(piece.data(), static_cast<std::size_t>(size));
  }
  return text;
}

}  // namespace

Result<ChildProcess> ChildProcess::start(const std::filesystem::path& program,
                                         const std::vector<std::string>& arguments,
                                         const std::filesystem::path& output) {
  const Fd file(::open(output.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  if (!file) return fail_errno(fmt::format("open {}", output.string()));
  const auto child = spawn(program, arguments, file.get());
  if (!child) return std::unexpected(child.error());
  return ChildProcess(*child);
}

ChildProcess::ChildProcess(ChildProcess&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)), status_(other.status_), reaped_(other.reaped_) {}

ChildProcess& ChildProcess::operator=(ChildProcess&& other) noexcept {
  std::swap(pid_, other.pid_);
  std::swap(status_, other.status_);
  std::swap(reaped_, other.reaped_);
  return *this;
}

ChildProcess::~ChildProcess() {
  if (pid_ < 0) return;
  signal(SIGKILL);
  wait();
}

void ChildProcess::signal(int number) const {
  // Until it is reaped the number is its own.
  if (pid_ > 0 && !reaped_) ::kill(pid_, number);
}

int ChildProcess::wait() {
  int status = 0;
  while (!reaped_ && pid_ > 0) {
    if (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) continue;
    status_ = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    reaped_ = true;
  }
  return status_;
}

bool ChildProcess::ended() {
  if (reaped_ || pid_ < 0) return true;
  siginfo_t info{};
  const bool over =
      ::waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid != 0;
  if (over) wait();
  return over;
}

Result<ToolResult> run_tool(const std::string& program, const std::vector<std::string>& arguments) {
  const auto path = find_program(program);
  if (!path) return fail(ENOENT, fmt::format("{}: not found in PATH or the sbin directories", program));
  const Fd output(::memfd_create("output", MFD_CLOEXEC));
  if (!output) return fail_errno("keep a tool's output");
  const auto child = spawn(*path, arguments, output.get());
  if (!child) return std::unexpected(child.error());
  int status = 0;
  while (::waitpid(*child, &status, 0) < 0) {
    if (errno != EINTR) return fail_errno(fmt::format("wait for {}", program));
  }
  return ToolResult{WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), read_all(output.get())};
}

}  // namespace gangway::guest
