// All that a controller is, apart from the threads and the backend that use it: what a save writes and a load fills.
//
// Thread-safety: the I/O thread's own, except registers, doorbells and lines, which see to themselves.
#pragma once

#include <cstdint>
#include <vector>

#include "devices/nvme/async_events.h"
#include "devices/nvme/doorbells.h"
#include "devices/nvme/features.h"
#include "devices/nvme/host_memory.h"
#include "devices/nvme/identify.h"
#include "devices/nvme/interrupt_lines.h"
#include "devices/nvme/log_pages.h"
#include "devices/nvme/namespace.h"
#include "devices/nvme/queues.h"
#include "devices/nvme/registers.h"
#include "devices/nvme/shadow_doorbells.h"

namespace gangway::nvme {

struct ControllerState {
  // Constant.
  ControllerIdentity identity;
  std::vector<Namespace> namespaces;
  std::uint16_t io_queue_pairs = kMaxIoQueues;

  Doorbells doorbells;
  Registers registers{};
  InterruptLines lines{};
  QueueSet queues{lines};
  ShadowDoorbells shadows{};
  Features features{io_queue_pairs, namespaces.size()};
  LogPages logs{};
  AsyncEvents events{};
  HostMemory memory{};

  [[nodiscard]] std::size_t doorbell_words() const { return (std::size_t{io_queue_pairs} + 1) * 2; }

  // What a controller reset clears (NVM Express 1.4, 7.3.2): all but the counters, the error log and AQA, ASQ, ACQ.
  void clear_session() {
    queues.clear();
    shadows.disable();
    events.clear();
    features.reset();
    lines.clear();
    doorbells.clear();
    registers.csts = 0;
  }
};

}  // namespace gangway::nvme
