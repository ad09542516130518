// What is done wrong to messages between a good server and its clients. The device behind it is the good one: a
// device's author does not see the wire, so none of his classes could do these. src/faulty_wire/ does them.
#pragma once

#include <cstdint>

namespace gangway::faulty {

enum class WireFault : std::uint8_t {
  None,
  SplitHeaderRefused,
  RefusedBodyLeft,
  RefusalUnderAnotherId,
  ReplyToNoReply,
  NoReplyDropped,
  MapReplyEchoes,
  UnmapReplyEmpty,
  HeaderSentAlone,
  TransferLimitIgnored,
  PrecopyFlagsEchoed,
};

}  // namespace gangway::faulty
