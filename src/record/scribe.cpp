#include "record/scribe.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <string_view>

#include <fmt/format.h>

#include "record/structures.h"

namespace gangway::record {
namespace {

namespace wire = vfio_user;

Descriptor::Kind kind_of(const struct stat& info, std::string_view link) {
  using Kind = Descriptor::Kind;
  if (link.starts_with("/memfd:")) return Kind::Memory;
  if (link.starts_with("anon_inode:")) return link.find("eventfd") != link.npos ? Kind::Eventfd : Kind::Other;
  switch (info.st_mode & S_IFMT) {
    case S_IFREG:
      return Kind::File;
    case S_IFSOCK:
      return Kind::Socket;
    case S_IFIFO:
      return Kind::Pipe;
    case S_IFCHR:
    case S_IFBLK:
      return Kind::Device;
    default:
      return Kind::Other;
  }
}

constexpr std::size_t kDecisive = sizeof(wire::RegionAccess);  // bytes at the front of a body that say what it is

bool is_error(const wire::Header& header) { return (header.flags & wire::kError) != 0; }
bool is_reply(const wire::Header& header) { return (header.flags & wire::kTypeMask) == wire::kTypeReply; }

}  // namespace

Descriptor describe(const Fd& fd) {
  struct stat info{};
  if (::fstat(fd.get(), &info) != 0) return {};
  std::array<char, 256> link{};
  const ssize_t size = ::readlink(fmt::format("/proc/self/fd/{}", fd.get()).c_str(), link.data(), link.size());
  const int seals = ::fcntl(fd.get(), F_GET_SEALS);
  return {.kind = kind_of(info, std::string_view(link.data(), static_cast<std::size_t>(std::max<ssize_t>(size, 0)))),
          .sealed = seals >= 0 && (seals & F_SEAL_SHRINK) != 0,
          .size = static_cast<std::uint64_t>(info.st_size)};
}

Scribe::Scribe(TraceWriter& writer, std::uint32_t connection, Clock::time_point began, KeepPayload keep)
    : writer_(writer), connection_(connection), began_(began), keep_(keep) {}

void Scribe::note(ConnectionRecord::Event event, std::string text) {
  writer_.write(ConnectionRecord{.time = now(), .connection = connection_, .event = event, .text = std::move(text)});
}

Scribe::Passing& Scribe::passing(wire::LaneId lane) {
  return passing_.at(static_cast<std::size_t>(lane.direction) + 2 * static_cast<std::size_t>(lane.socket));
}

void Scribe::began(wire::LaneId lane, const wire::Header& header, std::span<const Fd> fds) {
  Passing& passing = this->passing(lane);
  MessageRecord& record = passing.record;
  record.time = now();
  record.connection = connection_;
  record.direction = static_cast<MessageRecord::Direction>(lane.direction);
  record.path = static_cast<MessageRecord::Path>(lane.socket);
  record.cut = record.by_sharing = false;
  record.header = header;
  record.descriptors.clear();
  for (const Fd& fd : fds) record.descriptors.push_back(describe(fd));
  record.structure.clear();
  record.payload = {};
  passing.sized = false;
  offered_.reset();
  if (is_reply(header) && fds.size() == 1 && !shared_) {
    if (Result<Fd> copy = fds.front().duplicate()) offered_ = *std::move(copy);
  }
}

// Decides what of the body is structure, by its first bytes; false, and the piece is kept, while there are too few.
bool Scribe::size_up(Passing& passing, std::span<const std::byte> piece) {
  std::vector<std::byte>& structure = passing.record.structure;
  std::array<std::byte, kDecisive> front{};
  const std::size_t before = structure.size();
  const std::size_t more = std::min(front.size() - before, piece.size());
  const std::size_t whole = passing.record.header.size - sizeof(wire::Header);
  if (before + more < std::min(front.size(), whole)) {
    structure.insert(structure.end(), piece.begin(), piece.end());
    return false;
  }
  std::ranges::copy(structure, front.begin());
  std::ranges::copy(piece.first(more), front.begin() + static_cast<std::ptrdiff_t>(before));
  const std::size_t size = rule_.structure_size(passing.record.header, std::span(front).first(before + more));
  passing.structure_left = size - std::min(size, before);
  passing.sized = true;
  return true;
}

void Scribe::body(wire::LaneId lane, std::span<const std::byte> piece) {
  Passing& passing = this->passing(lane);
  if (!passing.sized && !size_up(passing, piece)) return;
  const std::span<const std::byte> kept = piece.first(std::min(passing.structure_left, piece.size()));
  passing.record.structure.insert(passing.record.structure.end(), kept.begin(), kept.end());
  passing.structure_left -= kept.size();
  const std::span<const std::byte> payload = piece.subspan(kept.size());
  if (payload.empty()) return;
  if (passing.record.payload.size == 0) passing.hash.restart();
  passing.record.payload.size += payload.size();
  passing.hash.update(payload);
  if (keep_ == KeepPayload::Yes) writer_.write_payload(stream_of(passing.record), payload);
}

void Scribe::ended(wire::LaneId lane, bool whole) {
  Passing& passing = this->passing(lane);
  MessageRecord& record = passing.record;
  record.cut = !whole;
  if (record.payload.size != 0) record.payload.hash = passing.hash.value();
  if (whole && !is_error(record.header)) {
    rule_.learn(record.header, record.structure);
    if (offered_) take_shared_memory(record);
    if (shared_) hash_shared_memory(passing);
  }
  writer_.write(record);
}

void Scribe::closed(wire::LaneId lane, const std::string& why) {
  const bool client = lane.direction == wire::Direction::ToServer;
  note(client ? ConnectionRecord::Event::ClientEnded : ConnectionRecord::Event::ServerEnded,
       lane.socket == wire::SocketRole::Main ? why : "twin socket: " + why);
}

void Scribe::take_shared_memory(const MessageRecord& reply) {
  const std::optional<Fd> file = std::exchange(offered_, std::nullopt);
  const auto feature = structure<wire::FeatureHeader>(reply.structure);
  if (reply.header.command != static_cast<std::uint16_t>(wire::Command::DeviceFeature) ||
      (feature.flags & wire::kFeatureMask) != wire::kFeatureSharedData) {
    return;
  }
  const auto size = structure<wire::FeatureSharedDataSize>(reply.structure, sizeof feature).size;
  if (size == 0 || size > wire::kLargestDataXferSize) return;
  Result<Fd> copy = file->duplicate();
  if (!copy) return;
  if (Result<wire::SharedMemory> memory = wire::SharedMemory::adopt(*std::move(copy), size)) {
    shared_.emplace(*std::move(memory));
  }
}

// What a peer writes there meanwhile is its own harm: the hash is of what was there when it was looked at.
void Scribe::hash_shared_memory(Passing& passing) {
  MessageRecord& record = passing.record;
  const bool read = record.header.command == static_cast<std::uint16_t>(wire::Command::MigDataReadShared);
  const bool write = record.header.command == static_cast<std::uint16_t>(wire::Command::MigDataWriteShared);
  if (is_reply(record.header) ? !read : !write) return;
  const auto data = structure<wire::MigDataShared>(record.structure);
  const auto stretch = shared_->stretch(data.offset, data.size);
  if (!stretch) return;
  record.by_sharing = true;
  record.payload.size = stretch->size();
  passing.hash.restart();
  passing.hash.update(*stretch);
  record.payload.hash = passing.hash.value();
  if (keep_ == KeepPayload::Yes) writer_.write_payload(stream_of(record), *stretch);
}

}  // namespace gangway::record
