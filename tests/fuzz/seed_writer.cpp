// Writes the seeds of those fuzzers whose input holds structures of this tree, so that seeds never lag behind them.
// usage: fuzz_seed_writer DIRECTORY      each seed becomes DIRECTORY/FUZZER/NAME
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <gangway/device_handle.h>
#include <gangway/endpoint.h>

#include "devices/nvme/registers.h"
#include "devices/nvme/spec.h"
#include "fuzz_device.h"
#include "nvme_steps.h"
#include "record/codec.h"
#include "record/trace_file.h"
#include "unit/record/kernel_calls.h"
#include "unit/vfio_user/raw_peer.h"

namespace gangway {
namespace {

using test::bytes;
using test::Bytes;
using test::with;
using Seeds = std::map<std::string, Bytes>;

[[noreturn]] void die(const std::string& why) {
  std::fprintf(stderr, "fuzz_seed_writer: %s\n", why.c_str());
  std::exit(1);
}
template <class T>
T must(Result<T> result) {
  if (!result) die(result.error().message);
  if constexpr (!std::is_void_v<T>) return std::move(*result);
}

// --- messages of a client ---

namespace messages {

using namespace vfio_user;

// A sequence of them. The fuzzer makes the descriptors: a DMA_MAP with an even number has one, SET_IRQS has as many as
// its number modulo 4.
class Session {
 public:
  Session& send(Command command, const Bytes& body = {}, std::uint16_t id = 0) {
    all_ = with(std::move(all_), test::RawPeer::command(command, body, 0, id));
    return *this;
  }
  Session& get(std::uint16_t feature, std::size_t reply, const Bytes& data = {}) {
    return ask(feature | kFeatureGet, reply, data);
  }
  Session& set(std::uint16_t feature, const Bytes& data = {}) { return ask(feature | kFeatureSet, data.size(), data); }
  Session& set_state(DeviceState state) {
    return set(number(Feature::MigDeviceState), bytes(FeatureDeviceState{.state = static_cast<std::uint32_t>(state)}));
  }
  Session& read_data(std::uint32_t size) {
    return send(Command::MigDataRead, bytes(MigData{.argsz = size + 8, .size = size}));
  }
  Session& write_data(std::span<const std::byte> data) {
    const auto size = static_cast<std::uint32_t>(data.size());
    return send(Command::MigDataWrite, with(bytes(MigData{.argsz = size + 8, .size = size}), data));
  }
  static constexpr std::uint16_t number(Feature feature) { return static_cast<std::uint16_t>(feature); }
  [[nodiscard]] const Bytes& all() const { return all_; }

