// Carries out the commands of the admin queue.
// Source: NVM Express 1.4, 5.
//
// Thread-safety: the I/O thread's own.
#pragma once

#include <optional>

#include "devices/nvme/controller_state.h"
#include "devices/nvme/spec.h"
#include "devices/nvme/status.h"

namespace gangway::nvme {

class AdminCommands {
 public:
  explicit AdminCommands(ControllerState& state) : state_(state) {}

  // nullopt: it completes later. Either it waits for an event, or for a queue to drain (SubmissionQueue::deletion_cid).
  std::optional<Outcome> execute(const Command& command);

 private:
  Outcome identify(const Command& command);
  Outcome get_log_page(const Command& command);
  Outcome get_features(const Command& command);
  Outcome set_features(const Command& command);
  Outcome abort(const Command& command);
  std::optional<Outcome> async_event_request(const Command& command);
  Outcome doorbell_buffer_config(const Command& command);

  Outcome create_completion_queue(const Command& command);
  Outcome create_submission_queue(const Command& command);
  Outcome delete_completion_queue(const Command& command);
  std::optional<Outcome> delete_submission_queue(const Command& command);
  [[nodiscard]] Status check_queue(const Command& command) const;

  void report_temperature();

  ControllerState& state_;
};

}  // namespace gangway::nvme
