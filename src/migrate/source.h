// The source of a live migration: moves a running machine to a destination that waits for it.
//
// The machine runs on while its memory and its devices' pre-copy data are sent, is paused for the rest, and from the
// destination's word on runs there. Until the destination was told to run every failure leaves the machine running
// here as if nothing had happened.
//
// The protocol, the phases and the failure rules are written down in docs/migration.md.
// Thread-safety: one migration of a machine at a time; `cancel` may be requested from any thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <stop_token>
#include <string_view>
#include <vector>

#include <gangway/error.h>

#include "migrate/machine.h"
#include "migrate/report.h"

namespace gangway::migrate {

inline constexpr unsigned kMaxChannels = 8;

struct SourceOptions {
  // How long the machine may stand still; the switchover waits for it until max_rounds rounds were sent.
  std::chrono::milliseconds max_downtime{300};
  int max_rounds = 30;
  // Called on the migrating thread, at most ten times a second.
  std::function<void(const Progress&)> progress;
  std::stop_token cancel;
  unsigned channels = 1;                    // connections that memory is sent over, 1..kMaxChannels
  std::chrono::milliseconds stall{10'000};  // give up when the peer takes and says nothing for so long
  bool page_checksums = false;              // the destination checks every page against one
};

struct SourceReport {
  std::vector<Phase> phases;             // in order; their sum is `total`
  std::chrono::nanoseconds downtime{0};  // from pause() to the destination's word that it runs
  std::chrono::nanoseconds total{0};
  std::uint64_t memory_bytes = 0;  // page data sent
  std::uint64_t device_bytes = 0;
  int rounds = 0;          // of memory, with the final one
  bool converged = false;  // switched over because the rest fitted max_downtime, not because of max_rounds
};

// The owner's decision after EINPROGRESS: the machine does not run there and never will, so it runs here. Its devices
// go to RUNNING (one that cannot is reset, which the error says), then the CPUs resume in any case.
Result<void> resume_here(Machine& machine);

// `destination` is "tcp:HOST:PORT" or "unix:PATH". On success the machine is left paused here for good and its devices
// stopped; it runs there. On failure it runs here again, with one exception: when the connection is lost between the
// order to run and the destination's answer nobody knows whether it runs there, so it stays paused here and the error
// has the code EINPROGRESS. ECANCELED after a request to cancel.
Result<SourceReport> migrate_out(Machine& machine, std::string_view destination, const SourceOptions& options = {});

}  // namespace gangway::migrate
