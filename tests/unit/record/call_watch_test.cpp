// What a traced thread's calls are taken for. Here this process is the one that is watched: it has files in the place
// of the kernel's, and says itself what the kernel answered.
#include "record/call_watch.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <stdexcept>

#include <gtest/gtest.h>

#include "unit/record/kernel_calls.h"

namespace gangway::record {
namespace {

namespace wire = vfio_user;
using test::body;
using Role = CallRecord::Role;

class Watched : public testing::Test {
 protected:
  Watched() : folder_(make_folder()), objects_(folder_ / "vfio") {
    std::filesystem::create_directories(folder_ / "vfio/devices");
    for (const char* name : {"vfio", "12", "13", "iommu", "devices/vfio0"})
      std::ofstream(folder_ / "vfio" / name) << name;
    auto writer = TraceWriter::create(folder_ / "trace", {.subject = Subject::Kernel});
    if (!writer) throw std::runtime_error(writer.error().message);
    writer_.emplace(*std::move(writer));
    watch_.emplace(*writer_, objects_, CallWatch::Clock::now(), KeepPayload::No);
  }
  ~Watched() override { std::filesystem::remove_all(folder_); }

  static std::filesystem::path make_folder() {
    std::string name = (std::filesystem::temp_directory_path() / "watch-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("no folder");
    return name;
  }

  // A call that has been made, with what it came to.
  void call(long number, std::array<std::uint64_t, 6> arguments, std::int64_t result) {
    auto under_way = watch_->before(::getpid(), ::gettid(), {static_cast<std::uint64_t>(number), arguments});
    ASSERT_TRUE(under_way) << "it concerns nobody";
    watch_->after(*std::move(under_way), result);
  }
  int open(const char* name) {
    files_.emplace_back(::open((folder_ / "vfio" / name).c_str(), O_RDWR | O_CLOEXEC));
    const int descriptor = files_.back().get();
    call(SYS_openat, {0, 0, 0, 0, 0, 0}, descriptor);
    return descriptor;
  }
  // Of something that the kernel has no path for.
  int made() { return files_.emplace_back(::memfd_create("made", MFD_CLOEXEC)).get(); }
  void ioctl(int descriptor, std::uint32_t request, std::vector<std::byte> argument, std::int64_t result = 0) {
    call(SYS_ioctl, {number(descriptor), request, reinterpret_cast<std::uint64_t>(argument.data())}, result);
  }
  void set_state(int device, DeviceState state, int data) {
    ioctl(device, 0x3b75,
          body(wire::FeatureHeader{16, 2 | wire::kFeatureSet},
               wire::FeatureDeviceState{.state = static_cast<std::uint32_t>(state), .data_fd = data}));
  }
  void read(int descriptor, std::int64_t result) {
    std::array<std::byte, 64> room{};
    call(SYS_read, {number(descriptor), reinterpret_cast<std::uint64_t>(room.data()), room.size()}, result);
  }
  static std::uint64_t number(int descriptor) { return static_cast<std::uint64_t>(descriptor); }

  // What is written down by now: role, object and parent of each.
  struct Seen {
    Role role;
    std::uint32_t object;
    std::uint32_t parent;
    friend bool operator==(const Seen&, const Seen&) = default;
    friend void PrintTo(const Seen& seen, std::ostream* out) {
      *out << "role " << static_cast<int>(seen.role) << " object " << seen.object << " of " << seen.parent;
    }
  };
  std::vector<Seen> seen() {
    (void)writer_->close();
    std::vector<Seen> all;
    auto reader = TraceReader::open(folder_ / "trace");
    for (auto record = reader->next(); record && *record; record = reader->next()) {
      const auto& call = std::get<CallRecord>(**record);
      all.push_back({call.role, call.object, call.parent});
    }
    return all;
  }

  std::filesystem::path folder_;
  std::vector<Fd> files_;
  VfioObjects objects_;
  std::optional<TraceWriter> writer_;
  std::optional<CallWatch> watch_;
};

TEST_F(Watched, migration_data_belongs_to_the_device_whose_set_gave_it) {
  const int container = open("vfio");
  const int group = open("12");
  ioctl(group, 0x3b68, body(container));
  const int device = made();
  char name[] = "0000:00:0a.0";
  call(SYS_ioctl, {number(group), 0x3b6a, reinterpret_cast<std::uint64_t>(name)}, device);
  const int data = made();
  set_state(device, DeviceState::StopCopy, data);
  read(data, 10);
  set_state(device, DeviceState::Stop, -1);
  watch_->gone(::getpid(), ::gettid(), "nothing was");
  const std::vector<Seen> expected{{Role::Container, 1, 0}, {Role::Group, 2, 0},  {Role::Group, 2, 1},
                                   {Role::Group, 2, 1},     {Role::Device, 3, 2}, {Role::MigrationData, 4, 3},
                                   {Role::Device, 3, 2}};
  EXPECT_EQ(seen(), expected);
}

TEST_F(Watched, a_device_that_is_bound_belongs_to_the_iommufd) {
  const int iommufd = open("iommu");
  const int device = open("devices/vfio0");
  ioctl(device, 0x3b76, body(std::uint32_t{16}, std::uint32_t{0}, iommufd, std::uint32_t{0}), -EBUSY);
  ioctl(device, 0x3b76, body(std::uint32_t{16}, std::uint32_t{0}, iommufd, std::uint32_t{0}));
  ioctl(device, 0x3b6f, {});
  const int data = made();
  set_state(device, DeviceState::Resuming, data);
  call(SYS_close, {number(data)}, 0);
  const std::vector<Seen> expected{{Role::Iommufd, 1, 0},      {Role::Device, 2, 0}, {Role::Device, 2, 0},
                                   {Role::Device, 2, 1},       {Role::Device, 2, 1}, {Role::Device, 2, 1},
                                   {Role::MigrationData, 3, 2}};
  EXPECT_EQ(seen(), expected);
}

TEST_F(Watched, what_a_call_that_failed_would_have_joined_stays_apart) {
  const int container = open("vfio");
  const int group = open("13");
  ioctl(group, 0x3b68, body(container), -EINVAL);
  ioctl(group, 0x3b68, body(std::int32_t{-1}));
  const std::vector<Seen> expected{
      {Role::Container, 1, 0}, {Role::Group, 2, 0}, {Role::Group, 2, 0}, {Role::Group, 2, 0}};
  EXPECT_EQ(seen(), expected);
}

}  // namespace
}  // namespace gangway::record
