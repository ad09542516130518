// Drives one NVMe controller: a small polled driver whose whole state lies in guest RAM.
//
// It brings the controller up from reset with one admin and some I/O queue pairs, and then submits and polls. After a
// migration a driver made on the same RAM goes on where the other one was: what was submitted before is answered in the
// completion queues that came along.
//
// Thread-safety: one thread at a time.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include <gangway/device_handle.h>
#include <gangway/error.h>

#include "guest/doorbells.h"
#include "guest/memory.h"
#include "guest/nvme.h"
#include "guest/program.h"
#include "guest/program_state.h"

namespace gangway::guest {

class NvmeDriver {
 public:
  // `layout` must lie within the memory, as lay_out() makes it.
  NvmeDriver(DeviceHandle& device, GuestMemory& memory, const DiskLayout& layout);

  // Resets and enables the controller, identifies its first namespace, makes the I/O queues.
  Result<void> start();

  // The RAM holds the state of a controller that was started: checks it and finds the doorbells.
  Result<void> attach();

  [[nodiscard]] std::uint64_t disk_size() const { return state_->logical_blocks << state_->block_shift; }
  [[nodiscard]] std::uint32_t block_shift() const { return state_->block_shift; }
  [[nodiscard]] bool doorbells_mapped() const { return doorbells_ && doorbells_->mapped(); }

  // I/O queues count from 0. A command is put into the queue, which has room for `entries - 1` not yet completed, and
  // seen by the controller once the doorbell rings.
  void submit(std::uint32_t queue, const nvme::Command& command) { put(queue + 1, command); }
  Result<void> ring_submission(std::uint32_t queue) { return announce(queue + 1); }
  // Takes the next completion; the controller may reuse its entry once the doorbell rings.
  std::optional<nvme::Completion> poll(std::uint32_t queue) { return take(queue + 1); }
  Result<void> ring_completion(std::uint32_t queue) { return acknowledge(queue + 1); }

 private:
  struct Ring {
    std::span<nvme::Command> submission;
    std::span<nvme::Completion> completion;
  };

  Result<void> enable();
  Result<void> identify();
  Result<void> make_queues();
  Result<void> make_queue(std::uint32_t queue, bool interrupts);
  Result<std::uint32_t> run_admin(nvme::AdminOpcode opcode, nvme::Command command);
  Result<void> wait_ready(bool ready, std::chrono::milliseconds limit);
  Result<std::uint32_t> read_register(std::uint64_t offset);
  Result<void> write_register(std::uint64_t offset, std::uint32_t value);
  Result<void> write_register64(std::uint64_t offset, std::uint64_t value);

  void put(std::uint32_t ring, const nvme::Command& command);
  std::optional<nvme::Completion> take(std::uint32_t ring);
  Result<void> announce(std::uint32_t ring) { return doorbells_->ring_submission(ring, state_->rings[ring].tail); }
  Result<void> acknowledge(std::uint32_t ring) { return doorbells_->ring_completion(ring, state_->rings[ring].head); }

  DeviceHandle& device_;
  GuestMemory& memory_;
  const DiskLayout layout_;
  NvmeState* state_;
  std::vector<Ring> rings_;  // 0: admin
  std::optional<Doorbells> doorbells_;
};

}  // namespace gangway::guest
