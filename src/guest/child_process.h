// A process of our own making, which does not outlive us.
//
// Thread-safety: one thread at a time. Start from a thread that lives as long as the child shall: the kernel kills it
// when that thread ends (PR_SET_PDEATHSIG).
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <string>
#include <vector>

#include <gangway/error.h>

namespace gangway::guest {

class ChildProcess {
 public:
  // In a process group of its own, so that a ^C at the terminal reaches us and not it; with no input, and both its
  // outputs appended to `output`. ENOENT when there is no such program.
  static Result<ChildProcess> start(const std::filesystem::path& program, const std::vector<std::string>& arguments,
                                    const std::filesystem::path& output);
  ChildProcess(ChildProcess&& other) noexcept;
  ChildProcess& operator=(ChildProcess&& other) noexcept;
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;
  ~ChildProcess();  // kills it, if it still runs, and reaps it

  [[nodiscard]] pid_t pid() const { return pid_; }
  void signal(int number) const;
  // Waits for its end: the exit status, or 128 + the signal that ended it. The same again when called again.
  int wait();
  // Ended, without waiting.
  [[nodiscard]] bool ended();

 private:
  explicit ChildProcess(pid_t pid) : pid_(pid) {}

  pid_t pid_ = -1;
  int status_ = -1;  // once reaped
  bool reaped_ = false;
};

struct ToolResult {
  int status = 0;  // as ChildProcess::wait()
  std::string output;
};

// Runs a program to its end. One without a slash is looked for in PATH and in the sbin directories that a user's PATH
// mostly lacks; ENOENT names it.
Result<ToolResult> run_tool(const std::string& program, const std::vector<std::string>& arguments);

}  // namespace gangway::guest
