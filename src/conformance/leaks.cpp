// Leaks: many cycles leave the server's descriptors and memory where they were.
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include <fmt/core.h>

#include "conformance/steps.h"
#include "conformance/wire_peer.h"

namespace gangway::conformance {
namespace {

using enum DeviceState;

// Allocators keep some of what was freed; a leak of a page a cycle is far beyond.
constexpr std::uint64_t kMemoryNoise = 3U << 20;
constexpr std::uint32_t kWarmUp = 20;

// The process that serves the device, if it can be looked at.
class Server {
 public:
  explicit Server(Context& c) {
    constexpr std::string_view kScheme = "vfio-user:";
    c.device.close();
    const auto peer = WirePeer::connect(std::string(c.target.substr(kScheme.size())), c.settings.limit);
    const int pid = peer ? peer->server_pid() : 0;
    if (pid == 0) throw Untestable{"the server's process is not known", false};
    directory_ = fmt::format("/proc/{}", pid);
    std::error_code error;
    const std::filesystem::directory_iterator readable(directory_ / "fd", error);
    if (error) throw Untestable{fmt::format("the server's process {} cannot be looked at", pid), false};
    if (pid == ::getpid()) throw Untestable{"the server is this process", false};
  }

  [[nodiscard]] std::size_t descriptors() const {
    std::error_code error;
    std::size_t count = 0;
    for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(directory_ / "fd", error)) ++count;
    return count;
  }

  // Anonymous memory in use, bytes.
  [[nodiscard]] std::uint64_t memory() const {
    std::ifstream status(directory_ / "status");
    for (std::string line; std::getline(status, line);) {
      if (line.starts_with("RssAnon:")) return std::stoull(line.substr(8)) << 10;
    }
    return 0;
  }

 private:
  std::filesystem::path directory_;
};

void cycle(Context& c, std::uint32_t number) {
  Subject& device = c.device;
  reopen(device);
  if (c.flags().pre_copy && number % 2 == 0) {
    go(device, PreCopy);
    step(device.read(100), "read some");
  }
  save(device);
  go(device, Resuming);
  step(device.write_all(), "write all");
  go(device, Running);
  if (number % 4 == 0 && (c.abilities.have & kReset) != 0) {
    go(device, Resuming);
    step(device.write(50), "write some");
    reset(device);
  }
}

void cycles_leak_nothing(Context& c) {
  if (c.settings.cycles == 0) throw Untestable{with_name("no cycle was asked for", c.settings.names.cycles), false};
  const Server server(c);
  for (std::uint32_t i = 0; i < kWarmUp; ++i) cycle(c, i);
  const std::size_t descriptors = server.descriptors();
  const std::uint64_t memory = server.memory();
  for (std::uint32_t i = 0; i < c.settings.cycles; ++i) {
    if (i % 50 == 0) c.doing(fmt::format("cycle {} of {}", i, c.settings.cycles));
    cycle(c, i);
  }
  const std::size_t descriptors_after = server.descriptors();
  expect("WIR-FDS", descriptors_after <= descriptors,
         fmt::format("{} cycles leave the server's {} descriptors as they were", c.settings.cycles, descriptors),
         fmt::format("{}", descriptors_after));
  const std::uint64_t memory_after = server.memory();
  expect("FSM-REPEAT", memory_after <= memory + kMemoryNoise,
         fmt::format("{} cycles leave the server's memory as it was, {} KiB", c.settings.cycles, memory >> 10),
         fmt::format("{} KiB", memory_after >> 10));
}

}  // namespace

std::vector<Test> leak_tests() {
  return {{"cycles_leak_nothing", {"WIR-FDS", "FSM-REPEAT"}, kMigration | kWire, cycles_leak_nothing}};
}

}  // namespace gangway::conformance
