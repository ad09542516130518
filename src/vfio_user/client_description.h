// A description of a region whose length the client does not know before it has asked: the reply's argsz says how much
// room it takes, and one asks again with that much.
#pragma once

#include <array>

#include <fmt/format.h>

#include "base/bytes.h"
#include "vfio_user/client.h"

namespace gangway::vfio_user {

// One is asked for in one message unless it takes more than the first, and never beyond the second.
constexpr std::uint32_t kUsualDescription = 1024;
constexpr std::uint32_t kLongestDescription = 64U << 10;

template <typename Fixed>
struct Client::Description {
  Fixed fixed;
  std::vector<std::byte> rest;
  std::vector<Fd> fds;
};

template <typename Fixed>
Result<Client::Description<Fixed>> Client::describe(Command command, std::uint32_t region, std::string_view what) {
  Fixed asked{.argsz = kUsualDescription, .index = region};
  const std::array body{bytes_of(asked)};
  for (;;) {
    Description<Fixed> answered;
    answered.rest.resize(asked.argsz - sizeof asked);
    Result<Channel::Reply> reply = channel_.call(command, {body, {}}, room_for(answered.fixed), answered.rest);
    if (!reply) return std::unexpected(in_words(fmt::format("region {}: {}", region, what), reply.error()));
    const Fixed& fixed = answered.fixed;
    if (reply->size < sizeof fixed || fixed.index != region || fixed.argsz > kLongestDescription) {
      return fail_protocol(fmt::format("region {}: {} came in {} bytes, for region {}, and takes {}", region, what,
                                       reply->size, fixed.index, fixed.argsz));
    }
    if (fixed.argsz <= asked.argsz) {
      answered.rest.resize(reply->size - sizeof fixed);
      answered.fds = std::move(reply->fds);
      return answered;
    }
    if (asked.argsz != kUsualDescription) {
      return fail_protocol(fmt::format("region {}: {} grows as one asks for it", region, what));
    }
    asked.argsz = fixed.argsz;
  }
}

}  // namespace gangway::vfio_user
