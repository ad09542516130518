#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>

#include <fmt/format.h>

#include <xxhash.h>

#include "base/bytes.h"
#include "record/trace_file.h"

namespace gangway::record {
namespace {

constexpr std::uint64_t kWindow = 2U << 20;  // bytes of the file that are reserved and mapped at a time
constexpr std::uint64_t kPage = 4096;

}  // namespace

std::uint64_t checksum(std::uint16_t type, std::span<const std::byte> body) {
  // The seed holds what stands in front of the body.
  return XXH3_64bits_withSeed(body.data(), body.size(), body.size() | std::uint64_t{type} << 32);
}

Result<TraceWriter> TraceWriter::create(const std::filesystem::path& path, const Meta& meta) {
  Fd file(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!file && errno == EEXIST) {
    return fail(EEXIST, fmt::format("record to '{}': there is such a file; name another, or remove it", path.native()));
  }
  if (!file) return fail_errno(fmt::format("record to '{}'", path.native()));
  TraceWriter writer(std::move(file), path.native());
  if (Result<void> reserved = writer.reserve(sizeof kMagic + sizeof kFormatRevision); !reserved) {
    ::unlink(path.c_str());
    return std::unexpected(reserved.error());
  }
  std::memcpy(writer.window_.data(), kMagic.data(), sizeof kMagic);
  (void)store_at(writer.window_, sizeof kMagic, kFormatRevision);
  writer.end_ = sizeof kMagic + sizeof kFormatRevision;
  writer.write(meta);
  if (writer.failure_) return std::unexpected(*writer.failure_);
  return writer;
}

TraceWriter::TraceWriter(TraceWriter&& other) noexcept
    : file_(std::move(other.file_)),
      path_(std::move(other.path_)),
      encoder_(std::move(other.encoder_)),
      window_(std::exchange(other.window_, {})),
      window_begin_(other.window_begin_),
      end_(other.end_),
      failure_(std::move(other.failure_)) {}

TraceWriter::~TraceWriter() { (void)close(); }

void TraceWriter::write_payload(std::uint64_t stream, std::span<const std::byte> piece) {
  for (; !piece.empty(); piece = piece.subspan(std::min(piece.size(), kMostPayloadPiece))) {
    append(encoder_.encode_piece(stream, piece.first(std::min(piece.size(), kMostPayloadPiece))));
  }
}

void TraceWriter::append(Encoded record) {
  if (failure_ || !file_) return;
  if (record.body.size() > kMostRecord) {
    failure_ = Error{EMSGSIZE, fmt::format("record to '{}': a record of {} bytes", path_, record.body.size()), {}};
    return;
  }
  if (Result<void> reserved = reserve(sizeof(Frame) + record.body.size()); !reserved) {
    failure_ = std::move(reserved.error());
    return;
  }
  const Frame frame{.size = static_cast<std::uint32_t>(record.body.size()),
                    .type = record.type,
                    .checksum = checksum(record.type, record.body)};
  const std::span<std::byte> place = window_.subspan(end_ - window_begin_);
  // The frame comes last: without it the record is not there yet.
  std::memcpy(place.data() + sizeof frame, record.body.data(), record.body.size());
  std::atomic_signal_fence(std::memory_order_release);
  std::memcpy(place.data(), &frame, sizeof frame);
  end_ += sizeof frame + record.body.size();
}

Result<void> TraceWriter::reserve(std::size_t size) {
  if (end_ + size <= window_begin_ + window_.size()) return {};
  unmap();
  window_begin_ = end_ / kPage * kPage;
  const std::uint64_t length = std::max(kWindow, (end_ - window_begin_ + size + kPage - 1) / kPage * kPage);
  // The blocks are there before they are mapped, or a full disk would show as SIGBUS.
  const int refused = ::posix_fallocate(file_.get(), static_cast<off_t>(window_begin_), static_cast<off_t>(length));
  if (refused != 0) return fail_errno(fmt::format("record to '{}'", path_), refused);
  void* at = ::mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, file_.get(),
                    static_cast<off_t>(window_begin_));
  if (at == MAP_FAILED) return fail_errno(fmt::format("record to '{}': map the file", path_));
  window_ = {static_cast<std::byte*>(at), length};
  return {};
}

void TraceWriter::unmap() {
  if (!window_.empty()) ::munmap(window_.data(), window_.size());
  window_ = {};
}

Result<void> TraceWriter::close() {
  if (file_) {
    unmap();
    if (::ftruncate(file_.get(), static_cast<off_t>(end_)) != 0 && !failure_) {
      failure_ = fail_errno(fmt::format("end the recording '{}'", path_)).error();
    }
    file_.reset();
  }
  if (failure_) return std::unexpected(*failure_);
  return {};
}

}  // namespace gangway::record
