// Notices clients that cannot migrate the device they drive, and says so where an operator can read it: they complete a
// migration of their guest without a word and lose the device's state (docs/qemu.md).
//
// Thread-safety: one thread at a time.
#pragma once

#include <optional>
#include <string>

#include <gangway/endpoint.h>

#include "vfio_user/protocol.h"

namespace gangway::vfio_user {

class MigrationWatch {
 public:
  // To be told of each command when it has been carried out. Returns the warning that is due, once.
  std::optional<std::string> carried_out(Command command, Endpoint& endpoint);
  // To be asked when the client is gone, before the endpoint is told.
  [[nodiscard]] std::optional<std::string> gone(Endpoint& endpoint) const;

 private:
  bool asked_ = false;   // by a device feature, of which migration is one
  bool drives_ = false;  // the device may do DMA, or could some time ago
};

}  // namespace gangway::vfio_user
