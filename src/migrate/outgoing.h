// One migration at its source, from the connection to the end.
#pragma once

#include <chrono>
#include <memory>
#include <optional>

#include <gangway/error.h>

#include "migrate/address.h"
#include "migrate/channel_set.h"
#include "migrate/conversation.h"
#include "migrate/device_sender.h"
#include "migrate/dma_logs.h"
#include "migrate/machine.h"
#include "migrate/memory_sender.h"
#include "migrate/meter.h"
#include "migrate/page_set.h"
#include "migrate/setup.h"
#include "migrate/source.h"
#include "migrate/switchover.h"
#include "migrate/timeline.h"

namespace gangway::migrate {

class Outgoing {
 public:
  Outgoing(Machine& machine, const SourceOptions& options);

  Result<SourceReport> run(const Address& destination);

 private:
  Result<void> until_prepared(const Address& destination);
  Result<void> connect(const Address& destination);
  Result<void> set_up();
  Result<void> start_tracking();
  Result<void> pre_copy();
  Result<void> send_round(bool final);
  Result<void> collect();
  Result<Figures> figures(int fitting_rounds);
  Result<void> switch_over();

  // From the order to run on nobody may run the machine here unless the destination says that it does not.
  Result<SourceReport> commit();
  Result<void> expect(MessageType type);
  SourceReport report();

  // Before the order to run: back to where the machine was.
  std::unexpected<Error> give_up(Error error);
  Result<void> take_back();
  void stop_tracking();

  Machine& machine_;
  const SourceOptions& options_;
  Timeline timeline_;
  Meter meter_;
  ChannelSet channels_;
  Setup setup_;
  PageSet pending_;  // to be sent
  DmaLogs logs_;
  std::optional<MemorySender> memory_;
  std::optional<DeviceSender> devices_;
  std::optional<PeerFailure> peer_failure_;
  std::chrono::nanoseconds round_trip_{0};
  double bandwidth_ = 0;
  double dirty_rate_ = 0;
  Timeline::Clock::time_point collected_;
  Timeline::Clock::time_point paused_at_;
  int rounds_ = 0;
  bool tracking_ = false;
  bool paused_ = false;
  bool converged_ = false;
};

}  // namespace gangway::migrate
