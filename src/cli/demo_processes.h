// The processes of a demo and the directory they live in: all gone when this is, however it ends.
//
// Thread-safety: start and the accessors from one thread; end_now() from any.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include <gangway/error.h>

#include "guest/child_process.h"

namespace gangway::cli {

class DemoProcesses {
 public:
  // Makes a directory under TMPDIR.
  static Result<std::unique_ptr<DemoProcesses>> create(bool keep_directory);
  ~DemoProcesses();
  DemoProcesses(const DemoProcesses&) = delete;
  DemoProcesses& operator=(const DemoProcesses&) = delete;

  [[nodiscard]] const std::filesystem::path& directory() const { return directory_; }

  // This same program with these arguments, under a name for messages. Its output goes to NAME.log in the directory.
  Result<void> start(const std::string& name, const std::vector<std::string>& arguments);
  // An error, with the end of its log, when a process ended that should run.
  Result<void> check_running();
  // Asks the process to end, and waits; kills it if it does not within some seconds. Its exit status.
  int stop(const std::string& name);
  // The process ended by itself, or is about to: waits. Its exit status.
  int wait(const std::string& name);

  // Kills all of them and removes the directory; none can be started any more.
  void end_now();

 private:
  DemoProcesses(std::filesystem::path directory, bool keep) : directory_(std::move(directory)), keep_(keep) {}
  [[nodiscard]] std::string log_of(const std::string& name) const;

  const std::filesystem::path directory_;
  const bool keep_;
  std::mutex mutex_;
  bool ended_ = false;
  std::map<std::string, guest::ChildProcess> processes_;
};

}  // namespace gangway::cli
