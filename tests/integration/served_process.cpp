#include "integration/served_process.h"

#include <stdlib.h>

#include <chrono>
#include <fstream>
#include <sstream>
#include <thread>
#include <utility>

namespace gangway::integration {
namespace {

constexpr std::chrono::seconds kPatience{60};

}  // namespace

ServedProcess::ServedProcess(std::filesystem::path folder, guest::ChildProcess process)
    : folder_(std::move(folder)), process_(std::move(process)) {}

ServedProcess::ServedProcess(ServedProcess&& other) noexcept
    : folder_(std::exchange(other.folder_, {})), process_(std::move(other.process_)) {}

ServedProcess::~ServedProcess() {
  std::error_code ignored;
  if (!folder_.empty()) std::filesystem::remove_all(folder_, ignored);
}

Result<ServedProcess> ServedProcess::start(const CommandIn& command) {
  std::string folder = (std::filesystem::temp_directory_path() / "gangway-served-XXXXXX").string();
  if (::mkdtemp(folder.data()) == nullptr) return fail_errno("make a folder");
  const Command run = command(folder);
  auto process = guest::ChildProcess::start(run.program, run.arguments, std::filesystem::path(folder) / "output");
  if (!process) return std::unexpected(process.error());
  ServedProcess served(folder, *std::move(process));
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  for (;;) {
    const auto opened = served.open();
    if (opened) return served;
    if (served.process_.ended()) return fail(EIO, "the device's process ended: " + served.output());
    if (std::chrono::steady_clock::now() > deadline) return std::unexpected(opened.error());
    std::this_thread::yield();
  }
}

Result<std::unique_ptr<DeviceHandle>> ServedProcess::open() const {
  return open_device(target(), {.timeout = kPatience});
}

std::string ServedProcess::output() const { return text_of(folder_ / "output"); }

std::string text_of(const std::filesystem::path& file) {
  std::ifstream in(file);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

}  // namespace gangway::integration
