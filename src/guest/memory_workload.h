// One CPU that writes memory at a steady rate, page after page, in a way that can be verified.
//
// Every page holds a stamp whose generation a table elsewhere in RAM repeats. A page that migration lost, or sent
// before its last write, no longer agrees with the table. Each page is verified before it is written again, and all of
// them after the machine arrived and at the end.
//
// Thread-safety: step() by one CPU; the others from any thread, attach() and verify_all() before or between steps.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

#include <gangway/error.h>

#include "guest/cpus.h"
#include "guest/findings.h"
#include "guest/memory.h"
#include "guest/program.h"
#include "guest/program_state.h"

namespace gangway::guest {

class MemoryWorkload : public CpuProgram {
 public:
  MemoryWorkload(const ProgramConfig& config, std::uint32_t number, GuestMemory& memory, const MemoryCpuLayout& layout,
                 Findings& findings);

  void start();
  // The state in RAM came from elsewhere. Every page is verified before more are written.
  Result<void> attach();

  Step step() override;

  // Writes no more, verifies every page once more, and then it has finished.
  void verify_all() { verifying_.store(true); }

  [[nodiscard]] MemoryCounters counters() const;

 private:
  void write_page(std::uint64_t page);
  void verify_page(std::uint64_t page);
  bool verify_some();
  bool write_some();
  std::uint64_t allowance();

  const ProgramConfig& config_;
  const std::uint32_t number_;
  GuestMemory& memory_;
  Findings& findings_;
  const Iova pages_at_;
  MemoryState* state_;
  std::span<std::uint32_t> table_;
  std::span<std::byte> pages_;

  std::atomic<bool> verifying_{false};
  bool last_pass_begun_ = false;
  std::uint64_t verify_cursor_;  // the next page of a pass; at the end: none in progress
  // The clock belongs to the place where the machine runs, not to the machine.
  std::chrono::steady_clock::time_point last_time_;
  double allowed_bytes_ = 0;
};

}  // namespace gangway::guest
