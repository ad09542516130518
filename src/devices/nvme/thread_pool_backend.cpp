#include "devices/nvme/thread_pool_backend.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>

namespace gangway::nvme {
namespace {

constexpr std::size_t kThreads = 4;

std::int64_t answer_of(ssize_t returned) { return returned < 0 ? -errno : returned; }

}  // namespace

Result<std::unique_ptr<Backend>> make_thread_pool_backend(std::span<const int> files) {
  return ThreadPoolBackend::create(files);
}

Result<std::unique_ptr<Backend>> ThreadPoolBackend::create(std::span<const int> files) {
  Fd wake_event(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake_event) return fail_errno("create an eventfd");
  return std::unique_ptr<Backend>(new ThreadPoolBackend(files, std::move(wake_event)));
}

ThreadPoolBackend::ThreadPoolBackend(std::span<const int> files, Fd wake_event)
    : Backend(std::move(wake_event)), files_(files.begin(), files.end()) {
  for (std::size_t index = 0; index < kThreads; ++index) threads_.emplace_back([this] { work(); });
}

ThreadPoolBackend::~ThreadPoolBackend() {
  {
    std::scoped_lock lock(mutex_);
    stopping_ = true;
  }
  work_.notify_all();
  threads_.clear();  // joins
}

void ThreadPoolBackend::submit() {
  if (started_.empty()) return;
  {
    std::scoped_lock lock(mutex_);
    queue_.insert(queue_.end(), started_.begin(), started_.end());
  }
  if (started_.size() == 1) {
    work_.notify_one();
  } else {
    work_.notify_all();
  }
  started_.clear();
}

std::size_t ThreadPoolBackend::collect(std::span<ImageRequest*> out) {
  std::scoped_lock lock(mutex_);
  const std::size_t count = std::min(out.size(), finished_.size());
  const auto end = finished_.begin() + static_cast<std::ptrdiff_t>(count);
  std::copy(finished_.begin(), end, out.begin());
  finished_.erase(finished_.begin(), end);
  return count;
}

void ThreadPoolBackend::wait(std::optional<std::chrono::microseconds> timeout) {
  submit();
  {
    std::scoped_lock lock(mutex_);
    if (!finished_.empty()) return;
    waiting_ = true;
  }
  std::array<pollfd, 2> events{pollfd{.fd = wake_fd(), .events = POLLIN, .revents = 0},
                               pollfd{.fd = watched_, .events = POLLIN, .revents = 0}};
  timespec limit{};
  if (timeout) limit = {.tv_sec = timeout->count() / 1'000'000, .tv_nsec = timeout->count() % 1'000'000 * 1'000};
  ::ppoll(events.data(), events.size(), timeout ? &limit : nullptr, nullptr);
  std::uint64_t count = 0;
  [[maybe_unused]] const auto drained = ::read(wake_fd(), &count, sizeof(count));
  const iovec target{.iov_base = &count, .iov_len = sizeof(count)};
  // Without waiting, whatever flags the descriptor has: the client may have read it first.
  if (watched_ >= 0 && ::preadv2(watched_, &target, 1, -1, RWF_NOWAIT) < 0 && errno != EAGAIN) watched_ = -1;
  std::scoped_lock lock(mutex_);
  waiting_ = false;
}

void ThreadPoolBackend::work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    work_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
    if (queue_.empty()) return;
    ImageRequest* request = queue_.front();
    queue_.pop_front();
    lock.unlock();
    while (!request->advance(carry_out(*request))) {
    }
    lock.lock();
    finished_.push_back(request);
    if (waiting_) wake();
  }
}

std::int64_t ThreadPoolBackend::carry_out(const ImageRequest& request) const {
  const int fd = files_[request.file()];
  const auto buffers = request.buffers();
  const auto count = static_cast<int>(buffers.size());
  const auto offset = static_cast<off_t>(request.offset());
  const auto length = static_cast<off_t>(request.length());
  switch (request.step()) {
    case ImageRequest::Step::Read:
      return answer_of(::preadv(fd, buffers.data(), count, offset));
    case ImageRequest::Step::Write:
      return answer_of(::pwritev(fd, buffers.data(), count, offset));
    case ImageRequest::Step::WriteDurably:
      return answer_of(::pwritev2(fd, buffers.data(), count, offset, RWF_DSYNC));
    case ImageRequest::Step::Sync:
      return answer_of(::fdatasync(fd));
    case ImageRequest::Step::ZeroRange:
      return answer_of(::fallocate(fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, offset, length));
    case ImageRequest::Step::PunchHole:
      return answer_of(::fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length));
  }
  return -EINVAL;
}

}  // namespace gangway::nvme