 private:
  Session& ask(std::uint32_t flags, std::size_t room, const Bytes& data) {
    const FeatureHeader header{.argsz = static_cast<std::uint32_t>(sizeof(FeatureHeader) + room), .flags = flags};
    return send(Command::DeviceFeature, with(bytes(header), data));
  }
  Bytes all_;
};

std::unique_ptr<Endpoint> device() { return must(Endpoint::create(std::make_unique<fuzz::FuzzDevice>())); }

Bytes saved_stream() {
  const auto endpoint = device();
  Migration& migration = *endpoint->migration();
  must(migration.set_state(static_cast<std::uint32_t>(DeviceState::StopCopy)));
  Bytes stream(1U << 20);
  stream.resize(must(migration.read(stream)).size);
  return stream;
}

// In messages that end where bulk memory begins, and whose data is all such memory or none: that is what lands.
Session load_that_lands(const Bytes& stream) {
  const auto endpoint = device();
  Migration& migration = *endpoint->migration();
  must(migration.set_state(static_cast<std::uint32_t>(DeviceState::Resuming)));
  constexpr std::size_t kPiece = 5000;
  Session session;
  session.set_state(DeviceState::Resuming);
  std::size_t landings = 0;
  for (std::size_t at = 0; at < stream.size();) {
    const std::size_t landing = must(migration.landing(std::min(kPiece, stream.size() - at))).size();
    std::size_t end = at + std::max<std::size_t>(landing, 1);
    must(migration.write(std::span(stream).subspan(at, end - at)));
    while (landing == 0 && end < stream.size() && must(migration.landing(1)).empty()) {
      must(migration.write(std::span(stream).subspan(end++, 1)));
    }
    session.write_data(std::span(stream).subspan(at, end - at));
    landings += landing == 0 ? 0 : 1;
    at = end;
  }
  if (landings == 0) die("no part of the stream would land");
  must(migration.set_state(static_cast<std::uint32_t>(DeviceState::Running)));
  return session.set_state(DeviceState::Running);
}

Session load_in_pieces(const Bytes& stream, std::size_t piece) {
  Session session;
  session.set_state(DeviceState::Resuming);
  for (std::size_t at = 0; at < stream.size(); at += piece) {
    session.write_data(std::span(stream).subspan(at, std::min(piece, stream.size() - at)));
  }
  return session.set_state(DeviceState::Stop).set_state(DeviceState::Running);
}

Session save() {
  Session session;
  session.set(Session::number(Feature::MigPrecopyInfoV2)).set_state(DeviceState::PreCopy);
  session.get(kFeaturePrecopyInfo, sizeof(FeaturePrecopyInfo)).read_data(1000).read_data(0x8000);
  session.set_state(DeviceState::PreCopyP2p).read_data(100).set_state(DeviceState::StopCopy);
  session.get(Session::number(Feature::MigDataSize), sizeof(FeatureDataSize)).read_data(100).read_data(0x8000);
  return session.read_data(0x8000).set_state(DeviceState::Running);
}

Session shared_data() {
  Session session;
  session.get(kFeatureSharedData, sizeof(FeatureSharedDataSize)).set_state(DeviceState::StopCopy);
  const MigDataShared stretch{.argsz = sizeof(MigDataShared), .size = 0x2000, .offset = 0x1000};
  session.send(Command::MigDataReadShared, bytes(stretch)).set_state(DeviceState::Resuming);
  return session.send(Command::MigDataWriteShared, bytes(stretch)).set_state(DeviceState::Stop);
}

Session look_around() {
  Session session;
  session.send(Command::DeviceGetInfo, bytes(vfio::DeviceInfo{.argsz = sizeof(vfio::DeviceInfo)}));
  for (std::uint32_t index = 0; index < 10; ++index) {
    session.send(Command::DeviceGetRegionInfo, bytes(vfio::RegionInfo{.argsz = 256, .index = index}));
    session.send(Command::DeviceGetRegionIoFds, bytes(RegionIoFds{.argsz = 256, .index = index}));
  }
  for (std::uint32_t index = 0; index < 5; ++index) {
    session.send(Command::DeviceGetIrqInfo, bytes(vfio::IrqInfo{.argsz = sizeof(vfio::IrqInfo), .index = index}));
  }
  session.get(Session::number(Feature::Migration), sizeof(FeatureMigration));
  return session.get(Session::number(Feature::MigDeviceState), sizeof(FeatureDeviceState));
}

Session work() {
  Session session;
  const Bytes data(8, std::byte{0x5a});
  for (const std::uint32_t region : {0U, 1U, 7U}) {
    session.send(Command::RegionRead, bytes(RegionAccess{.offset = 0x10, .region = region, .count = 8}));
    session.send(Command::RegionWrite, with(bytes(RegionAccess{.offset = 0x40, .region = region, .count = 8}), data));
  }
  session.send(Command::RegionWriteMulti, bytes(RegionWriteMulti{2}, SingleWrite{.offset = 0x80, .count = 4, .data = 1},
                                                SingleWrite{.offset = 0x88, .count = 8, .data = 2}));
  for (std::uint16_t vectors = 1; vectors < 4; ++vectors) {
    const vfio::IrqSet set{.argsz = sizeof(vfio::IrqSet),
                           .flags = kIrqDataEventfd | kIrqActionTrigger,
                           .index = 2,
                           .start = vectors,
                           .count = vectors};
    session.send(Command::DeviceSetIrqs, bytes(set), vectors);
  }
  const vfio::IrqSet none{.argsz = sizeof(vfio::IrqSet), .flags = kIrqDataNone | kIrqActionTrigger, .index = 2};
  return session.send(Command::DeviceSetIrqs, bytes(none)).send(Command::DeviceReset);
}

Session log_dma() {
  constexpr std::uint64_t kSize = 0x10000;
  constexpr std::uint64_t kPage = 0x1000;
  Session session;
  const DmaMap map{.argsz = sizeof(DmaMap), .flags = kDmaMapRead | kDmaMapWrite, .size = kSize};
  session.send(Command::DmaMap, bytes(map), 2);
  session.set(Session::number(Feature::DmaLoggingStart),
              bytes(FeatureLoggingControl{.page_size = kPage, .ranges = 1}, LoggingRange{.length = kSize}));
  const FeatureLoggingReport report{.length = kSize, .page_size = kPage};
  session.get(Session::number(Feature::DmaLoggingReport), sizeof report + 8, bytes(report));
  session.send(
      Command::DmaUnmap,
      bytes(DmaUnmap{.argsz = sizeof(DmaUnmap) + sizeof(Bitmap) + 8, .flags = kUnmapGetDirtyBitmap, .size = kSize},
            Bitmap{.page_size = kPage, .size = 8}));
  session.set(Session::number(Feature::DmaLoggingStop)).send(Command::DmaMap, bytes(map), 1);
  return session.send(Command::DmaUnmap, bytes(DmaUnmap{.argsz = sizeof(DmaUnmap), .flags = kUnmapAll}));
}

Seeds seeds() {
  const Bytes stream = saved_stream();
  const std::string_view capabilities =
      R"({"capabilities":{"max_msg_fds":8,"max_data_xfer_size":1048576,"pgsizes":4096,"write_multiple":true,)"
      R"("migration":{"pgsize":4096,"max_bitmap_size":268435456},"twin_socket":{"supported":true},)"
      R"("gangway":{"enomsg":true,"precopy_info":true,"shared_data":true}}})";
  return {{"capabilities", test::text(capabilities)},
          {"load_that_lands", load_that_lands(stream).all()},
          {"load_in_pieces", load_in_pieces(stream, 3000).all()},
          {"save", save().all()},
          {"shared_data", shared_data().all()},
          {"look_around", look_around().all()},
          {"work", work().all()},
          {"log_dma", log_dma().all()}};
}

}  // namespace messages

// --- steps of an NVMe host ---

namespace host {

using namespace nvme;
using fuzz::NvmeStep;

constexpr std::uint32_t kInHostMemory = 0;  // an address that is bent to lie there

class Steps {
 public:
  Steps& admin(AdminOpcode opcode, Command command) { return submit(NvmeStep::AdminCommand, 0, code(opcode), command); }
  Steps& io(IoOpcode opcode, Command command, std::uint8_t queue = 0) {
    return submit(NvmeStep::IoCommand, queue, code(opcode), command);
  }
  Steps& write_register(std::uint64_t offset, std::uint32_t value) {
    return put(bytes(NvmeStep::WriteRegister, static_cast<std::uint16_t>(offset), value));
  }
  Steps& ring(std::uint8_t doorbell, std::uint8_t value) { return put(bytes(NvmeStep::RingDoorbell, doorbell, value)); }
  Steps& write_memory(std::uint32_t offset, std::uint64_t value) {
    return put(bytes(NvmeStep::WriteMemory, offset, value));
  }
  [[nodiscard]] const Bytes& all() const { return all_; }

