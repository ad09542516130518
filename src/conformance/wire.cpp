// WIR: vfio-user, byte by byte.
#include <algorithm>
#include <array>
#include <limits>

#include <fmt/core.h>

#include "base/bytes.h"
#include "conformance/steps.h"
#include "conformance/wire_client.h"

namespace gangway::conformance {
namespace {

using namespace wire;
using namespace vfio_user;

// --- negotiation and framing ---

void any_version_is_negotiated(Context& c) {
  for (const std::string_view json :
       {std::string_view(), std::string_view("{}"), std::string_view(R"({"capabilities":{}})"),
        std::string_view(R"({"capabilities":{"max_msg_fds":1,"of_the_future":{"a":[1,2]}},"unknown":true})"), kPlain}) {
    WirePeer peer = connect_silently(c);
    c.journal.act(fmt::format("# VERSION with '{}'", json));
    expect_done("WIR-NEGOTIATE", peer.negotiate(json), fmt::format("VERSION with '{}' is answered", json));
    expect_in_step("WIR-NEGOTIATE", peer, fmt::format("after VERSION with '{}'", json));
  }
}

void messages_may_be_split_anywhere(Context& c) {
  WirePeer peer = connect(c);
  const Bytes whole = peer.message(static_cast<std::uint16_t>(Command::DeviceGetInfo), get_info());
  for (std::size_t cut = 1; cut < whole.size(); ++cut) {
    expect_done("WIR-FRAME", peer.send(std::span(whole).first(cut)), "the first part of a message is taken");
    peer.await_read();  // together they would be no parts
    expect_done("WIR-FRAME", peer.send(std::span(whole).subspan(cut)), "the rest of a message is taken");
    const Reply reply =
        expect_answer("WIR-FRAME", peer.receive(), fmt::format("a message split at byte {} is answered", cut));
    expect("WIR-FRAME", !reply.failed() && reply.body.size() == sizeof(DeviceInfo),
           fmt::format("a message split at byte {} is answered as ever", cut),
           fmt::format("error {}", reply.header.error));
  }
}

// An error reply and in step, or a clean end; never silence, never another's reply.
void expect_refused_or_closed(Context& c, const std::string& what, const Bytes& bytes) {
  WirePeer peer = connect(c);
  c.journal.act("# " + what);
  (void)peer.send(bytes);
  const Result<Reply> reply = peer.receive();
  if (!reply && reply.error().code == ECONNRESET) return;
  if (!reply) fail_clause("WIR-FRAME", what + ": an error reply or a clean close", to_text(reply.error()));
  expect("WIR-FRAME", reply->failed(), what + ": an error reply or a clean close", "success");
  const auto asked = load_at<Header>(bytes).value_or(Header{});
  expect("WIR-FRAME", reply->header.id == asked.id && reply->header.command == asked.command,
         fmt::format("{}: the error reply is to command {} of id {}", what, asked.command, asked.id),
         fmt::format("to command {} of id {}", reply->header.command, reply->header.id));
  expect_in_step("WIR-FRAME", peer, "after " + what);
}

void malformed_messages_are_refused(Context& c) {
  WirePeer writer = connect(c);
  const auto info = static_cast<std::uint16_t>(Command::DeviceGetInfo);
  Bytes short_size = writer.message(info, get_info());
  const std::uint32_t eight = 8;
  (void)store_at(std::span(short_size), offsetof(Header, size), eight);
  Bytes long_size = writer.message(info, get_info());
  (void)store_at(std::span(long_size), offsetof(Header, size), std::numeric_limits<std::uint32_t>::max());
  Bytes no_type = writer.message(info, get_info());
  (void)store_at(std::span(no_type), offsetof(Header, flags), kTypeReply + 1);
  const Bytes unknown = writer.message(999, get_info());
  const Bytes no_body = writer.message(info, {});
  const Bytes small_argsz = writer.message(info, body(DeviceInfo{.argsz = 4}));
  writer.close();
  expect_refused_or_closed(c, "a message whose size is less than a header", short_size);
  expect_refused_or_closed(c, "a message whose size is 4 GiB", long_size);
  expect_refused_or_closed(c, "a message that is neither command nor reply", no_type);
  expect_refused_or_closed(c, "an unknown command", unknown);
  expect_refused_or_closed(c, "a command without its body", no_body);
  expect_refused_or_closed(c, "an argsz that holds no reply", small_argsz);
}

constexpr std::uint64_t kCommandRegister = 0x04;
constexpr std::uint16_t kMaster = 0x0004;

Bytes write_command(std::uint16_t value) {
  return body(RegionAccess{.offset = kCommandRegister, .region = to_number(RegionIndex::Config), .count = sizeof value},
              value);
}

std::uint16_t read_command(WirePeer& peer) {
  const Reply reply =
      call(peer, Command::RegionRead,
           body(RegionAccess{
               .offset = kCommandRegister, .region = to_number(RegionIndex::Config), .count = sizeof(std::uint16_t)}),
           "a read of COMMAND");
  return load_at<std::uint16_t>(reply.body, sizeof(RegionAccess)).value_or(0);
}

void no_reply_is_honoured(Context& c) {
  WirePeer peer = connect(c);
  for (int i = 0; i < 3; ++i) {
    step(peer.send(peer.message(static_cast<std::uint16_t>(Command::RegionWrite), write_command(0), kNoReply)), "send");
  }
  expect_in_step("WIR-NOREPLY", peer, "after commands that want no reply");
}

// What a write with a reply changes, one without does too.
void no_reply_is_carried_out(Context& c) {
  WirePeer peer = connect(c);
  const std::uint16_t before = read_command(peer);
  const auto other = static_cast<std::uint16_t>(before ^ kMaster);
  call(peer, Command::RegionWrite, write_command(other), "a write of COMMAND");
  if (read_command(peer) != other) throw Untestable{"COMMAND of this device cannot be written", false};
  call(peer, Command::RegionWrite, write_command(before), "a write of COMMAND");
  step(peer.send(peer.message(static_cast<std::uint16_t>(Command::RegionWrite), write_command(other), kNoReply)),
       "send");
  // A reply that should not be there is for no_reply_is_honoured().
  const std::uint16_t after = read_command(peer);
  expect("WIR-NOREPLY", after == other, "a command that wants no reply is carried out",
         fmt::format("COMMAND is {:#06x} and not {:#06x}", after, other));
}

// --- replies ---

void expect_shape(const Reply& reply, std::size_t size, std::string_view what) {
  expect("WIR-SHAPE", reply.body.size() == size, fmt::format("the reply to {} has {} bytes of payload", what, size),
         fmt::format("{} bytes", reply.body.size()));
}

void expect_shapes_of_accesses(WirePeer& peer) {
  const RegionAccess identity{.offset = 0, .region = to_number(RegionIndex::Config), .count = 4};
  expect_shape(call(peer, Command::RegionRead, body(identity), "REGION_READ"), sizeof identity + identity.count,
               "REGION_READ of 4 bytes");
  expect_shape(call(peer, Command::RegionWrite, write_command(0), "REGION_WRITE"), sizeof identity, "REGION_WRITE");
}

void replies_have_their_payload(Context& c) {
  WirePeer peer = connect(c);
  const AtRest at_rest(peer);
  expect_shape(call(peer, Command::DeviceGetInfo, get_info(), "GET_INFO"), sizeof(DeviceInfo), "GET_INFO");
  if (c.abilities.info.irqs != 0) {
    expect_shape(call(peer, Command::DeviceGetIrqInfo, body(IrqInfo{.argsz = sizeof(IrqInfo)}), "GET_IRQ_INFO"),
                 sizeof(IrqInfo), "GET_IRQ_INFO");
  }
  if ((c.abilities.have & kPci) != 0) expect_shapes_of_accesses(peer);
  expect_shape(call(peer, Command::DmaMap, map_memory(), "DMA_MAP"), 0, "DMA_MAP");
  expect_shape(call(peer, Command::DmaUnmap,
                    body(DmaUnmap{.argsz = sizeof(DmaUnmap), .address = kMapped, .size = 16 * kPage}), "DMA_UNMAP"),
               sizeof(DmaUnmap), "DMA_UNMAP");
  if ((c.abilities.have & kReset) != 0)
    expect_shape(call(peer, Command::DeviceReset, {}, "DEVICE_RESET"), 0, "DEVICE_RESET");
  for (const IrqType type : {IrqType::Msix, IrqType::Msi, IrqType::Intx}) {
    const Reply reply = step(peer.call(Command::DeviceSetIrqs, trigger(type)), "SET_IRQS");
    if (!reply.failed()) expect_shape(reply, 0, "SET_IRQS");
  }
  if ((c.abilities.have & kMigration) == 0) return;
  const Bytes stop = set_state(DeviceState::Stop);
  const Reply set = call(peer, Command::DeviceFeature, stop, "SET of STOP");
  expect("WIR-SHAPE", set.body == stop, "a DEVICE_FEATURE SET echoes its request",
         fmt::format("{} other bytes", set.body.size()));
  call(peer, Command::DeviceFeature, set_state(DeviceState::Resuming), "SET of RESUMING");
  expect_shape(call(peer, Command::MigDataWrite, body(MigData{.argsz = sizeof(MigData), .size = 0}), "MIG_DATA_WRITE"),
               0, "MIG_DATA_WRITE");
}

void expect_fits(const Reply& reply, std::size_t argsz, std::string_view what) {
  expect("WIR-REPLY", reply.body.size() <= argsz, fmt::format("the reply to {} keeps to an argsz of {}", what, argsz),
         fmt::format("{} bytes", reply.body.size()));
  expect("WIR-REPLY", reply.whole, fmt::format("the header of the reply to {} leaves in one write with its body", what),
         "a header alone");
}

void replies_fit_the_client(Context& c) {
  WirePeer peer = connect(c);
  expect_fits(call(peer, Command::DeviceGetInfo, get_info(), "GET_INFO"), sizeof(DeviceInfo), "GET_INFO");
  for (std::uint32_t region = 0; region < c.abilities.info.regions; ++region) {
    const Result<Reply> reply =
        peer.call(Command::DeviceGetRegionInfo, body(RegionInfo{.argsz = sizeof(RegionInfo), .index = region}));
    if (reply && !reply->failed()) expect_fits(*reply, sizeof(RegionInfo), "GET_REGION_INFO");
  }
}

void data_replies_fit_the_client(Context& c) {
  WirePeer peer = connect(c);
  const AtRest at_rest(peer);
  call(peer, Command::DeviceFeature, set_state(DeviceState::StopCopy), "SET of STOP_COPY");
  for (const std::uint32_t size : {1U, 8U, 64U, 100U, 3000U}) {
    const Reply reply = call(peer, Command::MigDataRead, read_data(size), "MIG_DATA_READ");
    expect_fits(reply, sizeof(MigData) + size, "MIG_DATA_READ");
  }
}

void log_replies_fit_the_client(Context& c) {
  WirePeer peer = connect(c);
  call(peer, Command::DeviceFeature, start_log(), "DMA_LOGGING_START");
  for (const std::uint64_t pages : {1ULL, 7ULL, 16ULL}) {
    // The whole words that so many bits need, and not a byte more.
    const Reply reply = call(peer, Command::DeviceFeature, report_log(pages, 8), "DMA_LOGGING_REPORT");
    expect_fits(reply, sizeof(FeatureHeader) + sizeof(FeatureLoggingReport) + 8, "DMA_LOGGING_REPORT");
  }
}

// --- migration data ---

// Reads to the end in replies of `size`; a short one must be the end.
void expect_full_replies(WirePeer& peer, std::uint32_t size) {
  bool ended = false;
  for (int reads = 0; !ended && reads < 100'000; ++reads) {
    const Reply reply = call(peer, Command::MigDataRead, read_data(size), "MIG_DATA_READ");
    const std::size_t got = reply.body.size() - std::min(reply.body.size(), sizeof(MigData));
    ended = got < size;
  }
  const Reply after = call(peer, Command::MigDataRead, read_data(size), "MIG_DATA_READ at the end");
  expect("WIR-MIGREAD", after.body.size() <= sizeof(MigData),
         fmt::format("a MIG_DATA_READ of {} is answered in full unless the data ends there", size),
         fmt::format("{} bytes come after a short reply", after.body.size() - sizeof(MigData)));
}

void short_data_means_the_end(Context& c) {
  for (const std::uint32_t size : {100U, 4096U, 65536U, 131072U, 1U << 20}) {
    WirePeer peer = connect(c);
    const AtRest at_rest(peer);
    call(peer, Command::DeviceFeature, set_state(DeviceState::StopCopy), "SET of STOP_COPY");
    expect_full_replies(peer, size);
  }
}

void temporary_end_is_short_to_a_plain_client(Context& c) {
  WirePeer peer = connect(c);
  const AtRest at_rest(peer);
  call(peer, Command::DeviceFeature, set_state(DeviceState::PreCopy), "SET of PRE_COPY");
  for (int reads = 0; reads < 100'000; ++reads) {
    const Reply reply = step(peer.call(Command::MigDataRead, read_data(65536)), "MIG_DATA_READ");
    expect("WIR-MIGREAD", !reply.failed(), "a temporary end is a short reply to a client that did not negotiate ENOMSG",
           fmt::format("error {}", reply.header.error));
    if (reply.body.size() <= sizeof(MigData)) return;
  }
}

}  // namespace

std::vector<Test> wire_tests() {
  constexpr std::uint32_t kData = kWire | kMigration;
  return {
      {"any_version_is_negotiated", {"WIR-NEGOTIATE"}, kWire, any_version_is_negotiated},
      {"messages_may_be_split_anywhere", {"WIR-FRAME"}, kWire, messages_may_be_split_anywhere},
      {"malformed_messages_are_refused", {"WIR-FRAME"}, kWire, malformed_messages_are_refused},
      {"no_reply_is_honoured", {"WIR-NOREPLY"}, kWire, no_reply_is_honoured},
      {"no_reply_is_carried_out", {"WIR-NOREPLY"}, kWire | kPci, no_reply_is_carried_out},
      {"replies_have_their_payload", {"WIR-SHAPE"}, kWire, replies_have_their_payload},
      {"replies_fit_the_client", {"WIR-REPLY"}, kWire, replies_fit_the_client},
      {"data_replies_fit_the_client", {"WIR-REPLY"}, kData, data_replies_fit_the_client},
      {"log_replies_fit_the_client", {"WIR-REPLY"}, kWire | kDmaLogging, log_replies_fit_the_client},
      {"short_data_means_the_end", {"WIR-MIGREAD"}, kData, short_data_means_the_end},
      {"temporary_end_is_short_to_a_plain_client",
       {"WIR-MIGREAD"},
       kData | kPreCopy,
       temporary_end_is_short_to_a_plain_client},
  };
}

}  // namespace gangway::conformance
