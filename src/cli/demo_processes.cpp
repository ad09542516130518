#include "cli/demo_processes.h"

#include <signal.h>
#include <stdlib.h>

#include <chrono>
#include <fstream>
#include <sstream>

#include <fmt/format.h>

namespace gangway::cli {
namespace {

constexpr std::chrono::seconds kPatience{10};
constexpr std::size_t kLogTail = 2000;

}  // namespace

Result<std::unique_ptr<DemoProcesses>> DemoProcesses::create(bool keep_directory) {
  std::string pattern = (std::filesystem::temp_directory_path() / "gangway-demo-XXXXXX").string();
  if (::mkdtemp(pattern.data()) == nullptr) return fail_errno(fmt::format("make a directory {}", pattern));
  return std::unique_ptr<DemoProcesses>(new DemoProcesses(pattern, keep_directory));
}

DemoProcesses::~DemoProcesses() { end_now(); }

void DemoProcesses::end_now() {
  const std::scoped_lock lock(mutex_);
  ended_ = true;
  for (auto& [name, process] : processes_) process.signal(SIGKILL);
  if (keep_) return;
  std::error_code ignored;
  std::filesystem::remove_all(directory_, ignored);
}

Result<void> DemoProcesses::start(const std::string& name, const std::vector<std::string>& arguments) {
  const std::scoped_lock lock(mutex_);
  if (ended_) return fail(ECANCELED, "the demo is being ended");
  auto process = guest::ChildProcess::start("/proc/self/exe", arguments, directory_ / (name + ".log"));
  if (!process) return std::unexpected(process.error());
  processes_.emplace(name, std::move(*process));
  return {};
}

Result<void> DemoProcesses::check_running() {
  const std::scoped_lock lock(mutex_);
  for (auto& [name, process] : processes_) {
    if (process.ended()) {
      return fail(ECHILD, fmt::format("{} ended with status {}:\n{}", name, process.wait(), log_of(name)));
    }
  }
  return {};
}

int DemoProcesses::stop(const std::string& name) {
  {
    const std::scoped_lock lock(mutex_);
    const auto found = processes_.find(name);
    if (found == processes_.end()) return 0;
    found->second.signal(SIGTERM);
  }
  return wait(name);
}

int DemoProcesses::wait(const std::string& name) {
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  for (;;) {
    {
      // end_now() may come in between, which signals all that are there.
      const std::scoped_lock lock(mutex_);
      const auto found = processes_.find(name);
      if (found == processes_.end()) return 0;
      if (found->second.ended()) {
        const int status = found->second.wait();
        processes_.erase(found);
        return status;
      }
      if (std::chrono::steady_clock::now() > deadline) found->second.signal(SIGKILL);
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
}

std::string DemoProcesses::log_of(const std::string& name) const {
  std::ifstream file(directory_ / (name + ".log"));
  std::ostringstream text;
  text << file.rdbuf();
  const std::string all = text.str();
  return all.size() > kLogTail ? all.substr(all.size() - kLogTail) : all;
}

}  // namespace gangway::cli
