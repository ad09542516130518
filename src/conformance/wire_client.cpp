#include "conformance/wire_client.h"

#include <fmt/core.h>

#include "conformance/steps.h"

namespace gangway::conformance::wire {

using namespace vfio_user;

WirePeer connect_silently(Context& c) {
  constexpr std::string_view kScheme = "vfio-user:";
  c.device.close();
  return step(WirePeer::connect(std::string(c.target.substr(kScheme.size())), c.settings.limit), "connect");
}

WirePeer connect(Context& c) {
  WirePeer peer = connect_silently(c);
  c.journal.act(fmt::format("# a client of its own, which says {}", kPlain));
  step(peer.negotiate(kPlain), "negotiate");
  return peer;
}

Bytes get_info() { return body(DeviceInfo{.argsz = sizeof(DeviceInfo)}); }

Bytes set_state(DeviceState state) {
  constexpr std::uint32_t kFlags = kFeatureSet | static_cast<std::uint32_t>(Feature::MigDeviceState);
  return body(FeatureHeader{.argsz = sizeof(FeatureHeader) + sizeof(FeatureDeviceState), .flags = kFlags},
              FeatureDeviceState{.state = static_cast<std::uint32_t>(state)});
}

Bytes get_state() {
  constexpr std::uint32_t kFlags = kFeatureGet | static_cast<std::uint32_t>(Feature::MigDeviceState);
  return body(FeatureHeader{.argsz = sizeof(FeatureHeader) + sizeof(FeatureDeviceState), .flags = kFlags});
}

Bytes start_log() {
  constexpr std::uint32_t kFlags = kFeatureSet | static_cast<std::uint32_t>(Feature::DmaLoggingStart);
  return body(FeatureHeader{.argsz = sizeof(FeatureHeader) + sizeof(FeatureLoggingControl) + sizeof(LoggingRange),
                            .flags = kFlags},
              FeatureLoggingControl{.page_size = kPage, .ranges = 1},
              LoggingRange{.iova = kMapped, .length = 16 * kPage});
}

Bytes stop_log() {
  constexpr std::uint32_t kFlags = kFeatureSet | static_cast<std::uint32_t>(Feature::DmaLoggingStop);
  return body(FeatureHeader{.argsz = sizeof(FeatureHeader), .flags = kFlags});
}

Bytes report_log(std::uint64_t pages, std::uint32_t bitmap_bytes) {
  constexpr std::uint32_t kFlags = kFeatureGet | static_cast<std::uint32_t>(Feature::DmaLoggingReport);
  return body(FeatureHeader{.argsz = static_cast<std::uint32_t>(sizeof(FeatureHeader) + sizeof(FeatureLoggingReport) +
                                                                bitmap_bytes),
                            .flags = kFlags},
              FeatureLoggingReport{.iova = kMapped, .length = pages * kPage, .page_size = kPage});
}

Bytes read_data(std::uint32_t size) {
  return body(MigData{.argsz = static_cast<std::uint32_t>(sizeof(MigData) + size), .size = size});
}

Bytes map_memory() {
  return body(
      DmaMap{.argsz = sizeof(DmaMap), .flags = kDmaMapRead | kDmaMapWrite, .address = kMapped, .size = 16 * kPage});
}

Reply call(WirePeer& peer, Command command, const Bytes& body, std::string_view what, std::span<const int> fds) {
  Reply reply = step(peer.call(command, body, fds), what);
  if (reply.failed()) throw Untestable{fmt::format("{} is refused", what)};
  return reply;
}

Bytes trigger(IrqType type) {
  return body(IrqSet{.argsz = sizeof(IrqSet),
                     .flags = kIrqDataNone | kIrqActionTrigger,
                     .index = to_number(type),
                     .start = 0,
                     .count = 1});
}

void expect_in_step(std::string_view clause, WirePeer& peer, const std::string& after) {
  const Reply reply =
      expect_answer(clause, peer.call(Command::DeviceGetInfo, get_info()), after + " the next command is answered");
  expect(clause, !reply.failed() && reply.body.size() == sizeof(DeviceInfo),
         after + " the next command is answered as ever",
         fmt::format("error {} with {} bytes", reply.header.error, reply.body.size()));
}

}  // namespace gangway::conformance::wire
