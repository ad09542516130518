#include <algorithm>
#include <array>
#include <cstring>
#include <deque>

#include <fmt/format.h>

#include "base/bytes.h"
#include "vfio_user/client.h"

namespace gangway::vfio_user {
namespace {

// Requests under way at once, so that the socket never runs dry between a reply and the next request.
constexpr std::size_t kInFlight = 2;

// A bitmap is read in pieces that stay in the cache until they are merged.
constexpr std::uint64_t kBitmapPiece = 256U << 10;
constexpr std::uint64_t kBitsPerByte = 8;

std::uint16_t number(Feature feature) { return static_cast<std::uint16_t>(feature); }

template <class T>
std::span<std::byte> room_for(T& value) {
  return std::as_writable_bytes(std::span(&value, 1));
}

}  // namespace

// --- features ---

Result<Client::FeatureReply> Client::call_feature(std::uint32_t flags, std::span<const std::byte> data,
                                                  std::span<std::byte> reply) {
  const FeatureHeader asked{.argsz = static_cast<std::uint32_t>(sizeof asked + std::max(data.size(), reply.size())),
                            .flags = flags};
  FeatureHeader answered;
  const std::array body{bytes_of(asked), data};
  const Result<Channel::Reply> got = channel_.call(Command::DeviceFeature, {body, {}}, room_for(answered), reply);
  if (!got) return std::unexpected(in_words(fmt::format("feature {}", flags & kFeatureMask), got.error()));
  if (got->size < sizeof answered || answered.flags != flags) {
    return fail_protocol(fmt::format("feature {:#x} answered in {} bytes as {:#x}", flags, got->size, answered.flags));
  }
  return FeatureReply{got->size - sizeof answered};
}

Result<std::vector<std::byte>> Client::feature_get(Feature feature, std::span<const std::byte> data,
                                                   std::size_t reply_size) {
  std::vector<std::byte> reply(reply_size);
  const Result<FeatureReply> got = call_feature(number(feature) | kFeatureGet, data, reply);
  if (!got) return std::unexpected(got.error());
  reply.resize(got->size);
  return reply;
}

Result<std::vector<std::byte>> Client::feature_set(Feature feature, std::span<const std::byte> data) {
  std::vector<std::byte> reply(data.size());
  const Result<FeatureReply> got = call_feature(number(feature) | kFeatureSet, data, reply);
  if (!got) return std::unexpected(got.error());
  reply.resize(got->size);
  return reply;
}

Result<void> Client::feature_probe(Feature feature, bool get, bool set) {
  const std::uint32_t flags = number(feature) | kFeatureProbe | (get ? kFeatureGet : 0) | (set ? kFeatureSet : 0);
  const Result<FeatureReply> got = call_feature(flags, {}, {});
  if (!got) return std::unexpected(got.error());
  return {};
}

Result<PrecopyInfo> Client::precopy_info() {
  if (!server_.precopy_info) return fail(ENOTTY, fmt::format("{}: the server does not tell PRECOPY_INFO", target_));
  FeaturePrecopyInfo info;
  const Result<FeatureReply> got = call_feature(kFeaturePrecopyInfo | kFeatureGet, {}, room_for(info));
  if (!got) return std::unexpected(got.error());
  if (got->size != sizeof info) return fail_protocol(fmt::format("PRECOPY_INFO of {} bytes", got->size));
  return PrecopyInfo{.reinit = (info.flags & kPrecopyReinit) != 0,
                     .initial_bytes = info.initial_bytes,
                     .dirty_bytes = info.dirty_bytes};
}

Result<void> Client::dma_logging_report(IovaRange range, std::uint64_t page_size, std::span<std::uint64_t> bitmap) {
  struct Fixed {
    FeatureHeader header;
    FeatureLoggingReport report;
  };
  if (page_size == 0 || range.size == 0) {
    return fail(EINVAL,
                fmt::format("{}: DMA logging report of {} bytes in pages of {}", target_, range.size, page_size),
                "LOG-REPORT");
  }
  const std::uint64_t pages = range.size / page_size + (range.size % page_size != 0 ? 1 : 0);
  if (bitmap.size() < (pages + 63) / 64) {
    return fail(EINVAL, fmt::format("{}: a bitmap of {} words for {} pages", target_, bitmap.size(), pages),
                "LOG-REPORT");
  }
  const std::uint64_t piece_pages = kBitmapPiece * kBitsPerByte;
  std::vector<std::uint64_t> words;
  for (std::uint64_t first = 0; first < pages; first += piece_pages) {
    const std::uint64_t count = std::min(piece_pages, pages - first);
    const std::uint64_t start = first * page_size;
    Fixed fixed{.report = {.iova = range.start.value + start,
                           .length = first + count == pages ? range.size - start : count * page_size,
                           .page_size = page_size}};
    words.resize((count + 63) / 64);
    fixed.header = {.argsz = static_cast<std::uint32_t>(sizeof fixed + words.size() * sizeof(std::uint64_t)),
                    .flags = number(Feature::DmaLoggingReport) | kFeatureGet};
    Fixed answered;
    const std::array body{bytes_of(fixed)};
    const Result<Channel::Reply> got =
        call_exactly(Command::DeviceFeature, {body, {}}, room_for(answered), std::as_writable_bytes(std::span(words)));
    if (!got) return std::unexpected(in_words("DMA logging report", got.error()));
    std::uint64_t* into = bitmap.data() + first / 64;
    for (std::size_t i = 0; i < words.size(); ++i) {
      if (words[i] != 0) into[i] |= words[i];
    }
  }
  return {};
}

// --- migration data ---

// One MIG_DATA_READ under way.
struct Client::IncomingChunk {
  IncomingChunk(Channel& channel, std::span<std::byte> into)
      : room(into),
        asked{.argsz = static_cast<std::uint32_t>(sizeof asked + into.size()),
              .size = static_cast<std::uint32_t>(into.size())},
        call(channel, room_for(answered), into) {}

