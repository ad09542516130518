#include "integration/golden/golden_device.h"

#include <algorithm>
#include <fstream>
#include <utility>

#include "base/bytes.h"
#include "conformance/nvme_workload.h"
#include "guest/memory.h"
#include "guest/pci_setup.h"

namespace gangway::golden {
namespace {

constexpr std::uint32_t kBar0 = to_number(RegionIndex::Bar0);

template <class T>
struct Value {
  std::uint64_t offset;
  T value;
};

template <class T>
Result<void> write_values(DeviceHandle& device, std::initializer_list<Value<T>> values) {
  for (const auto& [offset, value] : values) {
    if (Result<void> written = device.write(kBar0, offset, bytes_of(value)); !written) return written;
  }
  return {};
}

Result<Surroundings> nothing(DeviceHandle&) { return nullptr; }

// Both ports with a line of their own, one with bytes that wait to be read.
Result<Surroundings> shape_serial(DeviceHandle& device) {
  if (Result<void> enabled = guest::enable_function(device); !enabled) return std::unexpected(enabled.error());
  constexpr std::uint8_t kDivisorAccess = 0x80;
  constexpr std::uint8_t kLoopback = 0x10;
  Result<void> written = write_values<std::uint8_t>(device, {{3, kDivisorAccess},
                                                             {0, 0x0c},
                                                             {1, 0x00},
                                                             {3, 0x1b},
                                                             {2, 0x07},
                                                             {4, kLoopback | 0x0b},
                                                             {1, 0x05},
                                                             {7, 0x5a},
                                                             {0, 'o'},
                                                             {0, 'l'},
                                                             {0, 'd'},
                                                             {11, 0x83},
                                                             {8, 0x01},
                                                             {9, 0x00},
                                                             {11, 0x03},
                                                             {15, 0xa5}});
  if (!written) return std::unexpected(written.error());
  return nullptr;
}

std::vector<Register> serial_registers() {
  std::vector<Register> all;
  for (const std::uint64_t offset : {1U, 3U, 4U, 7U, 9U, 11U, 12U, 15U}) all.push_back({kBar0, offset, 1});
  for (int i = 0; i < 3; ++i) all.push_back({kBar0, 0, 1});  // what port 0 received
  return all;
}

// Queues that were used.
Result<Surroundings> shape_nvme(DeviceHandle& device) {
  auto workload = std::make_shared<conformance::NvmeWorkload>();
  if (Result<void> up = workload->set_up(device); !up) return std::unexpected(up.error());
  for (unsigned round = 0; round < 3; ++round) {
    if (const auto read = workload->write_pages(device, round); !read) return std::unexpected(read.error());
  }
  return workload;
}

Result<Surroundings> surround_nvme(DeviceHandle& device) {
  auto memory = guest::GuestMemory::create({.size = 4 * guest::GuestMemory::kGranule});
  if (!memory) return std::unexpected(memory.error());
  std::shared_ptr<guest::GuestMemory> kept = *std::move(memory);
  if (Result<void> mapped = kept->map_into(device); !mapped) return std::unexpected(mapped.error());
  return kept;
}

Result<Surroundings> shape_filler(DeviceHandle& device) {
  Result<void> written = write_values<std::uint64_t>(device, {{0x00, 0x1234000}, {0x08, 0x180}, {0x10, 0x5a}});
  if (!written) return std::unexpected(written.error());
  return nullptr;
}

integration::ServedProcess::Command command_for(const Kind& kind, const std::filesystem::path& folder) {
  const std::string socket = folder / "socket";
  if (kind.name == "filler") return {FILLER_PROGRAM, {socket}};
  std::vector<std::string> words{"-v", "serve", std::string(kind.name), "--socket", socket};
  if (kind.name == "nvme") {
    const std::string disk = folder / "disk";
    std::ofstream(disk).put('\0');
    std::filesystem::resize_file(disk, 16U << 20);
    words.insert(words.end(), {"--disk", disk, "--serial", "golden"});
  }
  return {GANGWAY_PROGRAM, std::move(words)};
}

}  // namespace

const std::vector<Kind>& kinds() {
  static const std::vector<Kind> all{
      {"serial", shape_serial, nothing, serial_registers()},
      {"nvme",
       shape_nvme,
       surround_nvme,
       {{kBar0, 0x14, 4}, {kBar0, 0x1c, 4}, {kBar0, 0x24, 4}, {kBar0, 0x28, 8}, {kBar0, 0x30, 8}}},
      {"filler", shape_filler, nothing, {{kBar0, 0x00, 8}, {kBar0, 0x08, 8}, {kBar0, 0x10, 8}, {kBar0, 0x20, 8}}},
  };
  return all;
}

const Kind* find_kind(std::string_view name) {
  const auto found = std::ranges::find(kinds(), name, &Kind::name);
  return found == kinds().end() ? nullptr : &*found;
}

Result<Served> Served::start(const Kind& kind) {
  auto process = integration::ServedProcess::start(
      [&kind](const std::filesystem::path& folder) { return command_for(kind, folder); });
  if (!process) return std::unexpected(process.error());
  auto device = process->open();
  if (!device) return std::unexpected(device.error());
  return Served(*std::move(process), *std::move(device));
}

Result<Bytes> save(DeviceHandle& device) {
  if (Result<void> set = device.set_state(DeviceState::StopCopy); !set) return std::unexpected(set.error());
  Bytes stream;
  Bytes room(1U << 16);
  for (;;) {
    const Result<StreamRead> read = device.read_data(room);
    if (!read) return std::unexpected(read.error());
    stream.insert(stream.end(), room.begin(), room.begin() + static_cast<std::ptrdiff_t>(read->size));
    if (read->end != StreamEnd::More) break;
  }
  if (Result<void> set = device.set_state(DeviceState::Running); !set) return std::unexpected(set.error());
  return stream;
}

Result<void> load(DeviceHandle& device, const Bytes& stream) {
  if (Result<void> set = device.set_state(DeviceState::Resuming); !set) return set;
  if (Result<void> written = device.write_data(stream); !written) return written;
  return device.set_state(DeviceState::Running);
}

Result<std::vector<Bytes>> read_registers(DeviceHandle& device, const std::vector<Register>& registers) {
  std::vector<Bytes> values;
  for (const Register& one : registers) {
    Bytes& value = values.emplace_back(one.size);
    if (Result<void> read = device.read(one.region, one.offset, value); !read) return std::unexpected(read.error());
  }
  return values;
}

}  // namespace gangway::golden
