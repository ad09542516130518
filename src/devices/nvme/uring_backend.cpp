#include "devices/nvme/uring_backend.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace gangway::nvme {
namespace {

constexpr unsigned kEntries = 256;

Result<void> ring_error(std::string_view doing, int answer) { return fail_errno(doing, -answer); }

void fill(io_uring_sqe* entry, const ImageRequest& request) {
  const auto file = static_cast<int>(request.file());
  const auto buffers = request.buffers();
  const auto count = static_cast<unsigned>(buffers.size());
  switch (request.step()) {
    case ImageRequest::Step::Read:
      if (count == 1) {
        io_uring_prep_read(entry, file, buffers[0].iov_base, static_cast<unsigned>(buffers[0].iov_len),
                           request.offset());
      } else {
        io_uring_prep_readv(entry, file, buffers.data(), count, request.offset());
      }
      break;
    case ImageRequest::Step::Write:
    case ImageRequest::Step::WriteDurably: {
      const int flags = request.step() == ImageRequest::Step::WriteDurably ? RWF_DSYNC : 0;
      io_uring_prep_writev2(entry, file, buffers.data(), count, request.offset(), flags);
      break;
    }
    case ImageRequest::Step::Sync:
      io_uring_prep_fsync(entry, file, IORING_FSYNC_DATASYNC);
      break;
    case ImageRequest::Step::ZeroRange:
      io_uring_prep_fallocate(entry, file, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
                              static_cast<off_t>(request.offset()), static_cast<off_t>(request.length()));
      break;
    case ImageRequest::Step::PunchHole:
      io_uring_prep_fallocate(entry, file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                              static_cast<off_t>(request.offset()), static_cast<off_t>(request.length()));
      break;
  }
  io_uring_sqe_set_flags(entry, IOSQE_FIXED_FILE);
}

}  // namespace

Result<std::unique_ptr<Backend>> make_uring_backend(std::span<const int> files) { return UringBackend::create(files); }

Result<std::unique_ptr<Backend>> UringBackend::create(std::span<const int> files) {
  Fd wake_event(::eventfd(0, EFD_CLOEXEC));
  if (!wake_event) return fail_errno("create an eventfd");
  std::unique_ptr<UringBackend> backend(new UringBackend(std::move(wake_event)));
  if (auto ready = backend->set_up(files); !ready) return std::unexpected(std::move(ready.error()));
  return backend;
}

UringBackend::UringBackend(Fd wake_event) : Backend(std::move(wake_event)) { wake_.fd = wake_fd(); }

Result<void> UringBackend::set_up(std::span<const int> files) {
  io_uring_params params{};
  params.cq_entries = kMaxRequests * 2;
  params.flags = IORING_SETUP_CQSIZE | IORING_SETUP_R_DISABLED | IORING_SETUP_SINGLE_ISSUER |
                 IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG;
  int answer = io_uring_queue_init_params(kEntries, &ring_, &params);
  if (answer == -EINVAL) {  // a kernel before 6.0
    params = {};
    params.cq_entries = kMaxRequests * 2;
    params.flags = IORING_SETUP_CQSIZE | IORING_SETUP_R_DISABLED;
    answer = io_uring_queue_init_params(kEntries, &ring_, &params);
  }
  if (answer < 0) return ring_error("set up io_uring", answer);
  ring_open_ = true;
  answer = io_uring_register_files(&ring_, files.data(), static_cast<unsigned>(files.size()));
  if (answer < 0) return ring_error("register the images with io_uring", answer);
  return {};
}

UringBackend::~UringBackend() {
  if (ring_open_) io_uring_queue_exit(&ring_);
}

// The ring belongs to the thread that enables it. By system call, since liburing 2.3 forgot to export its function.
Result<void> UringBackend::enter_thread() {
  if (::syscall(__NR_io_uring_register, ring_.ring_fd, IORING_REGISTER_ENABLE_RINGS, nullptr, 0) < 0) {
    return fail_errno("enable io_uring");
  }
  return {};
}

io_uring_sqe* UringBackend::next_entry() {
  io_uring_sqe* entry = io_uring_get_sqe(&ring_);
  while (entry == nullptr) {
    submit();
    entry = io_uring_get_sqe(&ring_);
  }
  return entry;
}

void UringBackend::start(ImageRequest& request) {
  io_uring_sqe* entry = next_entry();
  fill(entry, request);
  io_uring_sqe_set_data(entry, &request);
}

void UringBackend::submit() {
  if (io_uring_sq_ready(&ring_) != 0) io_uring_submit(&ring_);
}

std::size_t UringBackend::collect(std::span<ImageRequest*> out) {
  std::size_t count = 0;
  bool continued = false;
  io_uring_cqe* completion = nullptr;
  while (count < out.size() && io_uring_peek_cqe(&ring_, &completion) == 0) {
    void* owner = io_uring_cqe_get_data(completion);
    const int answer = completion->res;
    io_uring_cqe_seen(&ring_, completion);
    if (take_event(owner, answer)) continue;
    auto* request = static_cast<ImageRequest*>(owner);
    if (request->advance(answer)) {
      out[count++] = request;
    } else {
      start(*request);
      continued = true;
    }
  }
  if (continued) submit();
  return count;
}

bool UringBackend::take_event(const void* owner, int answer) {
  if (owner == &wake_) {
    wake_.armed = false;
    return true;
  }
  if (owner != &watched_) return false;
  watched_.armed = false;
  if (answer < 0) watched_.fd = -1;  // what the client did to it must not keep us awake
  return true;
}

void UringBackend::arm(Event& event) {
  if (event.armed || event.fd < 0) return;
  io_uring_sqe* entry = next_entry();
  io_uring_prep_read(entry, event.fd, &event.count, sizeof(event.count), 0);
  io_uring_sqe_set_data(entry, &event);
  event.armed = true;
}

void UringBackend::wait(std::optional<std::chrono::microseconds> timeout) {
  arm(wake_);
  arm(watched_);
  submit();
  io_uring_cqe* completion = nullptr;
  if (!timeout) {
    io_uring_wait_cqe(&ring_, &completion);
    return;
  }
  __kernel_timespec limit{.tv_sec = timeout->count() / 1'000'000, .tv_nsec = timeout->count() % 1'000'000 * 1'000};
  io_uring_wait_cqe_timeout(&ring_, &completion, &limit);
}

}  // namespace gangway::nvme