 private:
  template <class Opcode>
  static std::uint8_t code(Opcode opcode) {
    return fuzz::nvme_opcode_for_input(static_cast<std::uint8_t>(opcode));
  }
  Steps& submit(NvmeStep step, std::uint8_t queue, std::uint8_t opcode, Command command) {
    command.opcode = opcode;
    command.cid = ++last_cid_;
    const auto chooses = static_cast<std::uint8_t>(static_cast<unsigned>(step) + (queue * 8U));
    return put(bytes(chooses, command));
  }
  Steps& put(const Bytes& more) {
    all_ = with(std::move(all_), more);
    return *this;
  }
  Bytes all_;
  std::uint16_t last_cid_ = 0;
};

Steps ask() {
  Steps steps;
  for (std::uint32_t structure = 0; structure < 4; ++structure) {
    steps.admin(AdminOpcode::Identify, {.nsid = 1, .prp1 = kInHostMemory, .cdw10 = structure});
  }
  for (std::uint32_t page = 1; page < 4; ++page) {
    steps.admin(AdminOpcode::GetLogPage, {.nsid = kBroadcastNamespace, .prp1 = 0x1000, .cdw10 = 127U << 16 | page});
  }
  for (std::uint32_t feature = 1; feature < 12; ++feature) {
    steps.admin(AdminOpcode::GetFeatures, {.nsid = 1, .prp1 = kInHostMemory, .cdw10 = feature});
    steps.admin(AdminOpcode::SetFeatures, {.nsid = 1, .prp1 = kInHostMemory, .cdw10 = feature, .cdw11 = 1});
  }
  steps.admin(AdminOpcode::AsyncEventRequest, {}).admin(AdminOpcode::Abort, {.cdw10 = 1U << 16});
  return steps;
}

Steps change_queues() {
  Steps steps;
  steps.admin(AdminOpcode::DeleteSubmissionQueue, {.cdw10 = 1}).admin(AdminOpcode::DeleteCompletionQueue, {.cdw10 = 1});
  steps.admin(AdminOpcode::CreateCompletionQueue, {.prp1 = 0x2000, .cdw10 = 15U << 16 | 3U, .cdw11 = 3});
  steps.admin(AdminOpcode::CreateSubmissionQueue, {.prp1 = 0x4000, .cdw10 = 15U << 16 | 3U, .cdw11 = 3U << 16 | 1U});
  return steps.ring(6, 1).ring(7, 1);
}

Steps read_and_write() {
  constexpr std::uint32_t kBlocks = 15;  // one less than are meant
  Steps steps;
  for (std::uint8_t queue = 0; queue < 2; ++queue) {
    const std::uint32_t nsid = queue + 1U;
    steps.io(IoOpcode::Write, {.nsid = nsid, .prp1 = 0x1000, .prp2 = 0x2000, .cdw10 = 8, .cdw12 = kBlocks}, queue);
    steps.io(IoOpcode::Read, {.nsid = nsid, .prp1 = 0x3000, .prp2 = 0x4000, .cdw10 = 8, .cdw12 = kBlocks}, queue);
    steps.io(IoOpcode::Compare, {.nsid = nsid, .prp1 = 0x1000, .prp2 = 0x2000, .cdw10 = 8, .cdw12 = kBlocks}, queue);
    steps.io(IoOpcode::WriteZeroes, {.nsid = nsid, .cdw10 = 8, .cdw12 = kBlocks | kWriteZeroesDeallocate}, queue);
    steps.io(IoOpcode::Flush, {.nsid = kBroadcastNamespace}, queue);
  }
  return steps;
}

// Lists of pages and of ranges, which lie in the host's memory behind the first 0x20000 bytes.
Steps lists() {
  constexpr std::uint32_t kData = 0x20000;
  constexpr std::uint64_t kAddress = 0x10000 + kData;
  Steps steps;
  for (std::uint32_t entry = 0; entry < 7; ++entry) {
    steps.write_memory(kData + 0x8000 + (entry * 8), kAddress + 0x10000 + (std::uint64_t{entry} * 0x1000));
  }
  steps.io(IoOpcode::Write, {.nsid = 1, .prp1 = 0x1000, .prp2 = 0x8000, .cdw12 = 63});
  steps.write_memory(kData, std::uint64_t{8} << 32).write_memory(kData + 8, 16);
  steps.write_memory(kData + 16, std::uint64_t{1} << 32).write_memory(kData + 24, 100);
  return steps.io(IoOpcode::DatasetManagement, {.nsid = 1, .cdw10 = 1, .cdw11 = kDatasetDeallocate});
}

Steps ring_by_memory() {
  Steps steps;
  steps.admin(AdminOpcode::DoorbellBufferConfig, {.prp1 = 0x1000, .prp2 = 0x2000});
  steps.io(IoOpcode::Read, {.nsid = 1, .prp1 = 0x4000}).write_memory(0x21008, 2).ring(2, 2);
  return steps.write_register(kRegisterCc, 1U << 14).write_register(kRegisterIntms, 0xff);
}

Seeds seeds() {
  return {{"ask", ask().all()},
          {"change_queues", change_queues().all()},
          {"read_and_write", read_and_write().all()},
          {"lists", lists().all()},
          {"ring_by_memory", ring_by_memory().all()}};
}

}  // namespace host

// --- recordings ---

namespace recordings {

using namespace record;

// What the fuzzers of recordings take: a byte that asks for checksums to be made right, and a file.
Bytes recording(Subject subject, const std::vector<Record>& records) {
  Bytes all(1, std::byte{1});
  all = with(std::move(all), bytes(kMagic, kFormatRevision));
  Encoder encoder;
  const auto add = [&all](const Encoded& one) {
    const Frame frame{.size = static_cast<std::uint32_t>(one.body.size()), .type = one.type};
    all = with(with(std::move(all), bytes(frame)), one.body);
  };
  add(encoder.encode(Meta{.subject = subject, .program = "gangway", .target = "seed"}));
  for (const Record& one : records) add(encoder.encode(one));
  return all;
}

// Requests of a client and what a device answers.
class Conversation {
 public:
  Conversation& ask(vfio_user::Command command, const Bytes& request, const Bytes& answer, Payload payload = {}) {
    MessageRecord message{.connection = 1,
                          .header = {.id = ++last_id_, .command = static_cast<std::uint16_t>(command)},
                          .structure = request};
    records_.emplace_back(message);
    message.direction = MessageRecord::Direction::ToClient;
    message.header.flags = vfio_user::kTypeReply;
    message.structure = answer;
    message.payload = std::move(payload);
    records_.emplace_back(std::move(message));
    return *this;
  }
  Conversation& set(DeviceState state) {
    using namespace vfio_user;
    const Bytes both = bytes(FeatureHeader{.argsz = 16, .flags = kFeatureSet | 2},
                             FeatureDeviceState{.state = static_cast<std::uint32_t>(state)});
    return ask(Command::DeviceFeature, both, both);
  }
  Conversation& read_data(std::uint32_t asked, std::uint32_t got) {
    const auto part = [](std::uint32_t size) { return bytes(vfio_user::MigData{.argsz = size + 8, .size = size}); };
    return ask(vfio_user::Command::MigDataRead, part(asked), part(got), {.size = got, .hash = got});
  }
  // Eight bytes of a region; device_state is the first of a migration region.
  Conversation& access(vfio_user::Command command, std::uint32_t region, std::uint64_t offset, std::uint64_t value) {
    const vfio_user::RegionAccess place{.offset = offset, .region = region, .count = offset == 0 ? 4U : 8U};
    const Bytes with_value = offset == 0 ? bytes(place, static_cast<std::uint32_t>(value)) : bytes(place, value);
    const bool reads = command == vfio_user::Command::RegionRead;
    return ask(command, reads ? bytes(place) : with_value, reads ? with_value : bytes(place));
  }
  [[nodiscard]] const std::vector<Record>& records() const { return records_; }

