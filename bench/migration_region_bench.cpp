// Saving a gigabyte of device memory by the retired migration region, through its mapped part, against the same state
// by v2 in messages. Client on one core, server on the other.
#include <filesystem>
#include <memory>

#include <gangway/device_handle.h>
#include <gangway/migration_region.h>
#include <gangway/server.h>

#include "measure.h"
#include "memory_device.h"
#include "vfio_user/client.h"

using namespace gangway;
using namespace gangway::bench;

namespace {

const std::size_t kSize = usually(1UL << 30, 4UL << 20);
const int kRuns = usually(7, 1);

struct Served {
  Served()
      : socket(std::filesystem::temp_directory_path() / ("migration-region-" + std::to_string(getpid()))),
        endpoint(must(Endpoint::create(std::make_unique<MemoryDevice>(kSize),
                                       {.revisions = {.v2 = true, .v1 = true, .region_v2 = true}}))),
        server(must(Server::listen(socket, *endpoint))) {
    run_on({1});
    must(server->start());
    run_on({0});
  }
  // A revision is chosen anew by each connection (V1-ONE).
  [[nodiscard]] std::unique_ptr<DeviceHandle> open() const {
    return must(vfio_user::Client::connect(socket, {.shared_data = false}));
  }
  std::filesystem::path socket;
  std::unique_ptr<Endpoint> endpoint;
  std::unique_ptr<Server> server;
};

double rate(std::size_t bytes, double seconds) { return static_cast<double>(bytes) / seconds / (1 << 20); }

double save_by_v2(const Served& served) {
  const auto device = served.open();
  must(device->set_state(DeviceState::StopCopy));
  std::vector<std::byte> buffer(1 << 20);
  std::size_t total = 0;
  const auto began = Clock::now();
  for (StreamRead got; got.end != StreamEnd::Final; total += got.size) got = must(device->read_data(buffer));
  return rate(total, seconds_since(began));
}

double save_by_region(const Served& served, Revision revision, bool map) {
  const auto device = served.open();
  auto region = must(MigrationRegionClient::find(*device, revision, {.map = map, .access_size = 1 << 20})).value();
  must(region.set_state(DeviceState::StopCopy));
  std::size_t total = 0;
  const auto began = Clock::now();
  for (;;) {
    const auto chunk = must(region.next_chunk());
    if (chunk.empty()) break;
    total += chunk.size();
  }
  return rate(total, seconds_since(began));
}

}  // namespace

int main() {
  const Served served;
  const auto floor = [&] { return save_by_v2(served); };
  const auto compare = [&](const char* name, Revision revision, bool map) {
    report(name, alternate(kRuns, [&] { return save_by_region(served, revision, map); }, floor), "MiB/s");
  };
  compare("v1_save_mapped", Revision::V1, true);
  compare("v1_save_by_accesses", Revision::V1, false);
  compare("region_v2_save_mapped", Revision::RegionV2, true);
}
