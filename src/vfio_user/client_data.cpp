// Migration data: in messages, or by shared memory where the server has it.
#include <algorithm>
#include <array>
#include <cstring>
#include <deque>

#include <fmt/format.h>

#include "base/bytes.h"
#include "base/log.h"
#include "vfio_user/client_data.h"

namespace gangway::vfio_user {
namespace {

// Requests under way at once, so that the socket never runs dry between a reply and the next request.
constexpr std::size_t kInFlight = 2;
// The same by shared memory, of which each has its part: the server fills one while another is emptied here.
constexpr std::size_t kSlots = 8;
constexpr std::size_t kSlotAlignment = 4096;

}  // namespace

Result<Client::DataPath> Client::choose_path(std::size_t size) {
  DataPath messages{.piece = server_.max_data_xfer_size, .in_flight = kInFlight};
  if (!server_.shared_data || size < kWorthSharing) return messages;
  DataPath path{.in_flight = kSlots, .lock = std::unique_lock(data_mutex_)};
  if (Result<void> asked = ask_for_shared_data(); !asked) return std::unexpected(asked.error());
  if (!shared_data_ || shared_data_taken_) return messages;
  path.shared = &*shared_data_;
  path.piece = shared_data_->size() / kSlots / kSlotAlignment * kSlotAlignment;
  return path;
}

// A server that cannot make it still has the messages.
Result<void> Client::ask_for_shared_data() {
  if (asked_for_shared_data_) return {};
  asked_for_shared_data_ = true;
  struct {
    FeatureHeader header;
    FeatureSharedDataSize data;
  } asked{.header = {.argsz = sizeof asked, .flags = kFeatureSharedData | kFeatureGet}}, answered{};
  const std::array body{bytes_of(asked.header)};
  Result<Channel::Reply> reply =
      channel_.call(Command::DeviceFeature, {body, {}}, std::as_writable_bytes(std::span(&answered, 1)));
  if (!reply && channel_.broken()) return std::unexpected(in_words("shared migration data", reply.error()));
  if (!reply) {
    log::debug("{}: no shared migration data: {}", target_, reply.error().message);
    return {};
  }
  if (reply->size != sizeof answered || reply->fds.size() != 1 || answered.data.size < kSlots * kSlotAlignment ||
      answered.data.size > kLargestDataXferSize) {
    return fail_protocol(
        fmt::format("shared migration data of {} bytes in {} files", answered.data.size, reply->fds.size()));
  }
  Result<SharedMemory> memory = SharedMemory::adopt(std::move(reply->fds.front()), answered.data.size);
  if (!memory && memory.error().code == EPROTO) return fail_protocol(memory.error().message);
  if (!memory) {
    log::debug("{}: no shared migration data: {}", target_, memory.error().message);
    return {};
  }
  shared_data_.emplace(*std::move(memory));
  return {};
}

Result<StreamRead> Client::read_data(std::span<std::byte> out) {
  if (reads_ahead_) return read_what_is_ahead(out);
  const Result<DataPath> path = choose_path(out.size());
  if (!path) return std::unexpected(path.error());
  // A deque, since a call under way stays where it is.
  std::deque<IncomingChunk> chunks;
  std::size_t asked = 0;
  std::size_t have = 0;
  std::size_t number = 0;
  bool ended = out.empty();
  std::optional<StreamEnd> told;  // by a server that tells ENOMSG from 0 bytes
  std::optional<Error> failure;
  while (!chunks.empty() || (!ended && asked < out.size())) {
    while (!ended && asked < out.size() && chunks.size() < path->in_flight) {
      const std::size_t size = std::min(out.size() - asked, path->piece);
      IncomingChunk& chunk = path->shared == nullptr
                                 ? chunks.emplace_back(channel_, out.subspan(asked, size))
                                 : chunks.emplace_back(channel_, path->slot(number, size), path->offset(number));
      const std::array body{chunk.request()};
      if (Result<void> sent = channel_.start(chunk.call, chunk.command, {body, {}}); !sent) {
        return std::unexpected(in_words("read migration data", sent.error()));
      }
      asked += size;
      ++number;
    }
    const std::size_t room = chunks.front().room.size();
    const Result<std::size_t> got = finish_read(chunks.front());
    // What was asked for ahead may still have brought something after an end: it follows what is there.
    const std::byte* const from = chunks.front().room.data();
    if (got && from != out.data() + have) std::memmove(out.data() + have, from, *got);
    chunks.pop_front();
    if (got) have += *got;
    if (!got || *got < room) ended = true;
    if (!got && got.error().code != ENOMSG && !failure) failure = got.error();
    if (server_.enomsg && got && *got == 0) told = StreamEnd::Final;
    if (server_.enomsg && !got && got.error().code == ENOMSG) told = StreamEnd::Temporary;
  }
  if (failure) return std::unexpected(in_words("read migration data", *failure));
  if (have == out.size()) return StreamRead{have, StreamEnd::More};
  const Result<StreamEnd> end = told ? *told : which_end();
  if (!end) return std::unexpected(end.error());
  return StreamRead{have, *end};
}

Result<std::size_t> Client::finish_read(IncomingChunk& chunk) {
  const Result<Channel::Reply> reply = channel_.finish(chunk.call);
  if (!reply && reply.error().code == ENOMSG && !server_.enomsg) {
    return fail(EPROTO, "ENOMSG, which was not negotiated", "WIR-MIGREAD");
  }
  if (!reply) return std::unexpected(reply.error());
  if (!chunk.is_answered_by(*reply)) {
    return fail_protocol(fmt::format("migration data answered in {} bytes with {}", reply->size, chunk.answered.size));
  }
  return chunk.answered.size;
}

// A short reply says that the data ends and not whether for ever; the state tells.
Result<StreamEnd> Client::which_end() {
  const Result<DeviceState> now = state();
  if (!now) return std::unexpected(now.error());
  return contract::is_pre_copy(*now) ? StreamEnd::Temporary : StreamEnd::Final;
}

Result<void> Client::write_data(std::span<const std::byte> in) {
  if (Result<void> settled = settle(); !settled) return settled;
  const Result<DataPath> path = choose_path(in.size());
  if (!path) return std::unexpected(path.error());
  std::deque<OutgoingChunk> chunks;
  std::size_t sent = 0;
  std::size_t number = 0;
  std::optional<Error> failure;
  while (!chunks.empty() || (!failure && sent < in.size())) {
    while (!failure && sent < in.size() && chunks.size() < path->in_flight) {
      const std::span<const std::byte> piece = in.subspan(sent, std::min(in.size() - sent, path->piece));
      OutgoingChunk& chunk = chunks.emplace_back(channel_);
      if (Result<void> started = send_piece(*path, number, piece, chunk); !started) {
        return std::unexpected(in_words("write migration data", started.error()));
      }
      sent += piece.size();
      ++number;
    }
    const Result<Channel::Reply> reply = channel_.finish(chunks.front().call);
    if (!reply && !failure) failure = reply.error();
    chunks.pop_front();
  }
  if (failure) return std::unexpected(in_words("write migration data", *failure));
  return {};
}

Result<void> Client::send_piece(const DataPath& path, std::size_t number, std::span<const std::byte> piece,
                                OutgoingChunk& chunk) {
  const auto size = static_cast<std::uint32_t>(piece.size());
  if (path.shared == nullptr) {
    const MigData header{.argsz = static_cast<std::uint32_t>(sizeof header + size), .size = size};
    const std::array body{bytes_of(header), piece};
    return channel_.start(chunk.call, Command::MigDataWrite, {body, {}});
  }
  std::memcpy(path.slot(number, size).data(), piece.data(), size);
  const MigDataShared header{.argsz = sizeof header, .size = size, .offset = path.offset(number)};
  const std::array body{bytes_of(header)};
  return channel_.start(chunk.call, Command::MigDataWriteShared, {body, {}});
}

}  // namespace gangway::vfio_user
