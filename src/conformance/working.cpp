#include "conformance/working.h"

#include <algorithm>
#include <thread>

#include <fmt/core.h>

#include "conformance/steps.h"

namespace gangway::conformance {

std::vector<Bytes> contents(const Workload& workload) {
  std::vector<Bytes> all;
  for (const Workload::Block& block : workload.memory()) all.emplace_back(block.bytes.begin(), block.bytes.end());
  return all;
}

std::string watch_memory(const Workload& workload) {
  const std::vector<Bytes> before = contents(workload);
  std::this_thread::sleep_for(kWatch);
  const std::vector<Workload::Block> blocks = workload.memory();
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    const auto different = std::ranges::mismatch(blocks[i].bytes, before[i]).in1;
    if (different == blocks[i].bytes.end()) continue;
    return fmt::format("it writes at IOVA {:#x}",
                       blocks[i].range.start.value + static_cast<std::uint64_t>(different - blocks[i].bytes.begin()));
  }
  return {};
}

std::string watch(Workload& workload) {
  (void)workload.take_interrupts();
  if (std::string written = watch_memory(workload); !written.empty()) return written;
  const std::uint64_t interrupts = workload.take_interrupts();
  return interrupts == 0 ? std::string() : fmt::format("{} interrupts", interrupts);
}

void kick(Subject& subject, const Shared& workload, unsigned round) {
  step(subject.perform(fmt::format("work kick {}", round),
                       [workload, round](DeviceHandle& device) { return workload->kick(device, round); }),
       "give the device work");
}

void try_kick(Subject& subject, const Shared& workload, unsigned round) {
  (void)subject.perform(fmt::format("work kick {}", round),
                        [workload, round](DeviceHandle& device) { return workload->kick(device, round); });
  if (subject.lost()) throw Untestable{subject.why_lost()};
}

Result<void> await(Subject& subject, const Shared& workload) {
  return subject.perform("work await", [workload](DeviceHandle& device) { return workload->await(device); });
}

}  // namespace gangway::conformance
