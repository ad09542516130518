#include "guest/machine.h"

#include <algorithm>
#include <thread>

#include <fmt/format.h>

#include "base/bytes.h"
#include "guest/nvme.h"
#include "guest/pci_setup.h"

namespace gangway::guest {
namespace {

// What of the machine is in no memory and no device.
struct CpuState {
  static constexpr std::uint64_t kMagic = 0x7374617465757063;
  std::uint64_t magic = kMagic;
  std::uint32_t version = 1;
  std::uint32_t cpus = 0;
  std::uint64_t pauses = 0;           // how often they stood still
  std::uint64_t config_checksum = 0;  // which program they run
};

}  // namespace

Result<std::unique_ptr<GuestMachine>> GuestMachine::create(const GuestMemory::Options& memory,
                                                           std::vector<Device> devices,
                                                           std::optional<TrackingMethod> tracking) {
  std::unique_ptr<GuestMachine> machine(new GuestMachine());
  auto ram = GuestMemory::create(memory);
  if (!ram) return std::unexpected(ram.error());
  machine->memory_ = std::move(*ram);
  auto tracker =
      tracking ? make_dirty_tracker(*tracking, *machine->memory_) : make_best_dirty_tracker(*machine->memory_);
  if (!tracker) return std::unexpected(tracker.error());
  machine->tracker_ = std::move(*tracker);
  for (const GuestMemory::Block& block : machine->memory_->blocks()) {
    machine->memory_blocks_.push_back(
        {.name = block.name, .iova = block.range, .bytes = block.migration.bytes(), .file = block.file.get()});
  }
  machine->devices_ = std::move(devices);
  machine->interrupts_.resize(machine->devices_.size());
  machine->mapped_.resize(machine->devices_.size());
  for (std::size_t index = 0; index < machine->devices_.size(); ++index) {
    const Device& device = machine->devices_[index];
    const auto code = class_code(*device.handle);
    if (!code) return fail_within(device.id, code.error());
    const bool driven = *code == nvme::kPciClass;
    machine->connected_.push_back({.id = device.id, .class_code = *code, .driven = driven});
    machine->machine_devices_.push_back({.id = device.id, .handle = device.handle.get()});
    if (!driven) continue;
    machine->disks_.push_back(machine->machine_devices_.back());
    machine->device_of_disk_.push_back(index);
  }
  return machine;
}

GuestMachine::~GuestMachine() = default;

// The options with the stretches of the disks alone.
Result<BootOptions> GuestMachine::for_disks(const BootOptions& options) const {
  BootOptions chosen = options;
  chosen.disks.clear();
  for (std::size_t index = 0; index < connected_.size(); ++index) {
    const Connected& device = connected_[index];
    const bool stretches = index < options.disks.size() && !options.disks[index].empty();
    if (!device.driven && stretches) {
      return fail(EINVAL, fmt::format("{}: no stretch of it can be written: it is no NVMe controller (class {:#08x})",
                                      device.id, device.class_code));
    }
    if (!device.driven) continue;
    if (!stretches && !options.whole_disks) {
      return fail(EROFS, fmt::format("{}: nothing says what of the disk may be written", device.id));
    }
    chosen.disks.push_back(stretches ? options.disks[index] : std::vector<Extent>{});
  }
  return chosen;
}

Result<void> GuestMachine::boot(const BootOptions& options) {
  const auto for_workload = for_disks(options);
  if (!for_workload) return std::unexpected(for_workload.error());
  for (std::size_t index = 0; index < devices_.size(); ++index) {
    if (auto reset = devices_[index].handle->reset(); !reset) return fail_within(devices_[index].id, reset.error());
    if (auto prepared = prepare_device(index); !prepared) return prepared;
    if (!connected_[index].driven) continue;
    if (auto enabled = enable_function(*devices_[index].handle); !enabled) {
      return fail_within(devices_[index].id, enabled.error());
    }
  }
  auto workload = Workload::boot(*memory_, disks_, *for_workload, findings_);
  if (!workload) return std::unexpected(workload.error());
  set_workload(std::move(*workload));
  return resume();
}

bool GuestMachine::finish() {
  const auto program = workload();
  if (program == nullptr) return false;
  program->finish();
  program->cpus().pause();
  const Totals sum = totals();
  const bool worked = sum.disks.empty() || sum.blocks_verified() != 0;
  return worked && sum.blocks_bad() == 0 && sum.errors() == 0 && sum.memory.bad == 0 && findings_.failure().empty() &&
         findings_.first_bad().empty();
}

Totals GuestMachine::totals() const {
  const auto program = workload();
  if (program == nullptr) return {};
  Totals totals = program->totals();
  const std::scoped_lock lock(mutex_);
  for (std::size_t disk = 0; disk < totals.disks.size(); ++disk) {
    Vectors& vectors = interrupts_[device_of_disk_[disk]];
    vectors.counted += take_interrupts(vectors.eventfds);
    totals.disks[disk].interrupts = vectors.counted;
  }
  return totals;
}

std::shared_ptr<Workload> GuestMachine::workload() const {
  const std::scoped_lock lock(mutex_);
  return workload_;
}

void GuestMachine::set_workload(std::shared_ptr<Workload> workload) {
  const std::scoped_lock lock(mutex_);
  workload_ = std::move(workload);
}

Result<void> GuestMachine::pause() {
  const auto program = workload();
  if (program == nullptr) return fail(EINVAL, "the machine runs nothing");
  program->cpus().pause();
  ++pauses_;
  return {};
}

Result<void> GuestMachine::resume() {
  const auto program = workload();
  if (program == nullptr) return fail(EINVAL, "the machine has nothing to run");
  program->cpus().resume();
  return {};
}

Result<std::vector<std::byte>> GuestMachine::save_cpus() {
  const auto program = workload();
  if (program == nullptr || !program->cpus().paused()) return fail(EBUSY, "the CPUs run; pause them first");
  const CpuState state{.cpus = static_cast<std::uint32_t>(program->cpus().count()),
                       .pauses = pauses_,
                       .config_checksum = program->config().checksum};
  const auto bytes = bytes_of(state);
  return std::vector<std::byte>(bytes.begin(), bytes.end());
}

Result<void> GuestMachine::load_cpus(std::span<const std::byte> bytes) {
  const auto state = load_at<CpuState>(bytes);
  if (!state || bytes.size() != sizeof(CpuState) || state->magic != CpuState::kMagic || state->version != 1) {
    return fail(EBADMSG, fmt::format("{} bytes that are no CPU state of this version", bytes.size()));
  }
  auto arrived = Workload::attach(*memory_, disks_, findings_);
  if (!arrived) return fail_within("the program in memory", arrived.error());
  if ((*arrived)->config().checksum != state->config_checksum || (*arrived)->cpus().count() != state->cpus) {
    return fail(EBADMSG, "the CPUs ran another program than the one in memory");
  }
  pauses_ = state->pauses;
  set_workload(std::move(*arrived));
  return {};
}

Result<void> GuestMachine::prepare_device(std::size_t index) {
  if (index >= devices_.size()) return fail(EINVAL, fmt::format("there is no device number {}", index));
  Device& device = devices_[index];
  if (!mapped_[index]) {
    if (auto mapped = memory_->map_into(*device.handle); !mapped) return fail_within(device.id, mapped.error());
    mapped_[index] = true;
  }
  auto eventfds = set_msix(*device.handle);
  if (!eventfds) return fail_within(device.id, eventfds.error());
  const std::scoped_lock lock(mutex_);
  interrupts_[index].eventfds = std::move(*eventfds);
  return {};
}

Result<std::unique_ptr<DeviceHandle>> open_when_ready(const std::string& target, std::chrono::milliseconds patience) {
  const auto deadline = std::chrono::steady_clock::now() + patience;
  while (true) {
    auto device = open_device(target);
    if (device) return device;
    const int code = device.error().code;
    if ((code != ENOENT && code != ECONNREFUSED) || std::chrono::steady_clock::now() > deadline) return device;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
}

}  // namespace gangway::guest
