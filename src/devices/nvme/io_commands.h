// Carries out the commands of the NVM command set: checks them, starts their image requests, and says how they ended.
//
// Data moves straight between the image and the host's memory where that can be pinned, else through a buffer. A
// command may take several requests one after the other (ranges to deallocate, a flush after zeroing); all of it
// belongs to one IoTask, taken from a pool that bounds what is in flight.
// Source: NVM Express 1.4, 6.
//
// Thread-safety: the I/O thread's own.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include <gangway/dma.h>

#include "devices/nvme/backend.h"
#include "devices/nvme/features.h"
#include "devices/nvme/host_memory.h"
#include "devices/nvme/log_pages.h"
#include "devices/nvme/namespace.h"
#include "devices/nvme/spec.h"
#include "devices/nvme/status.h"

namespace gangway::nvme {

inline constexpr std::uint16_t kNoQueue = 0xffff;

// A command in flight, as the request it has at the backend.
struct IoTask : ImageRequest {
  std::uint16_t sq_id = kNoQueue;
  Command command;

  std::vector<DmaPin> pins;  // what the request's buffers lie in
  std::vector<iovec> buffers;
  std::vector<std::byte> bounce;      // instead of pins
  std::vector<DataSegment> segments;  // where bounce belongs in the host's memory
  // What follows, last first: stretches to clear, then images to flush.
  struct Stretch {
    std::uint64_t offset = 0;
    std::uint64_t length = 0;
  };
  Operation clearing = Operation::Zero;
  std::uint32_t file = 0;
  std::vector<Stretch> to_clear;
  std::vector<std::uint32_t> to_flush;
};

class IoCommands {
 public:
  IoCommands(std::span<const Namespace> namespaces, Backend& backend, HostMemory& memory, const Features& features,
             LogPages& logs);

  // Whether start() has a task to give.
  [[nodiscard]] std::size_t free_tasks() const { return free_.size(); }
  [[nodiscard]] std::size_t in_flight() const { return tasks_.size() - free_.size(); }

  // nullopt: it is in flight. Needs a free task.
  std::optional<Outcome> start(std::uint16_t sq_id, const Command& command);

  // Flushes every image, as a task of no queue (a shutdown). Needs a free task; finishes as the others.
  void flush_all();

  // A request that the backend finished. nullopt: its task goes on with another. The task is the caller's until
  // release().
  struct Finished {
    IoTask* task = nullptr;
    Outcome outcome;
  };
  std::optional<Finished> finish(ImageRequest& request);
  void release(IoTask& task);

  // Nobody waits for the tasks in flight any more: they end as soon as they can.
  void abandon();

 private:
  [[nodiscard]] const Namespace* find(std::uint32_t nsid) const;
  Status prepare(IoTask& task);
  Status prepare_transfer(IoTask& task, const Namespace& space);
  Status prepare_compare(IoTask& task, const Namespace& space);
  Status prepare_zeroes(IoTask& task, const Namespace& space);
  Status prepare_deallocate(IoTask& task, const Namespace& space);
  Status prepare_flush(IoTask& task);
  Status pin_or_bounce(IoTask& task, std::span<const DataSegment> segments, DmaAccess access, std::uint32_t length);

  // Prepares what follows in the task; false when nothing does.
  static bool go_on(IoTask& task);
  Status conclude(IoTask& task);
  static void forget(IoTask& task);
  [[nodiscard]] Status compare(const IoTask& task) const;
  void count(const IoTask& task, Status status);

  std::span<const Namespace> namespaces_;
  Backend& backend_;
  HostMemory& memory_;
  const Features& features_;
  LogPages& logs_;
  std::vector<std::unique_ptr<IoTask>> tasks_;
  std::vector<IoTask*> free_;
};

}  // namespace gangway::nvme
