// Runs a command and records what it does to /dev/vfio, in every process and thread that it starts.
//
// Its system calls stop by a filter where they may matter, and go on at once where they do not; everything else runs as
// fast as without. Signals are passed to the command, and once it has ended to what it left running; job
// control works, and the exit status is the command's.
//
// When the recorder is killed, so is the command: stopped system calls could not go on without it.
//
// Thread-safety: one thread; it waits for every child of the process.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <string>
#include <unordered_map>
#include <vector>

#include <gangway/error.h>

#include "record/call_watch.h"
#include "record/trace_file.h"
#include "record/vfio_objects.h"

namespace gangway::record {

struct TracerOptions {
  std::vector<std::string> command;
  std::filesystem::path out;
  std::filesystem::path folder = "/dev/vfio";  // where the devices are
  KeepPayload payload = KeepPayload::No;
};

class Tracer {
 public:
  struct Ended {
    int status = 0;                // the command's, or 128 + the signal that ended it
    std::optional<Error> failure;  // why the recording is not whole
  };
  // ENOENT and others of exec when there is no such command; nothing was recorded then.
  static Result<Ended> run(const TracerOptions& options);

 private:
  struct Thread {
    pid_t process = 0;
    std::optional<CallWatch::UnderWay> call;
  };

  Tracer(TraceWriter writer, const TracerOptions& options);
  Result<Fd> start(const std::vector<std::string>& command);
  void follow();
  void follow_what_is_left();
  void take(pid_t thread, int status);
  void stopped(pid_t thread, int status);
  void event(pid_t thread, int event);
  void began_call(pid_t thread);
  void ended_call(pid_t thread);
  void started(pid_t parent, pid_t child);
  void executed(pid_t process);
  void ended(pid_t thread, int status);
  void go_on(pid_t thread, int signal = 0);
  [[nodiscard]] Thread& thread(pid_t number);
  void note(ProcessRecord::Event event, pid_t process, pid_t thread, std::int64_t value, std::string text = {});

  TraceWriter writer_;
  VfioObjects objects_;
  CallWatch watch_;
  std::unordered_map<pid_t, Thread> threads_;
  pid_t main_ = 0;
  int status_ = 0;
};

}  // namespace gangway::record
