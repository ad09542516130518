#include <algorithm>
#include <array>
#include <deque>
#include <utility>
#include <vector>

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
constexpr std::uint64_t kBitsPerWord = 64;

// Words that are looked at together: what is clean is not written to, and where scattered pages are dirty, so that
// nobody could predict it, there is no branch a word.
constexpr std::size_t kStretch = 64;

// In four sums, so that none waits for the one before.
bool any_set(const std::uint64_t* words) {
  std::array<std::uint64_t, 4> any{};
  for (std::size_t i = 0; i < kStretch; i += any.size()) {
    any[0] |= words[i];
    any[1] |= words[i + 1];
    any[2] |= words[i + 2];
    any[3] |= words[i + 3];
  }
  return (any[0] | any[1] | any[2] | any[3]) != 0;
}

// Apart from each other, so that the compiler makes vector code of it.
void merge_stretch(const std::uint64_t* __restrict words, std::uint64_t* __restrict into) {
  for (std::size_t i = 0; i < kStretch; ++i) into[i] |= words[i];
}

void merge_words(std::span<const std::uint64_t> words, std::span<std::uint64_t> bitmap) {
  std::size_t at = 0;
  for (; words.size() - at >= kStretch; at += kStretch) {
    if (any_set(words.data() + at)) merge_stretch(words.data() + at, bitmap.data() + at);
  }
  for (; at < words.size(); ++at) bitmap[at] |= words[at];
}

std::uint16_t number(Feature feature) { return static_cast<std::uint16_t>(feature); }

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
  const bool changes_state = feature == Feature::MigDeviceState;
  if (changes_state) {
    if (Result<void> ready = before_state_change(); !ready) return std::unexpected(ready.error());
  }
  std::vector<std::byte> reply(data.size());
  const Result<FeatureReply> got = call_feature(number(feature) | kFeatureSet, data, reply);
  if (changes_state) after_state_change();
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

// One piece of a DMA logging report under way.
struct Client::ReportPiece {
  struct Fixed {
    FeatureHeader header;
    FeatureLoggingReport report;
  };
  ReportPiece(Channel& channel, IovaRange range, std::uint64_t page_size, std::size_t first,
              std::span<std::uint64_t> room)
      : first_word(first),
        words(room),
        asked{.header = {.argsz = static_cast<std::uint32_t>(sizeof(Fixed) + room.size_bytes()),
                         .flags = number(Feature::DmaLoggingReport) | kFeatureGet},
              .report = {.iova = range.start.value, .length = range.size, .page_size = page_size}},
        call(channel, room_for(answered), std::as_writable_bytes(room)) {}

  std::size_t first_word;
  std::span<const std::uint64_t> words;
  Fixed asked;
  Fixed answered;
  Call call;
};

Result<void> Client::dma_logging_report(IovaRange range, std::uint64_t page_size, std::span<std::uint64_t> bitmap) {
  if (page_size == 0 || range.size == 0) {
    return fail(EINVAL,
                fmt::format("{}: DMA logging report of {} bytes in pages of {}", target_, range.size, page_size),
                "LOG-REPORT");
  }
  const std::uint64_t pages = range.size / page_size + (range.size % page_size != 0 ? 1 : 0);
  if (bitmap.size() < (pages + kBitsPerWord - 1) / kBitsPerWord) {
    return fail(EINVAL, fmt::format("{}: a bitmap of {} words for {} pages", target_, bitmap.size(), pages),
                "LOG-REPORT");
  }
  constexpr std::uint64_t kPiecePages = kBitmapPiece * kBitsPerByte;
  const std::size_t piece_words = std::min(pages, kPiecePages) / kBitsPerWord + 1;
  std::vector<std::uint64_t> room = take_report_room();
  room.resize(std::max(room.size(), kInFlight * piece_words));
  std::deque<ReportPiece> under_way;
  for (std::uint64_t first = 0, number = 0; first < pages || !under_way.empty();) {
    if (first < pages && under_way.size() < kInFlight) {
      const std::uint64_t count = std::min(kPiecePages, pages - first);
      const std::uint64_t start = first * page_size;
      const IovaRange part{{range.start.value + start},
                           first + count == pages ? range.size - start : count * page_size};
      const std::size_t words = (count + kBitsPerWord - 1) / kBitsPerWord;
      const auto place = std::span(room).subspan((number++ % kInFlight) * piece_words, words);
      ReportPiece& piece = under_way.emplace_back(channel_, part, page_size, first / kBitsPerWord, place);
      const std::array body{bytes_of(piece.asked)};
      if (Result<void> sent = channel_.start(piece.call, Command::DeviceFeature, {body, {}}); !sent) {
        return std::unexpected(in_words("DMA logging report", sent.error()));
      }
      first += count;
      continue;
    }
    if (Result<void> merged = finish_report(under_way.front(), bitmap); !merged) return merged;
    under_way.pop_front();
  }
  keep_report_room(std::move(room));
  return {};
}

std::vector<std::uint64_t> Client::take_report_room() {
  const std::scoped_lock lock(report_mutex_);
  return std::exchange(report_room_, {});
}

void Client::keep_report_room(std::vector<std::uint64_t> room) {
  const std::scoped_lock lock(report_mutex_);
  report_room_ = std::move(room);
}

Result<void> Client::finish_report(ReportPiece& piece, std::span<std::uint64_t> bitmap) {
  const Result<Channel::Reply> reply = channel_.finish(piece.call);
  if (!reply) return std::unexpected(in_words("DMA logging report", reply.error()));
  if (reply->size != sizeof piece.answered + piece.words.size_bytes()) {
    return fail_protocol(fmt::format("DMA logging report answered with {} bytes, {} belong to it", reply->size,
                                     sizeof piece.answered + piece.words.size_bytes()));
  }
  merge_words(piece.words, bitmap.subspan(piece.first_word));
  return {};
}

}  // namespace gangway::vfio_user
