// Notices clients that cannot migrate the device they drive, and says so where an operator can read it: they complete a
// migration of their guest without a word and lose the device's state (docs/qemu.md).
//
// One for a device, for all of its clients: the first one is told of in full, each further one in short.
//
// Thread-safety: one thread at a time.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include <gangway/endpoint.h>

#include "vfio_user/channel.h"

namespace gangway::vfio_user {

class MigrationWatch {
 public:
  void client_came();
  // To be told of each command when it has been carried out. Returns the warning that is due, once for a client.
  std::optional<std::string> carried_out(const Message& command, Endpoint& endpoint);
  // To be asked once when the client is gone, before the endpoint is told.
  std::optional<std::string> gone(Endpoint& endpoint);

 private:
  // Of the client that is here:
  bool asked_ = false;   // about migration, by a revision that the device serves
  bool drives_ = false;  // the device may do DMA, or could some time ago
  // Clients that were found so, not all of which are named:
  std::uint64_t without_asking_ = 0;
  std::uint64_t without_saving_ = 0;
};

}  // namespace gangway::vfio_user
