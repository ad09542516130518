// Answers a client's commands from an Endpoint. Knows messages and no sockets or threads.
//
// What a connection negotiated and switched on is one plain value, apart from what uses it.
//
// Thread-safety: one thread at a time.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include <gangway/endpoint.h>
#include <gangway/error.h>
#include <gangway/fd.h>
#include <gangway/server.h>

#include "vfio_user/answer.h"
#include "vfio_user/channel.h"
#include "vfio_user/negotiation.h"
#include "vfio_user/shared_memory.h"

namespace gangway::vfio_user {

struct Negotiated {
  std::uint16_t minor = 0;
  Capabilities client;
  Capabilities server;           // limits as we said them, abilities that both have
  bool precopy_info_v2 = false;  // the client opted in to feature 12 (PRE-INFO-V2)
  bool padded_replies = false;   // to MIG_DATA_READ: Quirks::libvfio_user_client
};

struct Session {
  Endpoint& endpoint;
  Capabilities offered;                  // what this server says of itself
  Quirks quirks;                         // that are served to those who have them
  std::optional<Negotiated> negotiated;  // nothing but VERSION is answered before
  std::optional<Error> end;              // set: the connection ends after the reply
  Fd twin;                               // our end, once a twin socket was agreed on
  std::optional<SharedMemory> shared;    // once the client asked for it
};

struct Request {
  const Header& header;
  std::span<const std::byte> body;
  std::span<std::byte> placed;  // the rest of the body, where landing_for() wanted it
  std::vector<Fd>& fds;         // taken by who expects them, closed if left
};

// Fills the answer in. An error is answered with its errno and nothing else.
Result<void> handle(Session& session, Message& message, Answer& answer);

// Where the data of a MIG_DATA_WRITE belongs, if the device keeps it as it comes: to be received there (see Placer).
std::span<std::byte> landing_for(Session& session, const Header& header);
// The next bytes of it are there. What is wrong with them the message's handler says.
void landed(Session& session, std::size_t size);

// What this server says of itself to clients of `endpoint`.
Capabilities capabilities_of(Endpoint& endpoint, std::uint32_t max_data_xfer_size);

}  // namespace gangway::vfio_user
