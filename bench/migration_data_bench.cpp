// Migration data of a gigabyte of device memory, in messages and by shared memory, against a bare UNIX stream written
// in pieces of the same size. Client and receiver on one core, server and sender on the other.
#include <sys/socket.h>

#include <sys/mman.h>

#include <array>
#include <filesystem>
#include <memory>
#include <span>
#include <thread>

#include <gangway/device_handle.h>
#include <gangway/server.h>

#include "measure.h"
#include "memory_device.h"
#include "vfio_user/client.h"

using namespace gangway;
using namespace gangway::bench;

namespace {

const std::size_t kSize = usually(1UL << 30, 4UL << 20);
const int kRuns = usually(5, 1);

struct Served {
  Served(std::size_t size, const std::string& name)
      : socket(std::filesystem::temp_directory_path() / (name + std::to_string(getpid()))),
        endpoint(must(Endpoint::create(std::make_unique<MemoryDevice>(size)))),
        server(must(Server::listen(socket, *endpoint))) {
    run_on({1});
    must(server->start());
    run_on({0});
  }
  [[nodiscard]] std::unique_ptr<DeviceHandle> open(bool shared_data) const {
    return must(vfio_user::Client::connect(socket, {.shared_data = shared_data}));
  }
  std::filesystem::path socket;
  std::unique_ptr<Endpoint> endpoint;
  std::unique_ptr<Server> server;
};

double rate(std::size_t bytes, double seconds) { return static_cast<double>(bytes) / seconds / (1 << 20); }

// MiB/s. The receiver takes each piece into the same buffer, as a client that passes it on does.
double bare_stream(std::span<const std::byte> memory, std::size_t piece) {
  int fds[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0) std::exit(1);
  run_on({1});
  const auto began = Clock::now();
  std::thread sender([memory, piece, fd = Fd(fds[0])] {
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

using Read = Result<StreamRead> (DeviceHandle::*)(std::span<std::byte>);
using Write = Result<void> (DeviceHandle::*)(std::span<const std::byte>);

double read_all(DeviceHandle& device, Read read, std::size_t piece) {
  must(device.set_state(DeviceState::StopCopy));
  std::vector<std::byte> buffer(piece);
  std::size_t total = 0;
  const auto began = Clock::now();
  for (StreamRead got; got.end != StreamEnd::Final; total += got.size) got = must((device.*read)(buffer));
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

double write_all(DeviceHandle& device, Write write, std::span<const std::byte> stream, std::size_t piece) {
  must(device.set_state(DeviceState::Resuming));
  const auto began = Clock::now();
  for (std::size_t at = 0; at < stream.size(); at += piece) {
    must((device.*write)(stream.subspan(at, std::min(piece, stream.size() - at))));
  }
  must(device.settle());
  const double took = seconds_since(began);
  must(device.set_state(DeviceState::Running));
  return rate(stream.size(), took);
}

// On huge pages where the machine has them, as the device's memory is.
class Stream {
 public:
  explicit Stream(std::vector<std::byte> bytes) : size_(bytes.size()), capacity_((size_ / kHuge + 1) * kHuge) {
    at_ =
        static_cast<std::byte*>(::mmap(nullptr, capacity_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    ::madvise(at_, capacity_, MADV_HUGEPAGE);
    std::ranges::copy(bytes, at_);
  }
  ~Stream() { ::munmap(at_, capacity_); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  [[nodiscard]] std::span<const std::byte> bytes() const { return {at_, size_}; }

 private:
  static constexpr std::size_t kHuge = 2U << 20;
  std::size_t size_;
  std::size_t capacity_;
  std::byte* at_;
};

// How a migration reads and writes, with more under way than one call asks for, and each call by itself.
struct Manner {
  const char* name;
  Read read;
  Write write;
};
constexpr std::array kManners{
    Manner{"", &DeviceHandle::read_ahead, &DeviceHandle::write_behind},
    Manner{"_by_itself", &DeviceHandle::read_data, &DeviceHandle::write_data},
};

void compare(DeviceHandle& device, const Stream& stream, std::size_t piece, const std::string& how) {
  const auto floor = [&] { return bare_stream(stream.bytes(), piece); };
  for (const Manner& manner : kManners) {
    const std::string name = how + "_" + std::to_string(piece >> 10) + "KiB" + manner.name;
    report("migration_data_read_" + name,
           alternate(kRuns, [&] { return read_all(device, manner.read, piece); }, floor), "MiB/s");
    report("migration_data_write_" + name,
           alternate(kRuns, [&] { return write_all(device, manner.write, stream.bytes(), piece); }, floor), "MiB/s");
  }
}

}  // namespace

int main() {
  const Served served(kSize, "migration-data-");
  for (const bool shared : {false, true}) {
    const auto device = served.open(shared);
    const Stream stream(saved_stream(*device));
    for (const std::size_t piece : {std::size_t{1} << 20, std::size_t{64} << 10}) {
      compare(*device, stream, piece, shared ? "shared" : "messages");
    }
  }
}
