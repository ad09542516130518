// STP: what a device does, and does not do, while it is stopped.
#include <sys/eventfd.h>

#include <algorithm>
#include <array>
#include <thread>

#include <fmt/core.h>

#include "base/bytes.h"
#include "conformance/steps.h"
#include "conformance/working.h"

namespace gangway::conformance {
namespace {

using enum DeviceState;

constexpr std::uint32_t kConfig = to_number(RegionIndex::Config);
constexpr std::uint64_t kCommand = 0x04;

std::vector<DeviceState> stopped_states() { return {Stop, StopCopy, Resuming}; }

void nothing_moves_while_stopped(Context& c) {
  for (const DeviceState state : stopped_states()) {
    reopen(c.device);
    const Shared workload = set_up_workload(c);
    for (unsigned round = 0; round < 3; ++round) kick(c.device, workload, round);
    go(c.device, state);
    const std::string seen = watch(*workload);
    expect("STP-QUIET", seen.empty(), fmt::format("no DMA and no interrupt in {}", contract::name(state)), seen);
  }
}

// A user who touches a stopped device may make it leave its state: Linux says so, and the device should know better.
void work_asked_for_while_stopped_waits(Context& c) {
  for (const DeviceState state : {Stop, StopCopy}) {
    reopen(c.device);
    const Shared workload = set_up_workload(c);
    go(c.device, state);
    try_kick(c.device, workload, 1);
    const std::string seen = watch(*workload);
    expect("STP-QUIET", seen.empty(),
           fmt::format("no DMA and no interrupt in {}, whatever is asked for", contract::name(state)), seen);
  }
}

// In P2P it is quiet already, so what comes on the way to STOP comes from a device that may do nothing.
void stopping_raises_no_interrupt(Context& c) {
  const Shared workload = set_up_workload(c);
  for (const DeviceState state : {Stop, StopCopy}) {
    go(c.device, RunningP2p);
    (void)workload->take_interrupts();
    go(c.device, state);
    const std::uint64_t interrupts = workload->take_interrupts();
    expect("STP-QUIET", interrupts == 0,
           fmt::format("an idle device raises no interrupt from RUNNING_P2P to {}", contract::name(state)),
           fmt::format("{} interrupts", interrupts));
    go(c.device, Running);
  }
}

// As far as they can be read.
std::vector<Bytes> read_registers(Subject& subject, const Workload& workload) {
  std::vector<Bytes> registers;
  for (const Workload::Register& one : workload.registers()) {
    Bytes value(one.size);
    if (subject.read_region(0, one.offset, value)) registers.push_back(std::move(value));
    if (subject.lost()) throw Untestable{subject.why_lost()};
  }
  return registers;
}

void registers_stand_still_while_stopped(Context& c) {
  const Shared workload = set_up_workload(c);
  kick(c.device, workload, 1);
  go(c.device, Stop);
  const auto first = read_registers(c.device, *workload);
  expect("STP-QUIET", first == read_registers(c.device, *workload), "the registers of a stopped device stand still",
         "they move");
}

// In the middle of its work and stopped: two saves a while apart are the same.
void stopped_state_does_not_change(Context& c) {
  const Shared workload = set_up_workload(c);
  if (!workload->deterministic()) throw Untestable{"two saves of this device need not be equal", false};
  kick(c.device, workload, 1);
  go(c.device, Stop);
  save(c.device);
  const Bytes first = c.device.good();
  go(c.device, Stop);
  std::this_thread::sleep_for(kWatch);
  save(c.device);
  expect("STP-QUIET", first == c.device.good(), "a stopped device changes no state",
         "two saves one after the other differ");
}

void combinations_do_no_work_between(Context& c) {
  // From one stopped state to another no RUNNING lies on the way.
  const Shared workload = set_up_workload(c);
  for (unsigned round = 0; round < 3; ++round) kick(c.device, workload, round);
  go(c.device, Stop);
  if (const std::string seen = watch(*workload); !seen.empty()) {
    throw Untestable{fmt::format("in STOP already {} (see STP-QUIET)", seen)};
  }
  const std::vector<Bytes> before = contents(*workload);
  for (const DeviceState state : {StopCopy, Stop, StopCopy, Resuming}) go(c.device, state);
  expect("FSM-ARC", contents(*workload) == before && workload->take_interrupts() == 0,
         "the way from STOP to STOP_COPY and on to RESUMING leads through no running state",
         "the device wrote memory or interrupted on the way");
}

void work_goes_on_after_a_stop(Context& c) {
  const Shared workload = set_up_workload(c);
  kick(c.device, workload, 1);
  go(c.device, Stop);
  go(c.device, Running);
  expect_done("FSM-COMPLETE", await(c.device, workload), "work that a stop interrupted is done after RUNNING");
}

std::uint16_t read_command(Subject& subject, std::string_view where) {
  std::array<std::byte, 2> bytes{};
  expect_done("STP-CONFIG", subject.read_region(kConfig, kCommand, bytes),
              fmt::format("config space answers in {}", where));
  return load_at<std::uint16_t>(bytes).value_or(0);
}

void write_command(Subject& subject, std::uint16_t value, std::string_view where) {
  expect_done("STP-CONFIG", subject.write_region(kConfig, kCommand, bytes_of(value)),
              fmt::format("config space can be written in {}", where));
}

// The bit that functions let be written; one that does no DMA need not.
constexpr std::uint16_t kMaster = 0x0004;

// Whether the bit keeps what is written while the device runs. The device stays as it was.
bool master_can_be_written(Subject& subject) {
  const std::uint16_t before = read_command(subject, "RUNNING");
  write_command(subject, static_cast<std::uint16_t>(before ^ kMaster), "RUNNING");
  const bool changed = ((read_command(subject, "RUNNING") ^ before) & kMaster) != 0;
  write_command(subject, before, "RUNNING");
  return changed;
}

void config_space_answers_while_stopped(Context& c) {
  std::array<std::byte, 64> running{};
  step(c.device.read_region(kConfig, 0, running), "read config space");
  const bool writable = master_can_be_written(c.device);
  for (const DeviceState state : stopped_states()) {
    if (c.device.last_state() != state) go(c.device, state);
    const std::string_view name = contract::name(state);
    std::array<std::byte, 4> identity{};
    expect_done("STP-CONFIG", c.device.read_region(kConfig, 0, identity),
                fmt::format("config space answers in {}", name));
    expect("STP-CONFIG", std::ranges::equal(identity, std::span(running).first(4)),
           fmt::format("config space says the same in {} as in RUNNING", name), "another vendor or device");
    const std::uint16_t before = read_command(c.device, name);
    write_command(c.device, static_cast<std::uint16_t>(before ^ kMaster), name);
    const std::uint16_t after = read_command(c.device, name);
    expect("STP-CONFIG", !writable || ((after ^ before) & kMaster) != 0,
           fmt::format("COMMAND keeps what is written in {} as it does in RUNNING", name),
           fmt::format("{:#06x}, it was {:#06x}", after, before));
    write_command(c.device, before, name);
    if (state == Resuming) reset(c.device);
  }
}

Result<void> set_interrupt(DeviceHandle& device, IrqType type, const Fd& eventfd) {
  IrqSet request{.type = type, .action = IrqAction::Trigger, .data = IrqSet::Data::Eventfd, .start = 0, .count = 1};
  Result<Fd> copy = eventfd.duplicate();
  if (!copy) return std::unexpected(copy.error());
  request.eventfds.push_back(*std::move(copy));
  return device.set_irqs(std::move(request));
}

void interrupts_are_set_while_stopped(Context& c) {
  for (const DeviceState state : stopped_states()) {
    if (c.device.last_state() != state) go(c.device, state);
    const Result<void> set = c.device.perform("interrupts", [](DeviceHandle& device) -> Result<void> {
      for (const IrqType type : {IrqType::Msix, IrqType::Msi, IrqType::Intx}) {
        const Result<IrqInfo> info = device.irq(to_number(type));
        if (!info || info->count == 0) continue;
        const Fd eventfd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
        if (Result<void> done = set_interrupt(device, type, eventfd); !done) return done;
        return device.set_irqs({.type = type, .action = IrqAction::Trigger, .data = IrqSet::Data::None});
      }
      return {};
    });
    expect_done("STP-CONFIG", set, fmt::format("interrupts can be set in {}", contract::name(state)));
    if (state == Resuming) reset(c.device);
  }
}

// What the client set before is there after it.
void interrupts_outlive_a_stop(Context& c) {
  const Shared workload = set_up_workload(c);
  kick(c.device, workload, 1);
  step(await(c.device, workload), "work");
  if (workload->take_interrupts() == 0) throw Untestable{"the device's work raises no interrupt"};
  go(c.device, Stop);
  go(c.device, Running);
  kick(c.device, workload, 2);
  step(await(c.device, workload), "work");
  // The interrupt of work that is done may be on its way still.
  std::uint64_t interrupts = workload->take_interrupts();
  for (int i = 0; i < 50 && interrupts == 0; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    interrupts = workload->take_interrupts();
  }
  expect("STP-CONFIG", interrupts != 0, "interrupts that were set before STOP are raised after it", "none");
}

void config_may_be_restored_around_the_load(Context& c) {
  make_stream(c.device);
  if (!master_can_be_written(c.device)) throw Untestable{"COMMAND of this device cannot be written", false};
  for (const bool before : {true, false}) {
    const std::string_view when = before ? "before the data" : "after the data";
    go(c.device, Resuming);
    if (before) write_command(c.device, kMaster, "RESUMING");
    c.device.choose({});
    step(c.device.write_all(), "write all");
    if (!before) write_command(c.device, kMaster, "RESUMING");
    expect_done("STP-CONFIG", c.device.set(Stop), fmt::format("the load succeeds with config space restored {}", when));
    const std::uint16_t command = read_command(c.device, "STOP");
    expect("STP-CONFIG", (command & kMaster) != 0, fmt::format("config space restored {} keeps its values", when),
           fmt::format("COMMAND is {:#06x}", command));
    go(c.device, Running);
    reset(c.device);
  }
}

// Reads and writes what may be refused, but must do no harm.
void touch_everything(Subject& subject, const Abilities& abilities) {
  for (std::uint32_t region = 0; region < std::min(abilities.info.regions, 6U); ++region) {
    for (const std::uint64_t offset : {0ULL, 4ULL, 8ULL, 0x1000ULL}) {
      std::array<std::byte, 4> bytes{};
      (void)subject.read_region(region, offset, bytes);
      (void)subject.write_region(region, offset, bytes);
      if (subject.lost()) return;
    }
  }
}

void accesses_while_stopped_harm_nobody(Context& c) {
  for (const DeviceState state : stopped_states()) {
    if (c.device.last_state() != state) go(c.device, state);
    touch_everything(c.device, c.abilities);
    expect("STP-ACCESS", !c.device.lost(), fmt::format("accesses in {} do not end the device", contract::name(state)),
           c.device.why_lost());
    expect_state("STP-ACCESS", c.device, state);
    reset(c.device);
  }
  // The caller may have spoiled its own stream, and nothing else.
  go(c.device, StopCopy);
  step(c.device.read(40), "read some");
  touch_everything(c.device, c.abilities);
  expect_answer("STP-ACCESS", c.device.read_all(), "a save goes on after accesses");
  go(c.device, Running);
  reset(c.device);
  expect_migrates("STP-ACCESS", c.device);
}

}  // namespace

std::vector<Test> stopped_tests() {
  constexpr std::uint32_t kWorking = kMigration | kWorkload;
  return {
      {"nothing_moves_while_stopped", {"STP-QUIET"}, kWorking, nothing_moves_while_stopped},
      {"work_asked_for_while_stopped_waits",
       {"STP-QUIET"},
       kWorking,
       work_asked_for_while_stopped_waits,
       Level::Should},
      {"stopping_raises_no_interrupt", {"STP-QUIET"}, kWorking | kP2p | kInterrupts, stopping_raises_no_interrupt},
      {"registers_stand_still_while_stopped", {"STP-QUIET"}, kWorking, registers_stand_still_while_stopped},
      {"stopped_state_does_not_change", {"STP-QUIET"}, kWorking, stopped_state_does_not_change},
      {"combinations_do_no_work_between", {"FSM-ARC"}, kWorking, combinations_do_no_work_between},
      {"work_goes_on_after_a_stop", {"FSM-COMPLETE"}, kWorking, work_goes_on_after_a_stop},
      {"config_space_answers_while_stopped",
       {"STP-CONFIG"},
       kMigration | kPci | kReset,
       config_space_answers_while_stopped},
      {"interrupts_are_set_while_stopped",
       {"STP-CONFIG"},
       kMigration | kPci | kReset,
       interrupts_are_set_while_stopped},
      {"interrupts_outlive_a_stop", {"STP-CONFIG"}, kWorking | kInterrupts, interrupts_outlive_a_stop},
      {"config_may_be_restored_around_the_load",
       {"STP-CONFIG"},
       kMigration | kPci | kReset,
       config_may_be_restored_around_the_load},
      {"accesses_while_stopped_harm_nobody", {"STP-ACCESS"}, kMigration | kReset, accesses_while_stopped_harm_nobody},
  };
}

}  // namespace gangway::conformance
