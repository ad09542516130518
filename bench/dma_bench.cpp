// The DMA log and the DMA map: marks, reports, maps.
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <filesystem>
#include <memory>
#include <random>
#include <thread>

#include <gangway/device_handle.h>
#include <gangway/dma_log.h>
#include <gangway/server.h>

#include "measure.h"
#include "memory_device.h"

using namespace gangway;
using namespace gangway::bench;

namespace {

constexpr std::uint64_t kGiB = 1UL << 30;
constexpr std::uint64_t kPage = 4096;
const int kRuns = usually(5, 1);
const std::size_t kMarks = usually(4'000'000, 1'000);

std::vector<std::uint64_t> random_pages(std::uint64_t space, std::size_t count, std::uint64_t seed = 1) {
  std::mt19937_64 random(seed);
  std::vector<std::uint64_t> pages(count);
  for (std::uint64_t& page : pages) page = random() % (space / kPage) * kPage;
  return pages;
}

// Of the pages that are marked some are marked already, as in a log between reports: one in three when it begins.
constexpr std::uint64_t kOthers = 2;

// ns a mark.
double mark(std::uint64_t space) {
  DmaLog log;
  const IovaRange range{Iova{0}, space};
  must(log.start(std::span(&range, 1), kPage));
  for (const std::uint64_t at : random_pages(space, space / kPage / 2)) log.mark(Iova{at}, kPage);
  const std::vector<std::uint64_t> pages = random_pages(space, kMarks, kOthers);
  const auto began = Clock::now();
  for (const std::uint64_t at : pages) log.mark(Iova{at}, kPage);
  return seconds_since(began) * 1e9 / static_cast<double>(pages.size());
}

// ns a bit: a plain load, test and store on a bitmap of the same size, nothing atomic.
double plain_bitmap(std::uint64_t space) {
  std::vector<std::uint64_t> bitmap(space / kPage / 64);
  for (const std::uint64_t at : random_pages(space, space / kPage / 2))
    bitmap[at / kPage / 64] |= 1UL << (at / kPage % 64);
  const std::vector<std::uint64_t> pages = random_pages(space, kMarks, kOthers);
  const auto began = Clock::now();
  for (const std::uint64_t at : pages) {
    std::uint64_t& word = bitmap[at / kPage / 64];
    const std::uint64_t bit = 1UL << (at / kPage % 64);
    if ((word & bit) == 0) word |= bit;
  }
  const double took = seconds_since(began) * 1e9 / static_cast<double>(pages.size());
  volatile std::uint64_t kept = bitmap[pages.size() % bitmap.size()];
  static_cast<void>(kept);
  return took;
}

// ms to send a bitmap's bytes over a UNIX stream and receive them.
double send_bitmap(std::size_t bytes) {
  int fds[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0) std::exit(1);
  std::vector<std::byte> bitmap(bytes);
  std::vector<std::byte> received(bytes);
  const auto began = Clock::now();
  std::thread sender([&bitmap, fd = Fd(fds[0])] {
    for (std::size_t at = 0; at < bitmap.size();) {
      const ssize_t n = send(fd.get(), bitmap.data() + at, bitmap.size() - at, 0);
      if (n <= 0) std::exit(1);
      at += static_cast<std::size_t>(n);
    }
  });
  const Fd receiver(fds[1]);
  for (std::size_t got = 0; got < bytes;) {
    const ssize_t n = recv(receiver.get(), received.data() + got, bytes - got, 0);
    if (n <= 0) std::exit(1);
    got += static_cast<std::size_t>(n);
  }
  sender.join();
  return seconds_since(began) * 1e3;
}

struct Served {
  Served()
      : socket(std::filesystem::temp_directory_path() / ("dma-" + std::to_string(getpid()))),
        endpoint(must(Endpoint::create(std::make_unique<MemoryDevice>(0)))),
        server(must(Server::listen(socket, *endpoint))) {
    must(server->start());
    device = must(open_device("vfio-user:" + socket.string()));
  }
  std::filesystem::path socket;
  std::unique_ptr<Endpoint> endpoint;
  std::unique_ptr<Server> server;
  std::unique_ptr<DeviceHandle> device;
};

void reports(std::uint64_t space, const std::string& name, std::initializer_list<int> percents) {
  Served served;
  const IovaRange range{Iova{0}, space};
  must(served.device->dma_logging_start(std::span(&range, 1), kPage));
  std::vector<std::uint64_t> bitmap(space / kPage / 64);
  for (const int percent : percents) {
    const auto one = [&] {
      if (percent == 100) served.endpoint->log().mark(Iova{0}, space);
      if (percent == 1) {
        for (const std::uint64_t at : random_pages(space, space / kPage / 100))
          served.endpoint->log().mark(Iova{at}, kPage);
      }
      std::ranges::fill(bitmap, 0);
      const auto began = Clock::now();
      must(served.device->dma_logging_report(range, kPage, bitmap));
      return seconds_since(began) * 1e3;
    };
    report(name + "_" + std::to_string(percent) + "_percent_dirty",
           alternate(kRuns, one, [&] { return send_bitmap(bitmap.size() * 8); }), "ms");
  }
}

// us of a map and its unmap through the socket while `existing` maps exist.
double map_and_unmap(DeviceHandle& device, int file, std::size_t existing) {
  for (std::size_t i = 0; i < existing; ++i) {
    must(device.dma_map({.range = {Iova{kGiB + i * 2 * kPage}, kPage}, .file = file, .offset = 0}));
  }
  std::vector<double> took;
  for (int i = 0; i < usually(500, 5); ++i) {
    const IovaRange range{Iova{static_cast<std::uint64_t>(i) * kPage}, kPage};
    const auto began = Clock::now();
    must(device.dma_map({.range = range, .file = file, .offset = 0}));
    must(device.dma_unmap(range));
    took.push_back(seconds_since(began) * 1e6);
  }
  for (std::size_t i = 0; i < existing; ++i) must(device.dma_unmap({Iova{kGiB + i * 2 * kPage}, kPage}));
  return median(std::move(took));
}

}  // namespace

int main() {
  for (const std::uint64_t gib : {16, 256}) {
    const std::uint64_t size = usually(gib, std::uint64_t{1}) * kGiB;
    report("dma_log_mark_" + std::to_string(gib) + "GiB",
           alternate(kRuns, [&] { return mark(size); }, [&] { return plain_bitmap(size); }), "ns");
  }
  reports(usually(256 * kGiB, kGiB), "dma_log_report_256GiB", {0, 1, 100});
  reports(usually(8192 * kGiB, 2 * kGiB), "dma_log_report_8TiB", {0, 1});
  const Fd file(memfd_create("bench", MFD_CLOEXEC));
  if (ftruncate(file.get(), kPage) != 0) return 1;
  Served served;
  report("dma_map_unmap_at_59000_maps",
         {map_and_unmap(*served.device, file.get(), usually<std::size_t>(59'000, 20)),
          map_and_unmap(*served.device, file.get(), 10)},
         "us");
}
