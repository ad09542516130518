// Guest memory between two ends in this process over loopback, against a bare TCP stream of the same bytes into fresh
// memory of the same kind, in the same run. Prints a JSON object a line: name, value, unit, floor, ratio.
//
//   migrate_bench [RUNS [MIB]]
//
// The memory is that of a machine of 4 GiB of which 2.45 GiB are in use.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "measure.h"
#include "migrate/destination.h"
#include "migrate/source.h"

namespace {

using namespace gangway;
using bench::Clock;
using bench::seconds_since;

constexpr std::uint64_t kMiB = 1U << 20;

[[noreturn]] void die(const std::string& why) {
  std::fprintf(stderr, "migrate_bench: %s\n", why.c_str());
  std::exit(1);
}

class NothingWrites : public migrate::DirtyTracker {
 public:
  Result<void> start() override { return {}; }
  Result<void> collect(std::size_t, std::span<std::uint64_t>) override { return {}; }
  Result<void> stop() override { return {}; }
  [[nodiscard]] std::string_view method() const override { return "nothing writes"; }
};

// Memory in a memfd, and CPUs that do nothing.
class Idle : public migrate::Machine {
 public:
  explicit Idle(std::uint64_t size) : file_(::memfd_create("ram", MFD_CLOEXEC)) {
    if (::ftruncate(file_.get(), static_cast<off_t>(size)) != 0) die("cannot size a memfd");
    void* at = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, file_.get(), 0);
    if (at == MAP_FAILED) die("cannot map a memfd");
    memory_.push_back({.name = "ram0",
                       .iova = {.start = {0}, .size = size},
                       .bytes = {static_cast<std::byte*>(at), size},
                       .file = file_.get()});
  }
  ~Idle() override { ::munmap(memory_[0].bytes.data(), memory_[0].bytes.size()); }
  Idle(const Idle&) = delete;
  Idle& operator=(const Idle&) = delete;

  [[nodiscard]] std::span<const migrate::MemoryBlock> memory() const override { return memory_; }
  [[nodiscard]] migrate::DirtyTracker& dirty_tracker() override { return tracker_; }
  [[nodiscard]] std::span<const migrate::MachineDevice> devices() const override { return {}; }
  Result<void> pause() override { return {}; }
  Result<void> resume() override { return {}; }
  Result<std::vector<std::byte>> save_cpus() override { return std::vector<std::byte>(8); }
  Result<void> load_cpus(std::span<const std::byte>) override { return {}; }
  Result<void> prepare_device(std::size_t) override { return {}; }

  [[nodiscard]] std::span<std::byte> bytes() { return memory_[0].bytes; }
  [[nodiscard]] std::uint64_t allocated() const {
    struct stat status{};
    if (::fstat(file_.get(), &status) != 0) die("cannot stat a memfd");
    return static_cast<std::uint64_t>(status.st_blocks) * 512;
  }

 private:
  Fd file_;
  std::vector<migrate::MemoryBlock> memory_;
  NothingWrites tracker_;
};

// The machine's first `data` bytes are not zero.
void fill(Idle& machine, std::uint64_t data) {
  for (std::uint64_t at = 0; at < data; at += 8) {
    const std::uint64_t word = at * 0x9e3779b97f4a7c15ULL + 1;
    std::memcpy(machine.bytes().data() + at, &word, sizeof word);
  }
}

struct TcpPair {
  Fd sender;
  Fd receiver;
};

TcpPair tcp_pair() {
  const Fd listener(::socket(AF_INET, SOCK_STREAM, 0));
  sockaddr_in name{.sin_family = AF_INET, .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
  socklen_t size = sizeof name;
  auto* at = reinterpret_cast<sockaddr*>(&name);
  if (::bind(listener.get(), at, size) != 0 || ::listen(listener.get(), 1) != 0 ||
      ::getsockname(listener.get(), at, &size) != 0) {
    die("cannot listen");
  }
  TcpPair pair{.sender = Fd(::socket(AF_INET, SOCK_STREAM, 0)), .receiver = {}};
  if (::connect(pair.sender.get(), at, size) != 0) die("cannot connect");
  pair.receiver = Fd(::accept(listener.get(), nullptr, nullptr));
  return pair;
}

// Seconds for the first `data` bytes, in writes and reads of 1 MiB.
double bare_stream(Idle& from, std::uint64_t data) {
  Idle to(from.bytes().size());
  const TcpPair pair = tcp_pair();
  const auto begin = Clock::now();
  std::jthread sender([&] {
    for (std::uint64_t at = 0; at < data;) {
      const ssize_t sent = ::send(pair.sender.get(), from.bytes().data() + at, std::min(kMiB, data - at), MSG_NOSIGNAL);
      if (sent <= 0) die("send");
      at += static_cast<std::uint64_t>(sent);
    }
  });
  for (std::uint64_t at = 0; at < data;) {
    const ssize_t got = ::recv(pair.receiver.get(), to.bytes().data() + at, std::min(kMiB, data - at), 0);
    if (got <= 0) die("recv");
    at += static_cast<std::uint64_t>(got);
  }
  return seconds_since(begin);
}

struct Case {
  std::string name;
  unsigned channels = 1;
  bool checksums = false;
  bool prefault = true;
  bool wait_for_prefault = false;  // the destination waits as long as it likes before the source comes
};

double migrate_once(Idle& from, const Case& which) {
  Idle to(from.bytes().size());
  auto listener = migrate::Listener::bind("tcp:127.0.0.1:0");
  if (!listener) die(listener.error().message);
  Result<migrate::DestinationReport> in;
  std::jthread destination([&] { in = listener->migrate_in(to, {.prefault = which.prefault}); });
  while (which.wait_for_prefault && to.allocated() < to.bytes().size()) std::this_thread::yield();
  const auto begin = Clock::now();
  auto out =
      migrate::migrate_out(from, listener->address(), {.channels = which.channels, .page_checksums = which.checksums});
  const double took = seconds_since(begin);
  destination.join();
  if (!out) die(out.error().message);
  if (!in) die(in.error().message);
  if (std::memcmp(from.bytes().data(), to.bytes().data(), from.bytes().size()) != 0) die("the memory differs");
  return took;
}

void measure(Idle& from, std::uint64_t data, const Case& which, int runs) {
  const bench::Pair seconds =
      bench::alternate(runs, [&] { return migrate_once(from, which); }, [&] { return bare_stream(from, data); });
  const double mib = static_cast<double>(data) / static_cast<double>(kMiB);
  bench::report(which.name, {mib / seconds.value, mib / seconds.floor}, "MiB/s");
  bench::report(which.name + "_time", seconds, "s");
}

}  // namespace

int main(int argc, char** argv) {
  const int runs = argc > 1 ? std::atoi(argv[1]) : bench::usually(5, 1);
  const std::uint64_t mib = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : bench::usually<std::uint64_t>(4096, 16);
  const std::uint64_t data = mib * kMiB * 245 / 400 / 4096 * 4096;  // 2.45 GiB of 4

  Idle from(mib * kMiB);
  fill(from, data);
  const std::vector<Case> cases{
      {.name = "migrate_memory"},
      {.name = "migrate_memory_waiting_destination", .wait_for_prefault = true},
      {.name = "migrate_memory_without_prefault", .prefault = false},
      {.name = "migrate_memory_page_checksums", .checksums = true, .wait_for_prefault = true},
      {.name = "migrate_memory_two_channels", .channels = 2, .wait_for_prefault = true},
      {.name = "migrate_memory_four_channels", .channels = 4, .wait_for_prefault = true},
  };
  for (const Case& which : cases) measure(from, data, which, runs);
  return 0;
}
