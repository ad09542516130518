#include "devices/nvme/image_request.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>

namespace gangway::nvme {
namespace {

constexpr std::size_t kZeroBytes = 65536;
constexpr std::size_t kZeroBuffers = 64;  // 4 MiB at a time, where zeros have to be written
constexpr int kMaxInterruptions = 64;

// Never written; iovec has no pointer to const.
std::byte* zeros() {
  alignas(4096) static std::array<std::byte, kZeroBytes> bytes{};
  return bytes.data();
}

// EINVAL: a range that is not aligned to the blocks of the device below.
bool unsupported(std::int64_t answer) {
  return answer == -EOPNOTSUPP || answer == -ENOSYS || answer == -ENODEV || answer == -EINVAL;
}

}  // namespace

void ImageRequest::prepare_transfer(Operation operation, std::uint32_t file, std::uint64_t offset,
                                    std::span<const iovec> buffers) {
  prepare_clear(operation, file, offset, 0);
  step_ = operation == Operation::Read           ? Step::Read
          : operation == Operation::WriteDurably ? Step::WriteDurably
                                                 : Step::Write;
  buffers_.assign(buffers.begin(), buffers.end());
}

void ImageRequest::prepare_flush(std::uint32_t file) {
  prepare_clear(Operation::Flush, file, 0, 0);
  step_ = Step::Sync;
}

void ImageRequest::prepare_clear(Operation operation, std::uint32_t file, std::uint64_t offset, std::uint64_t length) {
  operation_ = operation;
  step_ = operation == Operation::Deallocate ? Step::PunchHole : Step::ZeroRange;
  file_ = file;
  error_ = 0;
  interruptions_ = 0;
  offset_ = offset;
  length_ = length;
  buffers_.clear();
  first_buffer_ = 0;
  abandoned_.store(false, std::memory_order_relaxed);
}

std::span<const iovec> ImageRequest::buffers() const { return std::span(buffers_).subspan(first_buffer_); }

bool ImageRequest::advance(std::int64_t answer) {
  if (answer == -EINTR || answer == -EAGAIN) {
    return ++interruptions_ > kMaxInterruptions ? done(EIO) : false;
  }
  switch (step_) {
    case Step::Sync:
      return done(static_cast<int>(-answer));
    case Step::ZeroRange:
    case Step::PunchHole:
      return advance_clear(answer);
    case Step::Read:
    case Step::Write:
    case Step::WriteDurably:
      return answer < 0 ? done(static_cast<int>(-answer)) : advance_transfer(answer);
  }
  return done(EINVAL);
}

bool ImageRequest::advance_transfer(std::int64_t moved) {
  if (moved == 0) return done(step_ == Step::Read ? ENODATA : EIO);
  auto left = static_cast<std::size_t>(moved);
  offset_ += left;
  while (first_buffer_ < buffers_.size()) {
    iovec& buffer = buffers_[first_buffer_];
    const std::size_t part = std::min(left, buffer.iov_len);
    buffer.iov_base = static_cast<std::byte*>(buffer.iov_base) + part;
    buffer.iov_len -= part;
    left -= part;
    if (buffer.iov_len != 0) break;
    ++first_buffer_;
  }
  if (first_buffer_ < buffers_.size()) {
    return abandoned_.load(std::memory_order_relaxed) ? done(ECANCELED) : false;
  }
  if (operation_ == Operation::Zero || operation_ == Operation::Deallocate) {
    if (abandoned_.load(std::memory_order_relaxed)) return done(ECANCELED);
    if (length_ == 0) return done(0);
    next_zeros();
    return false;
  }
  return done(0);
}

// Each way of zeroing falls back to the next: the one asked for, the other one, plain writes.
bool ImageRequest::advance_clear(std::int64_t answer) {
  if (!unsupported(answer)) return done(static_cast<int>(-answer));
  const Step other = operation_ == Operation::Deallocate ? Step::ZeroRange : Step::PunchHole;
  if (step_ != other) {
    step_ = other;
    return false;
  }
  next_zeros();
  return false;
}

void ImageRequest::next_zeros() {
  step_ = Step::Write;
  buffers_.clear();
  first_buffer_ = 0;
  while (length_ != 0 && buffers_.size() < kZeroBuffers) {
    const std::uint64_t part = std::min<std::uint64_t>(length_, kZeroBytes);
    buffers_.push_back({.iov_base = zeros(), .iov_len = part});
    length_ -= part;
  }
}

bool ImageRequest::done(int error) {
  error_ = error;
  return true;
}

}  // namespace gangway::nvme
