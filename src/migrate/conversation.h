// What both ends say to each other outside of the data: waiting for an answer, and giving up.
//
// FAILED's payload: i32 errno, u32 ran (1: devices may have run there), the sentence.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <gangway/error.h>

#include "migrate/channel.h"

namespace gangway::migrate {

struct PeerFailure {
  Error error;
  bool ran = false;
};

[[nodiscard]] std::vector<std::byte> encode(const PeerFailure& failure);
// Whatever a peer sends becomes a failure that can be shown to a person.
[[nodiscard]] PeerFailure decode_failure(std::span<const std::byte> payload);

// The next message that is not ALIVE.
Result<Channel::Message> next_message(Channel& channel, std::vector<std::byte> reuse = {});

// What the peer said when it gave up, if it did; waits briefly, for a failure of our own may be the echo of its.
std::optional<PeerFailure> last_words(Channel& channel);

}  // namespace gangway::migrate
