#include "devices/nvme/backend.h"

#include <unistd.h>

#include "base/log.h"

namespace gangway::nvme {

void Backend::wake() {
  const std::uint64_t one = 1;
  // It fails only when the count is full, and then the thread is awake.
  [[maybe_unused]] const auto written = ::write(wake_event_.get(), &one, sizeof(one));
}

Result<std::unique_ptr<Backend>> make_backend(std::span<const int> files) {
  auto uring = make_uring_backend(files);
  if (uring) return uring;
  log::info("io_uring is not available ({}); images are reached through threads", uring.error().message);
  return make_thread_pool_backend(files);
}

}  // namespace gangway::nvme
