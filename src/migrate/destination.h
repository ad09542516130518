// The destination of a live migration: waits for a machine and takes it over.
//
// Thread-safety: one thread at a time; `cancel` may be requested from any thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include <gangway/error.h>
#include <gangway/fd.h>

#include "base/unix_socket.h"
#include "migrate/machine.h"
#include "migrate/report.h"

namespace gangway::migrate {

struct DestinationOptions {
  std::stop_token cancel;
  // Give up when a source says nothing for so long. A connection that has not said within a second that it is one (or
  // sooner, when this is shorter) is closed, and the next is waited for.
  std::chrono::milliseconds stall{10'000};
  // Allocate the machine's memory ahead of the data, beginning before a source connects. The page faults of new shared
  // memory cost more than the network; without it only pages that hold data are ever allocated.
  bool prefault = true;
};

struct DestinationReport {
  std::vector<Phase> phases;
  std::chrono::nanoseconds total{0};  // from the connection to running
  std::uint64_t memory_bytes = 0;     // page data received
  std::uint64_t device_bytes = 0;
  int rounds = 0;
};

class Listener {
 public:
  // "tcp:HOST:PORT" (PORT 0: any free one) or "unix:PATH". EADDRINUSE when somebody listens there.
  static Result<Listener> bind(std::string_view where);

  // What a source is given: "tcp:127.0.0.1:40123".
  [[nodiscard]] const std::string& address() const { return address_; }

  // Waits for one source and takes its machine over into `machine`, which is paused, whose memory is overwritten, and
  // which runs on return. On failure the machine does not run, its devices are reset, and the next source may come.
  Result<DestinationReport> migrate_in(Machine& machine, const DestinationOptions& options = {});

 private:
  Listener(Fd socket, SocketFile file, std::string address);

  Fd socket_;
  SocketFile file_;  // when bound to "unix:"
  std::string address_;
};

}  // namespace gangway::migrate
