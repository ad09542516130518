// A client's bytes against a whole server side: cut into messages, decoded, carried out on a real endpoint.
//
// The input is what a client sends after VERSION. A command's descriptors come from its number, so that messages which
// need one find it.
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <thread>

#include <gangway/endpoint.h>
#include <gangway/server.h>

#include "base/bytes.h"
#include "fuzz_device.h"
#include "vfio_user/connection.h"
#include "vfio_user/message_reader.h"

namespace gangway::vfio_user {
namespace {

constexpr std::size_t kLongestBody = 32U << 10;

// What the kernel would hand over with a message.
std::vector<Fd> descriptors_for(const Header& header) {
  std::vector<Fd> fds;
  const auto command = static_cast<Command>(header.command);
  if (command == Command::DmaMap && header.id % 2 == 0) {
    fds.emplace_back(::memfd_create("dma", MFD_CLOEXEC));
    (void)!::ftruncate(fds.back().get(), 0x10000);
  }
  if (command == Command::DeviceSetIrqs) {
    const bool sound = header.id % 8 < 4;
    for (int i = 0; i < header.id % 4; ++i) {
      fds.emplace_back(sound ? ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) : ::memfd_create("irq", MFD_CLOEXEC));
    }
  }
  return fds;
}

// How long the reply to a command may be at most: as its client said (WIR-REPLY), or as the specification has it
// (WIR-SHAPE).
std::uint64_t longest_reply(Command command, std::span<const std::byte> body) {
  switch (command) {
    case Command::DmaUnmap:
    case Command::DeviceGetInfo:
    case Command::DeviceGetRegionInfo:
    case Command::DeviceGetRegionIoFds:
    case Command::DeviceGetIrqInfo:
    case Command::DeviceFeature:
    case Command::MigDataRead:
    case Command::MigDataReadShared:
      return load_at<std::uint32_t>(body).value_or(0);  // argsz
    case Command::RegionRead:
      return sizeof(RegionAccess) + std::uint64_t{load_at<RegionAccess>(body).value_or(RegionAccess{}).count};
    case Command::RegionWrite:
      return sizeof(RegionAccess);
    case Command::RegionWriteMulti:
      return sizeof(RegionWriteMulti);
    case Command::DmaMap:
    case Command::DeviceSetIrqs:
    case Command::DeviceReset:
    case Command::MigDataWrite:
    case Command::MigDataWriteShared:
    default:
      return 0;
  }
}

// As a channel receives it: what the device keeps as it comes goes there, in pieces, and the rest into the message.
Message receive(Session& session, Header header, std::span<const std::byte> body) {
  constexpr std::size_t kPiece = 1000;
  Message message;
  header.size = static_cast<std::uint32_t>(sizeof header + body.size());
  message.header = header;
  message.fds = descriptors_for(header);
  message.placed = landing_for(session, header);
  if (message.placed.size() > body.size()) std::abort();
  const std::size_t head = body.size() - message.placed.size();
  std::ranges::copy(body.first(head), message.body.resize(head).begin());
  for (std::size_t at = 0; at < message.placed.size();) {
    const auto piece = body.subspan(head + at, std::min(kPiece, message.placed.size() - at));
    std::ranges::copy(piece, message.placed.subspan(at).begin());
    landed(session, piece.size());
    at += piece.size();
  }
  return message;
}

// Bodies are decoded where they lie; the answer's size must be what its header can say and the client can take.
void carry_out(std::span<const std::byte> input) {
  static const std::unique_ptr<Endpoint> endpoint = *Endpoint::create(std::make_unique<fuzz::FuzzDevice>());
  Session session{.endpoint = *endpoint, .offered = capabilities_of(*endpoint, 1 << 16)};
  session.negotiated.emplace(Negotiated{.server = session.offered});
  Answer answer;
  while (const std::optional<Header> header = load_at<Header>(input)) {
    input = input.subspan(sizeof *header);
    const std::uint32_t stated = header->size - static_cast<std::uint32_t>(sizeof *header);
    const std::size_t size = std::min<std::size_t>(stated % kLongestBody, input.size());
    Message message = receive(session, *header, input.first(size));
    input = input.subspan(size);
    answer.clear();
    if (!handle(session, message, answer)) continue;
    std::uint64_t length = 0;
    for (const std::span<const std::byte> piece : answer.outgoing().body) length += piece.size();
    if (length > kMaxDirtyBitmap + 4096) std::abort();
    if (message.command() == Command::Version) continue;  // the only one whose length is the server's to choose
    if (length > longest_reply(message.command(), message.body.bytes())) std::abort();
  }
  if (!endpoint->client_gone()) std::abort();
}

// Never more from the stream than it has, whatever sizes it states.
void cut_into_messages(std::span<const std::byte> input) {
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0) return;
  const Fd reading(ends[0]);
  Fd writing(ends[1]);
  if (::send(writing.get(), input.data(), input.size(), MSG_DONTWAIT | MSG_NOSIGNAL) < 0) return;
  writing.reset();
  MessageReader reader;
  Buffer body;
  for (;;) {
    const Result<MessageReader::Progress> progress = reader.advance();
    if (!progress) return;
    if (*progress == MessageReader::Progress::Header) {
      const std::size_t size = reader.header().size - sizeof(Header);
      if (size > input.size()) return;
      reader.place({body.resize(size), {}});
    }
    if (*progress == MessageReader::Progress::NeedsBytes &&
        !reader.receive(reading.get(), Wait::No, Descriptors::Taken))
      return;
  }
}

}  // namespace
}  // namespace gangway::vfio_user

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::span<const std::byte> input = std::as_bytes(std::span(data, size));
  if (input.empty()) return 0;
  (void)gangway::vfio_user::parse_capabilities(input);
  gangway::vfio_user::cut_into_messages(input);
  gangway::vfio_user::carry_out(input);
  return 0;
}
