// Migration data of a gigabyte of device memory against a bare UNIX stream written in pieces of the same size.
#include <sys/socket.h>

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

constexpr std::size_t kSize = 1UL << 30;
constexpr int kRuns = 3;

struct Served {
  Served(std::size_t size, const std::string& name)
      : socket(std::filesystem::temp_directory_path() / (name + std::to_string(getpid()))),
        endpoint(must(Endpoint::create(std::make_unique<MemoryDevice>(size)))),
        server(must(Server::listen(socket, *endpoint))) {
    run_on({1});
    must(server->start());
    run_on({0});
    device = must(open_device("vfio-user:" + socket.string()));
  }
  std::filesystem::path socket;
  std::unique_ptr<Endpoint> endpoint;
  std::unique_ptr<Server> server;
  std::unique_ptr<DeviceHandle> device;
};

double rate(std::size_t bytes, double seconds) { return static_cast<double>(bytes) / seconds / (1 << 20); }

// MiB/s. The receiver takes each piece into the same buffer, as a client that passes it on does.
double bare_stream(const std::vector<std::byte>& memory, std::size_t piece) {
  int fds[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0) std::exit(1);
  run_on({1});
  const auto began = Clock::now();
  std::thread sender([&memory, piece, fd = Fd(fds[0])] {
    for (std::size_t at = 0; at < memory.size();) {
      const ssize_t n = send(fd.get(), memory.data() + at, std::min(piece, memory.size() - at), 0);
      if (n <= 0) std::exit(1);
      at += static_cast<std::size_t>(n);
    }
  });
  run_on({0});
  const Fd receiver(fds[1]);
  std::vector<std::byte> buffer(piece);
  for (std::size_t got = 0; got < memory.size();) {
    const ssize_t n = recv(receiver.get(), buffer.data(), buffer.size(), 0);
    if (n <= 0) std::exit(1);
    got += static_cast<std::size_t>(n);
  }
  const double took = seconds_since(began);
  sender.join();
  return rate(memory.size(), took);
}

double read_all(DeviceHandle& device, std::size_t piece) {
  must(device.set_state(DeviceState::StopCopy));
  std::vector<std::byte> buffer(piece);
  std::size_t total = 0;
  const auto began = Clock::now();
  for (StreamRead got; got.end != StreamEnd::Final; total += got.size) got = must(device.read_data(buffer));
  const double took = seconds_since(began);
  must(device.set_state(DeviceState::Running));
  return rate(total, took);
}

std::vector<std::byte> saved_stream(DeviceHandle& device) {
  must(device.set_state(DeviceState::StopCopy));
  std::vector<std::byte> stream(must(device.data_size()) + (1 << 20));
  std::size_t total = 0;
  for (StreamRead got; got.end != StreamEnd::Final; total += got.size) {
    if (stream.size() - total < (1 << 20)) stream.resize(stream.size() * 2);
    got = must(device.read_data(std::span(stream).subspan(total, 1 << 20)));
  }
  must(device.set_state(DeviceState::Running));
  stream.resize(total);
  return stream;
}

double write_all(DeviceHandle& device, const std::vector<std::byte>& stream, std::size_t piece) {
  must(device.set_state(DeviceState::Resuming));
  const auto began = Clock::now();
  for (std::size_t at = 0; at < stream.size(); at += piece) {
    must(device.write_data(std::span(stream).subspan(at, std::min(piece, stream.size() - at))));
  }
  const double took = seconds_since(began);
  must(device.set_state(DeviceState::Running));
  return rate(stream.size(), took);
}

}  // namespace

int main() {
  Served served(kSize, "migration-data-");
  const std::vector<std::byte> stream = saved_stream(*served.device);
  for (const std::size_t piece : {std::size_t{1} << 20, std::size_t{64} << 10}) {
    const std::string size = std::to_string(piece >> 10) + "KiB";
    const auto floor = [&] { return bare_stream(stream, piece); };
    report("migration_data_read_" + size,
           alternate(kRuns, [&] { return read_all(*served.device, piece); }, floor), "MiB/s");
    report("migration_data_write_" + size,
           alternate(kRuns, [&] { return write_all(*served.device, stream, piece); }, floor), "MiB/s");
  }
}
