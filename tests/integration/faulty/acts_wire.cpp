// Acts of a client that writes its own messages.
#include <algorithm>
#include <array>
#include <utility>

#include "base/bytes.h"
#include "integration/faulty/acts.h"
#include "vfio_user/protocol.h"
#include "vfio_user/socket.h"

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

template <class T>
void set_register(WirePeer& peer, std::uint64_t offset, T value) {
  call(peer, Command::RegionWrite,
       body(RegionAccess{.offset = offset, .region = to_number(kRegisters), .count = sizeof value}, value));
}

void read_exactly(int socket, std::span<std::byte> out) {
  std::vector<Fd> fds;
  while (!out.empty()) {
    std::array<iovec, 1> into{{{out.data(), out.size()}}};
    out = out.subspan(need(receive(socket, into, fds, Wait::Yes), "read a message"));
  }
}

// What the server asks next; of replies nothing is left.
struct Asked {
  Header header;
  Bytes body;
};
Asked next_command(WirePeer& peer) {
  for (;;) {
    Asked asked;
    read_exactly(peer.socket(), std::as_writable_bytes(std::span(&asked.header, 1)));
    asked.body.resize(asked.header.size - sizeof asked.header);
    read_exactly(peer.socket(), asked.body);
    if ((asked.header.flags & kTypeMask) == kTypeCommand) return asked;
  }
}

// A page of DMA to a client without descriptors that takes `most` bytes in a message.
void dma_keeps_to(Bench& bench, std::uint32_t most) {
  WirePeer peer = bench.connect_by_hand(most);
  set_receive_timeout(peer.socket(), std::chrono::seconds(10));
  call(peer, Command::DmaMap, body(map_without_descriptor()));
  set_register(peer, kDmaAddress, Bench::kBase);
  for (const auto& [offset, value] : {std::pair{kDmaLength, std::uint32_t{Bench::kPage}}, std::pair{kDmaWindow, 1U},
                                      std::pair{kDmaPieces, 1U}, std::pair{kPace, 0U}, std::pair{kPattern, 1U}}) {
    set_register(peer, offset, value);
  }
  need(peer.send(peer.message(
           static_cast<std::uint16_t>(Command::RegionWrite),
           body(RegionAccess{.offset = kKick, .region = to_number(kRegisters), .count = sizeof(std::uint32_t)},
                std::uint32_t{1}))),
       "kick");
  for (std::uint64_t moved = 0; moved < Bench::kPage;) {
    const Asked asked = next_command(peer);
    right(asked.header.command == static_cast<std::uint16_t>(Command::DmaWrite), "another command");
    const auto access = load_at<DmaAccessMessage>(asked.body).value_or(DmaAccessMessage{});
    right(access.count <= most, "a message is longer than the client takes");
    moved += access.count;
    Header header = asked.header;
    header.size = sizeof header + sizeof access;
    header.flags = kTypeReply;
    need(peer.send(body(header, access)), "answer");
  }
}

}  // namespace

Acts wire_acts() {
  return {
      {"precopy_flags_echoed",
       [](Bench& b) {
         b.go(DeviceState::PreCopy);
         const FeaturePrecopyInfo asked{.argsz = sizeof asked, .flags = 0xf0};
         const auto reply =
             need(b.device().feature_get(static_cast<Feature>(kFeaturePrecopyInfo), bytes_of(asked), sizeof asked),
                  "ask for the information");
         right(load_at<FeaturePrecopyInfo>(reply).value_or(asked).flags == 0, "the flags came back");
       }},
      {"transfer_limit_ignored", [](Bench& b) { dma_keeps_to(b, 1024); }},
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
