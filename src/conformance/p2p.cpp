// P2P: what a device does, and does not do, while it may not initiate.
#include <algorithm>
#include <array>

#include <fmt/core.h>

#include "conformance/steps.h"
#include "conformance/working.h"

namespace gangway::conformance {
namespace {

using enum DeviceState;

std::vector<DeviceState> p2p_states(const Context& c) {
  std::vector<DeviceState> states{RunningP2p};
  if (c.flags().pre_copy) states.push_back(PreCopyP2p);
  return states;
}

// Quiet is a device that had nothing to write as well; that says nothing of P2P.
void expect_dma_at_all(Subject& subject, const Shared& workload, const std::vector<Bytes>& before) {
  go(subject, Running);
  step(await(subject, workload), "work");
  if (contents(*workload) == before) throw Untestable{"the device's work wrote no memory", false};
}

// A device that can tell P2P DMA from other DMA may stop the former alone; interrupts are not spoken of at all.
void p2p_returns_with_dma_done(Context& c) {
  for (const DeviceState state : p2p_states(c)) {
    reopen(c.device);
    const Shared workload = set_up_workload(c);
    const std::vector<Bytes> before = contents(*workload);
    for (unsigned round = 0; round < 3; ++round) kick(c.device, workload, round);
    go(c.device, state);
    const std::string seen = watch_memory(*workload);
    expect("P2P-INITIATE", seen.empty(),
           fmt::format("when {} is reached all DMA is done and none begins", contract::name(state)), seen);
    expect_dma_at_all(c.device, workload, before);
  }
}

void work_goes_on_after_p2p(Context& c) {
  for (const DeviceState state : p2p_states(c)) {
    reopen(c.device);
    const Shared workload = set_up_workload(c);
    for (unsigned round = 0; round < 3; ++round) kick(c.device, workload, round);
    go(c.device, state);
    go(c.device, Running);
    expect_done("P2P-INITIATE", await(c.device, workload),
                fmt::format("what waited in {} is done in RUNNING", contract::name(state)));
  }
}

void p2p_serves_accesses(Context& c) {
  const Shared workload = set_up_workload(c);
  for (const DeviceState state : p2p_states(c)) {
    std::array<std::byte, 4> running{};
    const bool readable = c.device.read_region(0, 0, running).has_value();
    go(c.device, state);
    std::array<std::byte, 4> word{};
    const Result<void> read = c.device.read_region(0, 0, word);
    if (readable) {
      expect_done("P2P-INITIATE", read, fmt::format("accesses are served in {}", contract::name(state)));
      expect("P2P-INITIATE", word == running,
             fmt::format("an idle device reads the same in {} as in RUNNING", contract::name(state)), "other values");
    }
    go(c.device, Running);
  }
  // It can fail the clause, and without DMA not pass it.
  if ((c.abilities.have & kDma) == 0) {
    throw Untestable{"accesses are served; the suite knows no workload that makes this device write memory", false};
  }
}

void work_asked_for_in_p2p_waits(Context& c) {
  for (const DeviceState state : p2p_states(c)) {
    reopen(c.device);
    const Shared workload = set_up_workload(c);
    go(c.device, state);
    try_kick(c.device, workload, 1);
    const std::string seen = watch_memory(*workload);
    expect("P2P-INITIATE", seen.empty(), fmt::format("no DMA in {}, whatever is asked for", contract::name(state)),
           seen);
    go(c.device, Running);
    expect_done("P2P-INITIATE", await(c.device, workload),
                fmt::format("what was asked for in {} is done in RUNNING", contract::name(state)));
  }
}

// Both devices through a phase, in either order.
void go_both(Context& c, DeviceState state, bool peer_first) {
  Subject& first = peer_first ? *c.peer : c.device;
  Subject& second = peer_first ? c.device : *c.peer;
  for (Subject* subject : {&first, &second}) {
    expect_done("P2P-ORDER", subject->set(state), fmt::format("{} with several devices", contract::name(state)));
  }
}

void phases_take_any_order(Context& c) {
  std::vector<DeviceState> phases{RunningP2p, Stop,       StopCopy, Stop,       RunningP2p,
                                  Running,    RunningP2p, Stop,     RunningP2p, Running};
  for (unsigned order = 0; order < (1U << phases.size()); order += 37) {
    for (std::size_t i = 0; i < phases.size(); ++i) go_both(c, phases[i], (order >> i & 1U) != 0);
  }
}

// The phases of one device among several: from STOP by RUNNING_P2P, back and forth.
void phases_can_be_taken_step_by_step(Context& c) {
  for (int i = 0; i < 2; ++i) {
    for (const DeviceState state : {RunningP2p, Stop, RunningP2p, Running}) {
      expect_done("P2P-ORDER", c.device.set(state), fmt::format("{} as a phase of its own", contract::name(state)));
      expect_state("P2P-ORDER", c.device, state);
    }
  }
}

}  // namespace

std::vector<Test> p2p_tests() {
  constexpr std::uint32_t kWorking = kMigration | kP2p | kWorkload | kDma;
  return {
      {"p2p_returns_with_dma_done", {"P2P-INITIATE"}, kWorking, p2p_returns_with_dma_done, Level::Should},
      {"work_goes_on_after_p2p", {"P2P-INITIATE"}, kWorking, work_goes_on_after_p2p},
      {"p2p_serves_accesses", {"P2P-INITIATE"}, kMigration | kP2p | kWorkload, p2p_serves_accesses},
      {"work_asked_for_in_p2p_waits", {"P2P-INITIATE"}, kWorking, work_asked_for_in_p2p_waits, Level::Should},
      {"phases_can_be_taken_step_by_step", {"P2P-ORDER"}, kMigration | kP2p, phases_can_be_taken_step_by_step},
      {"phases_take_any_order", {"P2P-ORDER"}, kMigration | kP2p | kPeer, phases_take_any_order},
  };
}

}  // namespace gangway::conformance