  std::span<std::byte> room;
  MigData asked;
  MigData answered;
  Call call;
};

Result<StreamRead> Client::read_data(std::span<std::byte> out) {
  // A deque, since a call under way stays where it is.
  std::deque<IncomingChunk> chunks;
  std::size_t asked = 0;
  std::size_t have = 0;
  bool ended = out.empty();
  std::optional<StreamEnd> told;  // by a server that tells ENOMSG from 0 bytes
  std::optional<Error> failure;
  while (!chunks.empty() || (!ended && asked < out.size())) {
    while (!ended && asked < out.size() && chunks.size() < kInFlight) {
      const std::size_t size = std::min<std::size_t>(out.size() - asked, server_.max_data_xfer_size);
      IncomingChunk& chunk = chunks.emplace_back(channel_, out.subspan(asked, size));
      const std::array body{bytes_of(chunk.asked)};
      if (Result<void> sent = channel_.start(chunk.call, Command::MigDataRead, {body, {}}); !sent) {
        return std::unexpected(in_words("read migration data", sent.error()));
      }
      asked += size;
    }
    IncomingChunk& chunk = chunks.front();
    const Result<Channel::Reply> reply = channel_.finish(chunk.call);
    if (reply && (reply->size < sizeof chunk.answered || chunk.answered.size != reply->size - sizeof chunk.answered)) {
      return fail_protocol(fmt::format("MIG_DATA_READ answered in {} bytes with {}", reply->size, chunk.answered.size));
    }
    if (reply) {
      // What was asked for ahead may still have brought something after an end: it follows what is there.
      if (chunk.room.data() != out.data() + have) {
        std::memmove(out.data() + have, chunk.room.data(), chunk.answered.size);
      }
      have += chunk.answered.size;
      ended = ended || chunk.answered.size < chunk.room.size();
      if (server_.enomsg && chunk.answered.size == 0) told = StreamEnd::Final;
    } else if (reply.error().code == ENOMSG && server_.enomsg) {
      ended = true;
      told = StreamEnd::Temporary;
    } else {
      ended = true;
      if (!failure) failure = reply.error();
    }
    chunks.pop_front();
  }
  if (failure) return std::unexpected(in_words("read migration data", *failure));
  if (have == out.size()) return StreamRead{have, StreamEnd::More};
  const Result<StreamEnd> end = told ? *told : which_end();
  if (!end) return std::unexpected(end.error());
  return StreamRead{have, *end};
}

// A reply that is short, and not empty, says that the data ends and not whether for ever; the state tells. So does an
// empty one from a server that does not know ENOMSG.
Result<StreamEnd> Client::which_end() {
  const Result<DeviceState> now = state();
  if (!now) return std::unexpected(now.error());
  return contract::is_pre_copy(*now) ? StreamEnd::Temporary : StreamEnd::Final;
}

Result<void> Client::write_data(std::span<const std::byte> in) {
  struct OutgoingChunk {
    explicit OutgoingChunk(Channel& channel) : call(channel, {}) {}
    Call call;
  };
  std::deque<OutgoingChunk> chunks;
  std::size_t sent = 0;
  std::optional<Error> failure;
  while (!chunks.empty() || (!failure && sent < in.size())) {
    while (!failure && sent < in.size() && chunks.size() < kInFlight) {
      const std::size_t size = std::min<std::size_t>(in.size() - sent, server_.max_data_xfer_size);
      const MigData header{.argsz = static_cast<std::uint32_t>(sizeof header + size),
                           .size = static_cast<std::uint32_t>(size)};
      const std::array body{bytes_of(header), in.subspan(sent, size)};
      OutgoingChunk& chunk = chunks.emplace_back(channel_);
      if (Result<void> started = channel_.start(chunk.call, Command::MigDataWrite, {body, {}}); !started) {
        return std::unexpected(in_words("write migration data", started.error()));
      }
      sent += size;
    }
    const Result<Channel::Reply> reply = channel_.finish(chunks.front().call);
    if (!reply && !failure) failure = reply.error();
    chunks.pop_front();
  }
  if (failure) return std::unexpected(in_words("write migration data", *failure));
  return {};
}

}  // namespace gangway::vfio_user
