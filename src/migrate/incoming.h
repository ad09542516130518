// One migration at its destination, from the first connection to the end.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include <gangway/error.h>
#include <gangway/fd.h>

#include "migrate/channel_set.h"
#include "migrate/destination.h"
#include "migrate/device_receiver.h"
#include "migrate/machine.h"
#include "migrate/memory_receiver.h"
#include "migrate/prefault.h"
#include "migrate/round_gate.h"
#include "migrate/timeline.h"

namespace gangway::migrate {

class Incoming {
 public:
  Incoming(Machine& machine, const Fd& listener, const DestinationOptions& options);
  ~Incoming();
  Incoming(const Incoming&) = delete;
  Incoming& operator=(const Incoming&) = delete;

  Result<DestinationReport> run();

 private:
  Result<void> until_committed();
  Result<void> take_over();

  Result<void> accept_source();
  Result<void> accept_further(const Hello& first);
  Result<Channel*> accept_one(std::optional<std::chrono::milliseconds> wait);
  Result<Hello> greet(Channel& channel);
  Result<void> agree(PageSet in_use);
  Result<void> prepare_devices(std::size_t count);
  Result<void> receive_until_last();
  Result<void> receive_one(Channel::Message& message);
  Result<void> end_round(std::span<const std::byte> payload);
  Result<void> load(std::span<const std::byte> payload);
  Result<Channel::Message> next();
  Result<Channel::Message> next_or_commit();

  void receive_memory(Channel& channel);
  Result<void> await_memory(Channel& channel);
  void start_receivers();
  void stop_receivers();
  void note_failure(Error error);

  std::unexpected<Error> give_up(Error error);

  Machine& machine_;
  const Fd& listener_;
  const DestinationOptions& options_;
  Timeline timeline_;
  ChannelSet channels_;
  std::unique_ptr<Prefault> prefault_;
  std::optional<MemoryReceiver> memory_;
  std::optional<DeviceReceiver> devices_;
  std::optional<RoundGate> gate_;
  std::optional<std::vector<std::byte>> cpus_;
  bool greeted_ = false;  // the peer is a source
  bool source_gave_up_ = false;

  std::atomic<bool> control_waits_{false};  // at the gate, for the channels beside it
  std::mutex failure_mutex_;
  std::optional<Error> failure_;  // of another channel
  std::vector<std::jthread> receivers_;
};

}  // namespace gangway::migrate
