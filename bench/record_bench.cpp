// A device behind a recorder against the same device without: reading 4 bytes of a region, and its migration data.
#include <array>
#include <filesystem>
#include <memory>
#include <thread>

#include <gangway/device_handle.h>
#include <gangway/server.h>

#include "measure.h"
#include "memory_device.h"
#include "record/recorder.h"
#include "vfio_user/client.h"

using namespace gangway;
using namespace gangway::bench;

namespace {

const int kRounds = usually(20'000, 20);
const int kRuns = usually(7, 1);
const std::size_t kStateSize = usually(512UL << 20, 4UL << 20);
constexpr std::size_t kPiece = 1UL << 20;

struct Placement {
  std::initializer_list<std::size_t> client;
  std::initializer_list<std::size_t> recorder;
  std::initializer_list<std::size_t> server;
};

// A device, and if wanted a recorder before it.
class Site {
 public:
  enum class Recorded : bool { No, Yes };
  Site(std::size_t state, std::chrono::microseconds spin, const Placement& placement, Recorded recorded)
      : name_((std::filesystem::temp_directory_path() / ("record-" + std::to_string(getpid()))).string()),
        endpoint_(must(Endpoint::create(std::make_unique<MemoryDevice>(state)))),
        server_(must(Server::listen(name_ + ".sock", *endpoint_, {.spin = spin}))) {
    run_on(placement.server);
    must(server_->start());
    if (recorded == Recorded::Yes) {
      std::filesystem::remove(name_ + ".trace");
      recorder_ = must(record::Recorder::create({.listen = name_ + ".rec",
                                                 .server = name_ + ".sock",
                                                 .out = name_ + ".trace",
                                                 .payload = record::KeepPayload::No,
                                                 .spin = spin}));
      run_on(placement.recorder);
      thread_ = std::thread([this] { must(recorder_->run()); });
    }
    run_on(placement.client);
  }
  ~Site() {
    if (recorder_) {
      recorder_->stop();
      thread_.join();
      std::filesystem::remove(name_ + ".trace");
    }
  }
  [[nodiscard]] std::filesystem::path socket() const { return name_ + (recorder_ ? ".rec" : ".sock"); }

 private:
  std::string name_;
  std::unique_ptr<Endpoint> endpoint_;
  std::unique_ptr<Server> server_;
  std::unique_ptr<record::Recorder> recorder_;
  std::thread thread_;
};

// p50 in microseconds.
double region_read(std::chrono::microseconds spin, const Placement& placement, Site::Recorded recorded) {
  const Site site(0, spin, placement, recorded);
  const auto device = must(open_device("vfio-user:" + site.socket().string(), {.spin = spin}));
  std::array<std::byte, 4> bytes{};
  std::vector<double> took;
  took.reserve(static_cast<std::size_t>(kRounds));
  for (int i = 0; i < kRounds; ++i) {
    const auto began = Clock::now();
    must(device->read(0, 16, bytes));
    took.push_back(seconds_since(began) * 1e6);
  }
  return median(std::move(took));
}

// MiB/s of a whole state, read as a migration does.
double migration_data(bool shared, Site::Recorded recorded) {
  const Site site(kStateSize, std::chrono::microseconds(50), {{0, 1}, {0, 1}, {0, 1}}, recorded);
  const auto device = must(vfio_user::Client::connect(site.socket(), {.shared_data = shared}));
  must(device->set_state(DeviceState::StopCopy));
  std::vector<std::byte> buffer(kPiece);
  std::size_t total = 0;
  const auto began = Clock::now();
  for (StreamRead got; got.end != StreamEnd::Final; total += got.size) got = must(device->read_ahead(buffer));
  return static_cast<double>(total) / seconds_since(began) / (1 << 20);
}

void compare(const std::string& name, std::chrono::microseconds spin, const Placement& placement) {
  report(name,
         alternate(
             kRuns, [&] { return region_read(spin, placement, Site::Recorded::Yes); },
             [&] { return region_read(spin, placement, Site::Recorded::No); }),
         "us");
}

void compare_data(const std::string& name, bool shared) {
  report(name,
         alternate(
             kRuns, [&] { return migration_data(shared, Site::Recorded::Yes); },
             [&] { return migration_data(shared, Site::Recorded::No); }),
         "MiB/s");
}

}  // namespace

int main() {
  using std::chrono::microseconds;
  compare("record_access_blocking_one_core", microseconds(0), {{0}, {0}, {0}});
  compare("record_access_blocking_any_core", microseconds(0), {{0, 1}, {0, 1}, {0, 1}});
  compare("record_access_default_spin_any_core", microseconds(50), {{0, 1}, {0, 1}, {0, 1}});
  compare_data("record_migration_data_messages", false);
  compare_data("record_migration_data_shared", true);
}
