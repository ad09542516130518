#include "record/tracer.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <fstream>
#include <set>

#include <fmt/format.h>

#include "record/recorder.h"
#include "record/syscall_filter.h"

namespace gangway::record {
namespace {

using Event = ProcessRecord::Event;

constexpr int kSignalBase = 128;
constexpr int kSyscallStop = SIGTRAP | 0x80;  // by PTRACE_O_TRACESYSGOOD
constexpr long kOptions = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACESECCOMP | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK |
                          PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC | PTRACE_O_EXITKILL;
// Results by which the kernel says that a call will be made again.
constexpr std::int64_t kFirstRestart = -516;
constexpr std::int64_t kLastRestart = -512;

long trace(int request, pid_t thread, unsigned long address = 0, unsigned long data = 0) {
  return ::ptrace(static_cast<__ptrace_request>(request), thread, address, data);
}

// The process that a thread belongs to.
pid_t process_of(pid_t thread) {
  std::ifstream status(fmt::format("/proc/{}/status", thread));
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("Tgid:")) return static_cast<pid_t>(std::strtol(line.c_str() + 5, nullptr, 10));
  }
  return thread;
}

std::string program_of(pid_t process) {
  std::array<char, 4096> link{};
  const ssize_t size = ::readlink(fmt::format("/proc/{}/exe", process).c_str(), link.data(), link.size());
  return {link.data(), static_cast<std::size_t>(std::max<ssize_t>(size, 0))};
}

// For the handler of a signal to end by: the command, to which it is passed.
std::atomic<pid_t> command_running{0};
void pass_signal(int number) {
  if (const pid_t command = command_running.load(); command > 0) ::kill(command, number);
}

// In the child: becomes the command once it is traced. What goes wrong is told by `report`.
[[noreturn]] void become(const std::vector<std::string>& command, int traced, int report) {
  const auto fail_with = [&](int error) {
    (void)!::write(report, &error, sizeof error);
    ::_exit(127);
  };
  char ready = 0;
  if (::read(traced, &ready, 1) != 1) ::_exit(127);
  if (const Result<void> installed = install_syscall_filter(); !installed) fail_with(installed.error().code);
  std::vector<char*> words;
  for (const std::string& word : command) words.push_back(const_cast<char*>(word.c_str()));
  words.push_back(nullptr);
  ::execvp(words.front(), words.data());
  fail_with(errno);
  ::_exit(127);
}

struct Pipe {
  Fd read;
  Fd write;
  static Result<Pipe> make() {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) return fail_errno("make a pipe");
    return Pipe{Fd(ends[0]), Fd(ends[1])};
  }
};

}  // namespace

Tracer::Tracer(TraceWriter writer, const TracerOptions& options)
    : writer_(std::move(writer)),
      objects_(options.folder),
      watch_(writer_, objects_, CallWatch::Clock::now(), options.payload) {}

Result<Tracer::Ended> Tracer::run(const TracerOptions& options) {
  Meta meta = meta_now(Subject::Kernel, options.folder.native(), options.payload);
  meta.command = options.command;
  Result<TraceWriter> writer = TraceWriter::create(options.out, meta);
  if (!writer) return std::unexpected(writer.error());
  Tracer tracer(*std::move(writer), options);
  Result<Fd> report = tracer.start(options.command);
  if (report) {
    tracer.follow();
    // The descriptor closed without a word when the command was executed.
    int error = 0;
    if (::read(report->get(), &error, sizeof error) == sizeof error) {
      report = fail_errno(fmt::format("run '{}'", options.command.front()), error);
    }
  }
  if (!report) {
    ::unlink(options.out.c_str());
    return std::unexpected(report.error());
  }
  const Result<void> closed = tracer.writer_.close();
  return Ended{.status = tracer.status_, .failure = closed ? std::nullopt : std::optional(closed.error())};
}

// Returns where an error of the child comes from, should it not become the command.
Result<Fd> Tracer::start(const std::vector<std::string>& command) {
  Result<Pipe> traced = Pipe::make();
  Result<Pipe> report = traced ? Pipe::make() : std::unexpected(traced.error());
  if (!report) return std::unexpected(report.error());
  const pid_t child = ::fork();
  if (child < 0) return fail_errno("start the command");
  if (child == 0) {
    traced->write.reset();
    become(command, traced->read.get(), report->write.get());
  }
  main_ = child;
  threads_[child] = {.process = child};
  if (trace(PTRACE_SEIZE, child, 0, kOptions) != 0) {
    const int error = errno;
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    return fail_errno("trace the command", error);
  }
  command_running = child;
  for (const int number : {SIGINT, SIGQUIT}) ::signal(number, SIG_IGN);  // the terminal sends them to the command, too
  for (const int number : {SIGTERM, SIGHUP}) ::signal(number, pass_signal);
  note(Event::Started, child, child, 0, command.front());
  (void)!::write(traced->write.get(), "x", 1);
  return std::move(report->read);
}

void Tracer::note(Event event, pid_t process, pid_t thread, std::int64_t value, std::string text) {
  writer_.write(ProcessRecord{.time = watch_.now(),
                              .process = process,
                              .thread = thread,
                              .event = event,
                              .value = value,
                              .text = std::move(text)});
}

// Until every process that was traced has ended.
void Tracer::follow() {
  while (command_running > 0) {
    int status = 0;
    const pid_t thread = ::waitpid(-1, &status, __WALL);
    if (thread < 0 && errno == EINTR) continue;
    if (thread < 0) return;
    take(thread, status);
  }
  follow_what_is_left();
}

