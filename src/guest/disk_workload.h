// Random verified reads, writes and flushes on one disk.
//
// Each block of the disk has a generation that grows with every write. A block read must hold the generation last
// acknowledged; one with a write in flight, or whose last write failed, the old or the new; nothing else ever. The
// table of generations and the commands in flight lie in guest RAM, so they move with the machine.
//
// Thread-safety: step() by one CPU; the others from any thread, attach() and verify_all() before or between steps.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <string>

#include <gangway/error.h>

#include "guest/cpus.h"
#include "guest/findings.h"
#include "guest/nvme_driver.h"
#include "guest/program.h"
#include "guest/program_state.h"
#include "guest/stamp.h"

namespace gangway::guest {

class DiskWorkload : public CpuProgram {
 public:
  // `number` is the disk's in the configuration. All references outlive it.
  DiskWorkload(std::string name, const ProgramConfig& config, std::uint32_t number, GuestMemory& memory,
               const DiskLayout& layout, NvmeDriver& driver, Findings& findings);

  // Puts the state of a beginning into RAM. The driver was started. EINVAL when the disk is smaller than its extents.
  Result<void> start();
  // The state in RAM came from elsewhere: EBADMSG when it contradicts itself. The driver was attached.
  Result<void> attach();

  Step step() override;

  // From now on no new random commands: those in flight end, then every block ever written is read and verified, and
  // then it has finished.
  void verify_all() { verifying_.store(true); }

  [[nodiscard]] DiskCounters counters() const;

 private:
  struct Queue {
    std::span<Slot> slots;
    std::span<std::byte> buffers;
    Iova buffers_at;
    Iova prps_at;
  };

  Result<void> check_disk_size() const;
  Result<void> check_slots() const;
  Result<void> check_table() const;
  void write_prp_lists();

  bool complete_some(std::uint32_t queue);
  void complete(std::uint32_t queue, const nvme::Completion& completion);
  void complete_write(const Slot& slot, bool succeeded);
  void complete_read(std::uint32_t queue, std::uint16_t id, const Slot& slot);
  bool verify(std::span<const std::byte> bytes, const Slot& slot, const BlockState& block);

  bool fill(std::uint32_t queue);
  bool issue_next(std::uint32_t queue, std::uint16_t id);
  bool issue_random(std::uint32_t queue, std::uint16_t id);
  void issue_read(std::uint32_t queue, std::uint16_t id, std::uint64_t block);
  void issue_write(std::uint32_t queue, std::uint16_t id, std::uint64_t block);
  void issue_flush(std::uint32_t queue, std::uint16_t id);
  void issue(std::uint32_t queue, std::uint16_t id, const Slot& slot, nvme::IoOpcode opcode, std::uint32_t flags);

  [[nodiscard]] std::span<std::byte> buffer(std::uint32_t queue, std::uint16_t id) const;
  [[nodiscard]] bool idle() const;
  void watch_for_stall(bool worked);
  Stamp stamp_of(std::uint64_t address, std::uint32_t generation) const;
  void stop_for(const Error& error);

  const std::string name_;
  const ProgramConfig& config_;
  const DiskConfig& disk_;
  const std::uint32_t number_;
  GuestMemory& memory_;
  const DiskLayout layout_;
  NvmeDriver& driver_;
  Findings& findings_;

  DiskState* state_;
  std::vector<Queue> queues_;
  std::span<BlockState> table_;

  std::atomic<bool> verifying_{false};
  std::uint64_t verify_cursor_ = 0;  // the next block of the last pass
  bool failed_ = false;
  std::chrono::steady_clock::time_point last_step_;
  std::chrono::steady_clock::duration without_answer_{0};  // time that the CPU ran while no command completed
};

}  // namespace gangway::guest
