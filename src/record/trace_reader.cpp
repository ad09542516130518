#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <iterator>

#include <fmt/format.h>

#include "base/bytes.h"
#include "record/trace_file.h"

namespace gangway::record {
namespace {

constexpr std::size_t kReadAhead = 256U << 10;

bool all_zero(std::span<const std::byte> bytes) {
  return std::ranges::all_of(bytes, [](std::byte byte) { return byte == std::byte{0}; });
}

}  // namespace

Result<TraceReader> TraceReader::open(const std::filesystem::path& path) {
  TraceReader reader;
  reader.file_ = Fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!reader.file_) return fail_errno(fmt::format("read the recording '{}'", path.native()));
  if (Result<void> begun = reader.begin(); !begun) return fail_within(path.native(), begun.error());
  return reader;
}

Result<TraceReader> TraceReader::read(std::span<const std::byte> bytes) {
  TraceReader reader;
  reader.memory_ = reader.bytes_ = bytes;
  if (Result<void> begun = reader.begin(); !begun) return std::unexpected(begun.error());
  return reader;
}

Result<void> TraceReader::begin() {
  const auto head = fetch(sizeof kMagic + sizeof kFormatRevision);
  if (head.size() < sizeof kMagic + sizeof kFormatRevision ||
      std::memcmp(head.data(), kMagic.data(), sizeof kMagic) != 0) {
    return fail(EINVAL, "no recording: it does not begin with 'gangway-trc'");
  }
  const auto revision = load_at<std::uint32_t>(head, sizeof kMagic);
  if (*revision != kFormatRevision) {
    return fail(EINVAL,
                fmt::format("a recording of revision {}: this program reads revision {}", *revision, kFormatRevision));
  }
  bytes_ = bytes_.subspan(head.size());
  offset_ += head.size();
  const std::optional<Encoded> first = next_frame();
  if (!first || first->type != static_cast<std::uint16_t>(RecordType::Meta)) {
    return fail(EINVAL, "no recording: it does not say what was recorded");
  }
  Result<Meta> meta = decode_meta(first->body);
  if (!meta) return std::unexpected(meta.error());
  meta_ = *std::move(meta);
  first_ = offset_;
  return {};
}

void TraceReader::rewind() {
  bytes_ = memory_.subspan(std::min<std::size_t>(first_, memory_.size()));
  offset_ = first_;
  records_ = 1;
  partial_.clear();
  cut_.reset();
}

// So many bytes, or what there is of them. They stay where they are until the next call.
std::span<const std::byte> TraceReader::fetch(std::size_t size) {
  if (bytes_.size() >= size || !file_) return bytes_.first(std::min(size, bytes_.size()));
  std::vector<std::byte> more(std::max(size, kReadAhead));
  std::ranges::copy(bytes_, more.begin());
  std::size_t have = bytes_.size();
  while (have < more.size()) {
    const ssize_t got =
        ::pread(file_.get(), more.data() + have, more.size() - have, static_cast<off_t>(offset_ + have));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    have += static_cast<std::size_t>(got);
  }
  buffer_ = std::move(more);
  bytes_ = std::span(buffer_).first(have);
  return bytes_.first(std::min(size, have));
}

std::optional<Encoded> TraceReader::next_frame() {
  const auto head = fetch(sizeof(Frame));
  if (head.empty()) return std::nullopt;
  const auto stop = [&](std::string_view why) {
    cut_ = fmt::format("{}; {} records before it are whole, up to byte {}", why, records_, offset_);
    return std::nullopt;
  };
  const auto frame = load_at<Frame>(head);
  if (all_zero(head)) return stop("the recording was not ended: its recorder was killed, or still writes");
  if (!frame) return stop("the recording ends within the frame of a record");
  if (frame->size > kMostRecord) return stop(fmt::format("a record of {} bytes", frame->size));
  const std::size_t whole = sizeof(Frame) + frame->size;
  const auto all = fetch(whole);
  if (all.size() < whole) return stop("the recording ends within a record");
  const auto body = all.subspan(sizeof(Frame));
  if (checksum(frame->type, body) != frame->checksum || frame->zero != 0) return stop("a record's checksum differs");
  bytes_ = bytes_.subspan(whole);
  offset_ += whole;
  ++records_;
  return Encoded{frame->type, body};
}

Result<std::optional<Record>> TraceReader::next() {
  for (;;) {
    if (cut_) return std::nullopt;
    const std::optional<Encoded> frame = next_frame();
    if (!frame) return std::nullopt;
    if (frame->type == static_cast<std::uint16_t>(RecordType::PayloadPiece)) {
      if (Result<void> collected = collect(frame->body); !collected) return std::unexpected(collected.error());
      continue;
    }
    const bool known = frame->type > static_cast<std::uint16_t>(RecordType::Meta) &&
                       frame->type < static_cast<std::uint16_t>(RecordType::PayloadPiece);
    if (!known) continue;
    Result<Record> record = decode(static_cast<RecordType>(frame->type), frame->body);
    if (!record) return fail_within(fmt::format("record {}", records_), record.error());
    if (auto* message = std::get_if<MessageRecord>(&*record)) attach(stream_of(*message), message->payload);
    if (auto* call = std::get_if<CallRecord>(&*record)) attach(stream_of(*call), call->payload);
    return *std::move(record);
  }
}

Result<void> TraceReader::collect(std::span<const std::byte> body) {
  const auto stream = load_at<std::uint64_t>(body);
  if (!stream) return fail(EPROTO, fmt::format("record {}: a piece of payload of nobody", records_));
  auto found = std::ranges::find(partial_, *stream, &PartialPayload::stream);
  if (found == partial_.end()) {
    partial_.push_back({.stream = *stream});
    found = std::prev(partial_.end());
  }
  const auto piece = body.subspan(sizeof *stream);
  if (found->bytes.size() + piece.size() > kMostPayload) {
    return fail(EPROTO, fmt::format("record {}: a payload of more than {} bytes", records_, kMostPayload));
  }
  found->bytes.insert(found->bytes.end(), piece.begin(), piece.end());
  return {};
}

void TraceReader::attach(std::uint64_t stream, Payload& payload) {
  const auto found = std::ranges::find(partial_, stream, &PartialPayload::stream);
  if (found == partial_.end()) return;
  if (found->bytes.size() == payload.size) payload.bytes = std::move(found->bytes);
  partial_.erase(found);
}

}  // namespace gangway::record
