// A device at work: what a test gives it to do, and what it then writes and signals.
//
// Thread-safety: one thread.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "conformance/test.h"

namespace gangway::conformance {

using Shared = std::shared_ptr<Workload>;

// How long a device is watched that must do nothing. A good one does nothing however long; a bad one mostly not.
inline constexpr std::chrono::milliseconds kWatch{40};

// Of the workload's memory, block by block.
std::vector<Bytes> contents(const Workload& workload);
// Where the device writes over a while; empty if nowhere.
std::string watch_memory(const Workload& workload);
// What the device writes and signals over a while; empty if nothing.
std::string watch(Workload& workload);

void kick(Subject& subject, const Shared& workload, unsigned round);
// A device may refuse work in a state in which it does none.
void try_kick(Subject& subject, const Shared& workload, unsigned round);
Result<void> await(Subject& subject, const Shared& workload);

}  // namespace gangway::conformance
