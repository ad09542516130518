// Acts of a client that writes its own messages.
#include <algorithm>

#include "base/bytes.h"
#include "integration/faulty/acts.h"
#include "vfio_user/protocol.h"

namespace gangway::faulty {
namespace {

using namespace vfio_user;
using conformance::WirePeer;
using Reply = WirePeer::Reply;

constexpr std::uint16_t kUnknown = 999;

template <class... Parts>
Bytes body(const Parts&... parts) {
  Bytes bytes;
  (std::ranges::copy(bytes_of(parts), std::back_inserter(bytes)), ...);
  return bytes;
}

Bytes get_info() { return body(vfio_user::DeviceInfo{.argsz = sizeof(vfio_user::DeviceInfo)}); }

Reply call(WirePeer& peer, Command command, const Bytes& bytes) {
  Reply reply = need(peer.call(command, bytes), "a command");
  right(!reply.failed(), "it is refused");
  return reply;
}

RegionAccess scratch(std::uint32_t count) {
  return {.offset = kScratch, .region = to_number(kRegisters), .count = count};
}

vfio_user::DmaMap map_without_descriptor() {
  return {.argsz = sizeof(vfio_user::DmaMap),
          .flags = kDmaMapRead | kDmaMapWrite,
          .address = Bench::kBase,
          .size = Bench::kRange.size};
}

}  // namespace

Acts wire_acts() {
  return {
      {"split_header_refused",
       [](Bench& b) {
         WirePeer peer = b.connect_by_hand();
         const Bytes whole = peer.message(static_cast<std::uint16_t>(Command::DeviceGetInfo), get_info());
         need(peer.send(std::span(whole).first(7)), "send");
         peer.await_read();
         need(peer.send(std::span(whole).subspan(7)), "send the rest");
         need(peer.receive(), "a message in two parts");
       }},
      {"refused_body_left",
       [](Bench& b) {
         WirePeer peer = b.connect_by_hand();
         need(peer.send(peer.message(kUnknown, get_info())), "send");
         right(need(peer.receive(), "an unknown command").failed(), "it succeeds");
         call(peer, Command::DeviceGetInfo, get_info());
       }},
      {"refusal_under_another_id",
       [](Bench& b) {
         WirePeer peer = b.connect_by_hand();
         need(peer.send(peer.message(kUnknown, get_info())), "send");
         right(need(peer.receive(), "an unknown command").header.id == peer.last_id(), "the refusal has another id");
       }},
      {"reply_to_no_reply",
       [](Bench& b) {
         WirePeer peer = b.connect_by_hand();
         const std::uint64_t value = 1;
         need(peer.send(peer.message(static_cast<std::uint16_t>(Command::RegionWrite),
                                     body(scratch(sizeof value), value), kNoReply)),
              "send");
         call(peer, Command::DeviceGetInfo, get_info());
       }},
      {"no_reply_dropped",
       [](Bench& b) {
         WirePeer peer = b.connect_by_hand();
         const std::uint64_t value = 0x1122'3344'5566'7788;
         need(peer.send(peer.message(static_cast<std::uint16_t>(Command::RegionWrite),
                                     body(scratch(sizeof value), value), kNoReply)),
              "send");
         const Reply reply = call(peer, Command::RegionRead, body(scratch(sizeof value)));
         right(load_at<std::uint64_t>(reply.body, sizeof(RegionAccess)) == value, "it was not written");
       }},
      {"map_reply_echoes",
       [](Bench& b) {
         WirePeer peer = b.connect_by_hand();
         right(call(peer, Command::DmaMap, body(map_without_descriptor())).body.empty(), "the reply has a payload");
       }},
      {"unmap_reply_empty",
       [](Bench& b) {
         b.map();
         b.unmap();
       }},
      {"header_sent_alone",
       [](Bench& b) {
         WirePeer peer = b.connect_by_hand();
         for (int i = 0; i < 5; ++i) {
           const Reply reply = call(peer, Command::DeviceGetRegionInfo,
                                    body(vfio_user::RegionInfo{.argsz = sizeof(vfio_user::RegionInfo), .index = 0}));
           right(reply.whole, "the header comes alone");
         }
       }},
  };
}

}  // namespace gangway::faulty