void Tracer::take(pid_t thread, int status) {
  if (WIFSTOPPED(status)) {
    stopped(thread, status);
  } else {
    ended(thread, status);
  }
}

// The command has ended, and who waits for it waits for us: a signal to end is for those that keep us. They need not be
// in the terminal's group, so what it sends is passed on, too. Whatever happens is a signal here, and none is missed.
void Tracer::follow_what_is_left() {
  sigset_t signals;
  ::sigemptyset(&signals);
  for (const int number : {SIGCHLD, SIGINT, SIGQUIT, SIGTERM, SIGHUP}) ::sigaddset(&signals, number);
  ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  for (;;) {
    int status = 0;
    pid_t thread = 0;
    while ((thread = ::waitpid(-1, &status, __WALL | WNOHANG)) > 0) take(thread, status);
    if (thread < 0) return;
    const int number = ::sigwaitinfo(&signals, nullptr);
    if (number < 0 || number == SIGCHLD) continue;
    std::set<pid_t> left;
    for (const auto& [id, one] : threads_) left.insert(one.process);
    for (const pid_t process : left) ::kill(process, number);
  }
}

// One that was never heard of is a child whose parent has not been heard yet.
Tracer::Thread& Tracer::thread(pid_t number) {
  const auto [found, added] = threads_.try_emplace(number);
  if (added) found->second.process = process_of(number);
  return found->second;
}

void Tracer::stopped(pid_t number, int status) {
  const int signal = WSTOPSIG(status);
  const int event = status >> 16;
  (void)thread(number);
  if (signal == kSyscallStop) return ended_call(number);
  if (event == PTRACE_EVENT_STOP) {
    const bool by_job_control = signal == SIGSTOP || signal == SIGTSTP || signal == SIGTTIN || signal == SIGTTOU;
    if (by_job_control) {
      trace(PTRACE_LISTEN, number);
    } else {
      go_on(number);
    }
    return;
  }
  if (event != 0) return this->event(number, event);
  go_on(number, signal);
}

void Tracer::event(pid_t number, int event) {
  unsigned long message = 0;
  trace(PTRACE_GETEVENTMSG, number, 0, reinterpret_cast<unsigned long>(&message));
  switch (event) {
    case PTRACE_EVENT_SECCOMP:
      return began_call(number);
    case PTRACE_EVENT_EXEC:
      return executed(number);
    case PTRACE_EVENT_FORK:
    case PTRACE_EVENT_VFORK:
    case PTRACE_EVENT_CLONE:
      started(number, static_cast<pid_t>(message));
      break;
    default:
      break;
  }
  go_on(number);
}

// Stops again at the end of a call that is looked at.
void Tracer::go_on(pid_t number, int signal) {
  const bool looked_at = thread(number).call.has_value();
  trace(looked_at ? PTRACE_SYSCALL : PTRACE_CONT, number, 0, static_cast<unsigned long>(signal));
}

void Tracer::began_call(pid_t number) {
  __ptrace_syscall_info info{};
  Thread& thread = this->thread(number);
  const long size = trace(PTRACE_GET_SYSCALL_INFO, number, sizeof info, reinterpret_cast<unsigned long>(&info));
  if (size > 0 && info.op == PTRACE_SYSCALL_INFO_SECCOMP) {
    SystemCall call{.number = info.seccomp.nr};
    std::copy_n(info.seccomp.args, call.arguments.size(), call.arguments.begin());
    thread.call = watch_.before(thread.process, number, call);
  }
  go_on(number);
}

void Tracer::ended_call(pid_t number) {
  __ptrace_syscall_info info{};
  Thread& thread = this->thread(number);
  const long size = trace(PTRACE_GET_SYSCALL_INFO, number, sizeof info, reinterpret_cast<unsigned long>(&info));
  const bool end = size > 0 && info.op == PTRACE_SYSCALL_INFO_EXIT;
  if (end && thread.call) {
    CallWatch::UnderWay call = *std::exchange(thread.call, std::nullopt);
    const std::int64_t result = info.exit.rval;
    const bool again = info.exit.is_error != 0 && result >= kFirstRestart && result <= kLastRestart;
    if (!again) watch_.after(std::move(call), result);
  }
  go_on(number);
}

void Tracer::started(pid_t parent, pid_t child) {
  const pid_t process = thread(parent).process;
  Thread& started = thread(child);
  if (started.process == process) return;  // a thread
  watch_.forked(process, child);
  note(Event::Forked, process, parent, child);
}

// All threads but one are gone, and that one has the number of the process.
void Tracer::executed(pid_t process) {
  std::erase_if(threads_, [&](const auto& one) { return one.second.process == process && one.first != process; });
  thread(process).call.reset();
  note(Event::Executed, process, process, 0, program_of(process));
  watch_.gone(process, process, "another program was executed");
  go_on(process);
}

void Tracer::ended(pid_t number, int status) {
  const pid_t process = thread(number).process;
  threads_.erase(number);
  if (number != process) return;
  const bool killed = WIFSIGNALED(status);
  const int value = killed ? WTERMSIG(status) : WEXITSTATUS(status);
  watch_.gone(process, process, "the process ended");
  note(killed ? Event::Killed : Event::Ended, process, process, value);
  if (process == main_) {
    status_ = killed ? kSignalBase + value : value;
    command_running = 0;
  }
}

}  // namespace gangway::record