 private:
  std::vector<Record> records_;
  std::uint16_t last_id_ = 0;
};

Conversation migrate() {
  using enum DeviceState;
  Conversation talk;
  talk.ask(vfio_user::Command::DeviceReset, {}, {});
  talk.set(PreCopy).read_data(4096, 4096).read_data(4096, 10).set(PreCopyP2p).set(StopCopy);
  return talk.read_data(4096, 4096).read_data(4096, 0).set(Stop).set(Running);
}

Conversation migrate_by_v1() {
  using vfio_user::Command;
  constexpr std::uint32_t kRegion = 9;
  const vfio::CapType type{.type = 3, .subtype = 1};
  const vfio_user::RegionInfo info{
      .argsz = 64, .flags = 3 | vfio_user::kRegionCaps, .index = kRegion, .cap_offset = 32, .size = 1U << 20};
  Conversation talk;
  talk.ask(Command::DeviceGetRegionInfo, bytes(vfio_user::RegionInfo{.argsz = 64, .index = kRegion}),
           bytes(info, type));
  for (const std::uint64_t bits : {3U, 2U}) {
    talk.access(Command::RegionRead, kRegion, 0, 1).access(Command::RegionWrite, kRegion, 0, bits);
    talk.access(Command::RegionRead, kRegion, 8, 50).access(Command::RegionRead, kRegion, 16, 4096);
    talk.access(Command::RegionRead, kRegion, 24, 8).access(Command::RegionRead, kRegion, 4096, 7);
    talk.access(Command::RegionRead, kRegion, 8, 0);
  }
  talk.access(Command::RegionWrite, kRegion, 0, 0).access(Command::RegionWrite, kRegion, 0, 4);
  talk.access(Command::RegionRead, kRegion, 16, 4096).access(Command::RegionWrite, kRegion, 4096, 7);
  return talk.access(Command::RegionWrite, kRegion, 24, 8).access(Command::RegionWrite, kRegion, 0, 1);
}

Seeds seeds() {
  return {{"kernel", recording(Subject::Kernel, test::kernel_migration().records())},
          {"v2", recording(Subject::VfioUser, migrate().records())},
          {"v1", recording(Subject::VfioUser, migrate_by_v1().records())}};
}

}  // namespace recordings

void write_all(const std::filesystem::path& directory, const Seeds& seeds) {
  std::filesystem::create_directories(directory);
  for (const auto& [name, seed] : seeds) {
    std::ofstream file(directory / name, std::ios::binary | std::ios::trunc);
    file.write(reinterpret_cast<const char*>(seed.data()), static_cast<std::streamsize>(seed.size()));
    if (!file.flush()) die("cannot write " + (directory / name).string());
  }
}

}  // namespace
}  // namespace gangway

int main(int argc, char** argv) {
  using namespace gangway;
  if (argc != 2) die("say where to: fuzz_seed_writer DIRECTORY");
  const std::filesystem::path directory = argv[1];
  write_all(directory / "message_decoder_fuzzer", messages::seeds());
  write_all(directory / "nvme_command_fuzzer", host::seeds());
  write_all(directory / "recording_profile_fuzzer", recordings::seeds());
  write_all(directory / "trace_reader_fuzzer", recordings::seeds());
  return 0;
}
