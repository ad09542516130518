// Calls of a program on devices of the kernel, as `gangway record --kernel` writes them down, and files of them.
#pragma once

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include <gangway/contract.h>
#include <gangway/device_handle.h>

#include "base/bytes.h"
#include "record/act_reader.h"

namespace gangway::test {

template <class... T>
std::vector<std::byte> body(const T&... parts) {
  std::vector<std::byte> all;
  const auto add = [&](const auto& part) { std::ranges::copy(bytes_of(part), std::back_inserter(all)); };
  (add(parts), ...);
  return all;
}

class KernelCalls {
 public:
  using Call = record::CallRecord::Call;
  using Role = record::CallRecord::Role;

  // An opened file, and what it belongs to.
  struct File {
    Role role{};
    std::uint32_t object = 0;
    int descriptor = -1;
    std::uint32_t parent = 0;
  };

  KernelCalls& did(const File& file, Call call, record::CallRecord record = {}) {
    record.process = record.thread = 7;
    record.role = file.role;
    record.call = call;
    record.object = file.object;
    record.descriptor = file.descriptor;
    record.parent = file.parent;
    records_.emplace_back(std::move(record));
    return *this;
  }
  KernelCalls& ioctl(const File& file, std::uint32_t request, std::vector<std::byte> argument = {},
                     std::vector<std::byte> answer = {}) {
    return did(file, Call::Ioctl, {.request = request, .argument = std::move(argument), .answer = std::move(answer)});
  }
  // `data`: the descriptor that the kernel answers.
  KernelCalls& set(const File& device, DeviceState state, int data = -1) {
    namespace wire = vfio_user;
    const wire::FeatureHeader head{16, 2 | wire::kFeatureSet};
    const auto number = static_cast<std::uint32_t>(state);
    return ioctl(device, 0x3b75, body(head, wire::FeatureDeviceState{.state = number, .data_fd = -1}),
                 body(head, wire::FeatureDeviceState{.state = number, .data_fd = data}));
  }
  KernelCalls& read(const File& data, std::uint64_t asked, std::uint64_t got, int error = 0) {
    return did(data, Call::Read,
               {.length = asked,
                .result = error != 0 ? -1 : static_cast<std::int64_t>(got),
                .error = error,
                .payload = {.size = got, .hash = got}});
  }
  KernelCalls& write(const File& data, std::uint64_t size) {
    return did(data, Call::Write,
               {.length = size, .result = static_cast<std::int64_t>(size), .payload = {.size = size, .hash = size}});
  }
  // By VFIO_IOMMU_MAP_DMA.
  KernelCalls& map(const File& container, std::uint64_t iova, std::uint64_t size) {
    return ioctl(container, 0x3b71,
                 body(std::uint32_t{32}, std::uint32_t{3}, std::uint64_t{0x7f0000000000}, iova, size));
  }

  [[nodiscard]] const std::vector<record::Record>& records() const { return records_; }

  // As a recording says it.
  [[nodiscard]] std::vector<record::Act> acts() const {
    std::string name = (std::filesystem::temp_directory_path() / "calls-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) std::abort();
    const std::filesystem::path folder = name;
    {
      auto writer = record::TraceWriter::create(folder / "trace", {.subject = record::Subject::Kernel});
      for (const record::Record& record : records_) writer->write(record);
    }
    auto reader = record::ActReader::open(folder / "trace");
    std::filesystem::remove_all(folder);
    auto acts = reader->rest();
    if (!acts) std::abort();
    return *std::move(acts);
  }

 private:
  std::vector<record::Record> records_;
};

// A program that opens a device by its group, saves it, loads it and goes away. Of the session of the save it keeps the
// descriptor until it has that of the load, as a program may.
inline KernelCalls kernel_migration() {
  using File = KernelCalls::File;
  using Role = KernelCalls::Role;
  using Call = KernelCalls::Call;
  const File container{Role::Container, 1, 5};
  const File alone{Role::Group, 2, 6};
  const File group{Role::Group, 2, 6, 1};
  const File device{Role::Device, 3, 8, 2};
  const File save{Role::MigrationData, 4, 9, 3};
  const File load{Role::MigrationData, 5, 10, 3};
  KernelCalls calls;
  calls.did(container, Call::Open, {.text = "/dev/vfio/vfio"}).did(alone, Call::Open, {.text = "/dev/vfio/12"});
  calls.ioctl(group, 0x3b68, body(std::int32_t{5})).map(container, 0, 0x100000);
  calls.did(group, Call::Ioctl, {.request = 0x3b6a, .result = 8, .text = "0000:00:0a.0"});
  calls.set(device, DeviceState::StopCopy, 9);
  // A read that is short is no end of a descriptor's.
  calls.read(save, 4096, 1000).read(save, 4096, 1000).read(save, 4096, 0).set(device, DeviceState::Stop);
  calls.set(device, DeviceState::Resuming, 10).did(save, Call::Close);
  calls.write(load, 2000).did(load, Call::Close).set(device, DeviceState::Running);
  return calls.did(device, Call::Close).did(group, Call::Close).did(container, Call::Close);
}

}  // namespace gangway::test
