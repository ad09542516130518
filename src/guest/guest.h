// A guest as a process: a machine, the migrations it makes or waits for, and what it tells about them.
//
// It runs what it booted, or waits for a machine to arrive and then runs that. Either can be migrated away. Whoever
// steers it (the control socket, the command line) calls this.
//
// Thread-safety: all, except create and the destructor.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include <gangway/error.h>

#include <nlohmann/json.hpp>

#include "guest/machine.h"
#include "migrate/destination.h"
#include "migrate/source.h"

namespace gangway::guest {

enum class GuestState {
  Waiting,    // for a machine to arrive
  Running,    //
  Migrating,  // runs, mostly
  Migrated,   // runs elsewhere
  Unknown,    // stands here; whether it runs elsewhere is not known
  Stopped,    // was told to end
  Failed,     // cannot go on
};
[[nodiscard]] std::string_view name(GuestState state);

struct GuestOptions {
  GuestMemory::Options memory;
  std::optional<TrackingMethod> tracking;
  struct DeviceAddress {
    std::string id;
    std::string target;
  };
  std::vector<DeviceAddress> devices;
  std::chrono::milliseconds patience{5000};  // for the device processes to listen
  BootOptions boot;
  std::string incoming;  // "tcp:HOST:PORT": wait for a machine there; empty: boot
};

class Guest {
 public:
  static Result<std::unique_ptr<Guest>> create(GuestOptions options);
  ~Guest();
  Guest(const Guest&) = delete;
  Guest& operator=(const Guest&) = delete;

  // {"state", "io", "blocks_verified", ...}: docs/guest.md.
  [[nodiscard]] nlohmann::ordered_json status() const;
  [[nodiscard]] std::string metrics() const;  // Prometheus text

  struct Migration {
    std::string to;
    std::chrono::milliseconds max_downtime{300};
    unsigned channels = 1;
  };
  // Begins; EBUSY unless it is running. How it goes on is told by events, how it ended by the last of them.
  Result<void> migrate(const Migration& request);
  // EINVAL when none is going on.
  Result<void> cancel();
  // Events of the migration that began last, from number `from` on, each a JSON object. Waits for the next one; empty
  // when there will be none any more.
  [[nodiscard]] std::vector<std::string> wait_events(std::size_t from) const;

  [[nodiscard]] std::string events_so_far() const;  // a line each

  // Whoever knows that the machine runs nowhere else has it run here again; the status. EBUSY unless that is unknown.
  Result<nlohmann::ordered_json> resume();

  // Ends the work, verifies, and returns the final status. EBUSY during a migration.
  Result<nlohmann::ordered_json> stop();

  // Until it was stopped, or the time has come. True: it was stopped, or cannot go on.
  bool wait_ended(std::chrono::milliseconds limit) const;
  // Why the machine that runs here cannot go on; empty: it can.
  [[nodiscard]] std::string failure() const;
  // Ended, and everything that ran here was right.
  [[nodiscard]] bool succeeded() const;

 private:
  explicit Guest(GuestOptions options) : options_(std::move(options)) {}
  Result<std::unique_ptr<GuestMachine>> make_machine() const;
  Result<void> boot();
  Result<void> listen();
  void wait_for_machines(const std::stop_token& stop);
  void run_migration(const Migration& request, const std::stop_token& cancel);
  void conclude(const Result<migrate::SourceReport>& outcome);
  void add_event(const nlohmann::ordered_json& event);
  void enter(GuestState state, std::string reason = {});
  [[nodiscard]] std::shared_ptr<GuestMachine> machine() const;
  [[nodiscard]] GuestState state() const;

  const GuestOptions options_;
  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  GuestState state_ = GuestState::Waiting;
  std::string reason_;  // of the last failure
  bool stopping_ = false;
  bool verified_ = false;  // when stopped: all that ran here is known to be right
  std::shared_ptr<GuestMachine> machine_;
  std::string incoming_address_;
  std::optional<migrate::DestinationReport> arrival_;
  std::vector<std::string> events_;
  bool events_end_ = true;
  std::optional<migrate::Listener> listener_;
  std::jthread incoming_thread_;
  std::jthread migration_thread_;
};

}  // namespace gangway::guest
