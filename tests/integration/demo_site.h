// Device processes and guests of the real program, on one disk image, for tests that end them at bad moments.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <map>
#include <string>

#include <nlohmann/json.hpp>

#include "guest/child_process.h"
#include "guest/program.h"

namespace gangway::integration {

// The program under test.
[[nodiscard]] std::string program();

class Site {
 public:
  Site();
  ~Site();
  Site(const Site&) = delete;
  Site& operator=(const Site&) = delete;

  [[nodiscard]] std::filesystem::path file(const std::string& name) const { return directory_ / name; }
  [[nodiscard]] std::filesystem::path control(const std::string& guest) const { return file(guest + ".control"); }
  [[nodiscard]] std::filesystem::path image() const { return file("disk.img"); }

  // `gangway serve nvme` on the image, with socket NAME.sock.
  void serve(const std::string& name);
  // `gangway guest` that works on the device; runs on return.
  void boot(const std::string& name, const std::string& device, const std::vector<std::string>& more = {});
  // `gangway guest --incoming`; where it waits.
  std::string wait_for_machine(const std::string& name, const std::string& device,
                               const std::vector<std::string>& more = {});

  // Any of the program's commands.
  void run(const std::string& name, const std::vector<std::string>& arguments) { start(name, arguments); }
  // Until there is such a file of the site: a socket somebody has begun to listen at.
  void until_there(const std::string& name) const;

  [[nodiscard]] guest::ChildProcess& process(const std::string& name) { return processes_.at(name); }
  // Ends it with SIGKILL, if it is there, and forgets it.
  void kill(const std::string& name) { processes_.erase(name); }

  // Its status as soon as it satisfies `reached`. Fails the test, with the status and the log, after half a minute.
  nlohmann::ordered_json eventually(const std::string& guest,
                                    const std::function<bool(const nlohmann::ordered_json&)>& reached);
  // Until more commands completed than now; then its status.
  nlohmann::ordered_json let_work(const std::string& guest);
  // Stops it, and expects that it found everything right.
  void stop_verified(const std::string& guest);
  void expect_clean_file_system() const;

  [[nodiscard]] std::string log_of(const std::string& name) const;

 private:
  void start(const std::string& name, const std::vector<std::string>& arguments);

  std::filesystem::path directory_;
  std::string region_;
  std::map<std::string, guest::ChildProcess> processes_;
};

// Those whose command line contains all of `texts`: what each was started as, by its number.
[[nodiscard]] std::map<pid_t, std::string> processes_with(const std::vector<std::string>& texts);

}  // namespace gangway::integration
