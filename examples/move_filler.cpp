// A client: lets one filler device work, moves its state to another, and lets that one go on. Both are served here,
// over their sockets, so that the example runs by itself; in life they are two processes, or two hosts.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include <gangway/device_handle.h>
#include <gangway/server.h>

#include "filler.h"

using namespace gangway;

namespace {

// Examples stop at the first error; the library's functions never do.
template <class T>
T must(Result<T> result) {
  if (!result) {
    std::fprintf(stderr, "%s\n", result.error().message.c_str());
    std::exit(1);
  }
  if constexpr (!std::is_void_v<T>) return std::move(*result);
}

struct ServedFiller {
  explicit ServedFiller(const std::filesystem::path& socket)
      : endpoint(must(Endpoint::create(std::make_unique<Filler>()))), server(must(Server::listen(socket, *endpoint))) {
    must(server->start());
    device = must(open_device("vfio-user:" + socket.string()));
  }
  void set(Filler::Register index, std::uint64_t value) {
    must(device->write(to_number(RegionIndex::Bar0), index * 8, std::as_bytes(std::span(&value, 1))));
  }
  std::uint64_t get(Filler::Register index) {
    std::uint64_t value = 0;
    must(device->read(to_number(RegionIndex::Bar0), index * 8, std::as_writable_bytes(std::span(&value, 1))));
    return value;
  }
  std::unique_ptr<Endpoint> endpoint;
  std::unique_ptr<Server> server;
  std::unique_ptr<DeviceHandle> device;
};

// What a VMM does at its switchover: read in STOP_COPY until the end, write in RESUMING, run.
void move_state(DeviceHandle& source, DeviceHandle& destination) {
  must(source.set_state(DeviceState::StopCopy));
  must(destination.set_state(DeviceState::Resuming));
  std::vector<std::byte> buffer(65536);
  for (StreamRead got; got.end != StreamEnd::Final;) {
    got = must(source.read_data(buffer));
    must(destination.write_data(std::span(buffer).first(got.size)));
  }
  must(destination.set_state(DeviceState::Running));
  must(source.set_state(DeviceState::Stop));
}

}  // namespace

int main() {
  char directory[] = "/tmp/filler-XXXXXX";
  if (mkdtemp(directory) == nullptr) return std::perror("mkdtemp"), 1;
  const std::filesystem::path at = directory;

  // The guest's memory: one page at IOVA 0x100000, shared with both devices by descriptor.
  const Fd file(memfd_create("guest", MFD_CLOEXEC));
  if (ftruncate(file.get(), 4096) != 0) return std::perror("ftruncate"), 1;
  auto* page = static_cast<std::byte*>(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0));
  const DeviceHandle::DmaMap memory{.range = {Iova{0x100000}, 4096}, .memory = {page, 4096}, .file = file.get()};

  {
    ServedFiller first(at / "first.sock");
    ServedFiller second(at / "second.sock");
    must(first.device->dma_map(memory));
    must(second.device->dma_map(memory));

    first.set(Filler::kAddress, 0x100000);
    first.set(Filler::kLength, 100);
    first.set(Filler::kByte, 0xab);
    first.set(Filler::kGo, 1);

    move_state(*first.device, *second.device);

    second.set(Filler::kByte, 0xcd);  // address and length came with the state
    second.set(Filler::kGo, 1);
    const auto filled = std::count(page, page + 4096, std::byte{0xcd});
    std::printf("fills %llu, bytes filled by the second device %td\n",
                static_cast<unsigned long long>(second.get(Filler::kFills)), filled);
  }
  std::filesystem::remove_all(at);
}
