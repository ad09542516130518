// A 4-byte region read against a bare UNIX-socket ping-pong of the same sizes (32 bytes there, 36 back).
#include <poll.h>
#include <sys/socket.h>

#include <atomic>
#include <filesystem>
#include <memory>
#include <thread>

#include <gangway/device_handle.h>
#include <gangway/server.h>

#include "measure.h"
#include "memory_device.h"

using namespace gangway;
using namespace gangway::bench;

namespace {

constexpr std::size_t kRequest = 32;  // header, and offset, region, count
constexpr std::size_t kReply = 36;    // the same, and 4 bytes of data
const int kRounds = usually(20'000, 20);
const int kRuns = usually(7, 1);
constexpr std::chrono::microseconds kForEver{10'000'000};

enum class Wait { Polling, Blocking };

struct Placement {
  std::initializer_list<std::size_t> client;
  std::initializer_list<std::size_t> server;
};

void receive(int fd, std::byte* bytes, std::size_t size, Wait wait) {
  const int flags = wait == Wait::Polling ? MSG_DONTWAIT : 0;
  for (std::size_t got = 0; got < size;) {
    const ssize_t n = recv(fd, bytes + got, size - got, flags);
    if (n > 0) got += static_cast<std::size_t>(n);
    if (n == 0) return;
  }
}

// p50 in microseconds of one round trip, whatever one round trip is.
double p50_of(const std::function<void()>& round_trip) {
  std::vector<double> took;
  took.reserve(static_cast<std::size_t>(kRounds));
  for (int i = 0; i < kRounds; ++i) {
    const auto began = Clock::now();
    round_trip();
    took.push_back(seconds_since(began) * 1e6);
  }
  return median(std::move(took));
}

double bare_ping_pong(Wait wait, const Placement& placement) {
  int fds[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0) std::exit(1);
  const Fd client(fds[0]);
  std::atomic<bool> done{false};
  run_on(placement.server);
  std::thread server([&done, wait, fd = Fd(fds[1])] {
    std::byte bytes[kReply]{};
    for (;;) {
      if (wait == Wait::Polling) {
        std::size_t got = 0;
        while (got < kRequest && !done) {
          const ssize_t n = recv(fd.get(), bytes + got, kRequest - got, MSG_DONTWAIT);
          if (n > 0) got += static_cast<std::size_t>(n);
        }
      } else {
        receive(fd.get(), bytes, kRequest, wait);
      }
      if (done) return;
      if (send(fd.get(), bytes, kReply, MSG_NOSIGNAL) < 0) return;
    }
  });
  run_on(placement.client);
  std::byte bytes[kReply]{};
  const double result = p50_of([&] {
    if (send(client.get(), bytes, kRequest, 0) < 0) std::exit(1);
    receive(client.get(), bytes, kReply, wait);
  });
  done = true;
  shutdown(client.get(), SHUT_RDWR);
  server.join();
  return result;
}

double region_read(std::chrono::microseconds spin, const Placement& placement) {
  const std::filesystem::path socket = std::filesystem::temp_directory_path() / ("access-" + std::to_string(getpid()));
  const auto endpoint = must(Endpoint::create(std::make_unique<MemoryDevice>(0)));
  const auto server = must(Server::listen(socket, *endpoint, {.spin = spin}));
  run_on(placement.server);
  must(server->start());
  run_on(placement.client);
  const auto device = must(open_device("vfio-user:" + socket.string(), {.spin = spin}));
  std::array<std::byte, 4> bytes{};
  return p50_of([&] { must(device->read(0, 16, bytes)); });
}

void compare(const std::string& name, std::chrono::microseconds spin, Wait floor, const Placement& placement) {
  report(name,
         alternate(
             kRuns, [&] { return region_read(spin, placement); }, [&] { return bare_ping_pong(floor, placement); }),
         "us");
}

}  // namespace

int main() {
  using std::chrono::microseconds;
  const Placement apart{{0}, {1}};
  const Placement together{{0}, {0}};
  compare("region_read_polling", kForEver, Wait::Polling, apart);
  compare("region_read_blocking_one_core", microseconds(0), Wait::Blocking, together);
  compare("region_read_blocking_two_cores", microseconds(0), Wait::Blocking, apart);
  // What a user gets who sets nothing: against this polling all the time, and where there is but one core, against the
  // floor of those who sleep.
  const ServerOptions defaults;
  report("region_read_default_spin_to_polling",
         alternate(
             kRuns, [&] { return region_read(defaults.spin, apart); }, [&] { return region_read(kForEver, apart); }),
         "us");
  compare("region_read_default_spin_one_core", defaults.spin, Wait::Blocking, together);
}
