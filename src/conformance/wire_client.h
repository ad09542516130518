// A client that writes its own messages: what the tests of the wire send, and how they judge what comes.
//
// Thread-safety: one thread.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include <gangway/contract.h>

#include "base/bytes.h"
#include "conformance/test.h"
#include "conformance/wire_peer.h"

namespace gangway::conformance::wire {

// The wire's structures that have a namesake one room up: a file that uses both rooms' names means these.
using vfio_user::DeviceInfo;
using vfio_user::DmaMap;
using vfio_user::IrqInfo;
using vfio_user::IrqSet;
using vfio_user::RegionInfo;
using Reply = WirePeer::Reply;

inline constexpr std::string_view kPlain = R"({"capabilities":{"max_msg_fds":8,"max_data_xfer_size":1048576}})";
inline constexpr unsigned kPlainFds = 8;  // that it takes in a message
inline constexpr std::uint64_t kMapped = 0x4000'0000;
inline constexpr std::uint64_t kPage = 4096;

// The suite's own connection makes room first: a server has one client at a time.
WirePeer connect(Context& c);
// The same, before it says what it is.
WirePeer connect_silently(Context& c);

template <class... Parts>
Bytes body(const Parts&... parts) {
  Bytes bytes;
  const auto add = [&bytes](std::span<const std::byte> part) { bytes.insert(bytes.end(), part.begin(), part.end()); };
  (add(bytes_of(parts)), ...);
  return bytes;
}

// Bodies of commands.
Bytes get_info();
Bytes set_state(DeviceState state);
Bytes get_state();
Bytes start_log();
Bytes stop_log();
Bytes report_log(std::uint64_t pages, std::uint32_t bitmap_bytes);
Bytes read_data(std::uint32_t size);
Bytes map_memory();
Bytes trigger(IrqType type);

// Leaves the device RUNNING behind: a state that is held over a close is for the tests that run last.
class AtRest {
 public:
  explicit AtRest(WirePeer& peer) : peer_(peer) {}
  AtRest(const AtRest&) = delete;
  AtRest& operator=(const AtRest&) = delete;
  ~AtRest() { (void)peer_.call(vfio_user::Command::DeviceReset, {}); }

 private:
  WirePeer& peer_;
};

// A step: Untestable when it is refused.
WirePeer::Reply call(WirePeer& peer, vfio_user::Command command, const Bytes& body, std::string_view what,
                     std::span<const int> fds = {});

void expect_in_step(std::string_view clause, WirePeer& peer, const std::string& after);

}  // namespace gangway::conformance::wire
