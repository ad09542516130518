// A process that serves a device on a socket, in a folder that goes with it.
//
// Thread-safety: one thread.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <gangway/device_handle.h>

#include "guest/child_process.h"

namespace gangway::integration {

class ServedProcess {
 public:
  struct Command {
    std::string program;
    std::vector<std::string> arguments;
  };
  // What to run, by the folder: the device is served at FOLDER/socket.
  using CommandIn = std::function<Command(const std::filesystem::path& folder)>;

  // Ready when it returns. Errors: the program cannot be run, or does not serve.
  static Result<ServedProcess> start(const CommandIn& command);
  ~ServedProcess();
  ServedProcess(ServedProcess&&) noexcept;
  ServedProcess& operator=(ServedProcess&&) = delete;
  ServedProcess(const ServedProcess&) = delete;
  ServedProcess& operator=(const ServedProcess&) = delete;

  [[nodiscard]] const std::filesystem::path& folder() const { return folder_; }
  [[nodiscard]] std::string target() const { return "vfio-user:" + (folder_ / "socket").string(); }
  Result<std::unique_ptr<DeviceHandle>> open() const;
  // What the process said so far.
  [[nodiscard]] std::string output() const;

 private:
  ServedProcess(std::filesystem::path folder, guest::ChildProcess process);

  std::filesystem::path folder_;
  guest::ChildProcess process_;
};

[[nodiscard]] std::string text_of(const std::filesystem::path& file);

}  // namespace gangway::integration
