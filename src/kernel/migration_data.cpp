#include "kernel/migration_data.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>

#include <fmt/format.h>

#include "kernel/uapi.h"

namespace gangway::kernel {

MigrationData::MigrationData(Fd file, std::chrono::milliseconds limit) : file_(std::move(file)), limit_(limit) {
  const int flags = ::fcntl(file_.get(), F_GETFL);
  // A driver that does not care reads and writes at once, or blocks as it would have.
  if (flags >= 0) (void)::fcntl(file_.get(), F_SETFL, flags | O_NONBLOCK);
}

Result<void> MigrationData::wait_for(short events, Deadline deadline) {
  for (;;) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    if (left.count() <= 0) break;
    pollfd polled{.fd = file_.get(), .events = events, .revents = 0};
    const int ready = ::poll(&polled, 1, static_cast<int>(std::min<std::int64_t>(left.count(), 1 << 30)));
    if (ready > 0) return {};
    if (ready < 0 && errno != EINTR) return fail_errno("wait for migration data");
  }
  return fail(ETIMEDOUT, fmt::format("migration data: the driver has nothing for {} ms", limit_.count()));
}

Result<StreamRead> MigrationData::read(std::span<std::byte> out) {
  std::size_t have = 0;
  Deadline deadline = next_deadline();
  while (have < out.size()) {
    const ssize_t got = ::read(file_.get(), out.data() + have, out.size() - have);
    if (got > 0) {
      have += static_cast<std::size_t>(got);
      deadline = next_deadline();
      continue;
    }
    if (got == 0) return StreamRead{have, StreamEnd::Final};
    if (errno == ENOMSG) return StreamRead{have, StreamEnd::Temporary};
    if (errno == EINTR) continue;
    if (errno != EAGAIN) return fail_errno("read migration data");
    if (Result<void> ready = wait_for(POLLIN, deadline); !ready) return std::unexpected(ready.error());
  }
  return StreamRead{have, StreamEnd::More};
}

Result<void> MigrationData::write(std::span<const std::byte> in) {
  Deadline deadline = next_deadline();
  while (!in.empty()) {
    const ssize_t taken = ::write(file_.get(), in.data(), in.size());
    if (taken > 0) {
      in = in.subspan(static_cast<std::size_t>(taken));
      deadline = next_deadline();
      continue;
    }
    if (taken == 0) return fail(EIO, "write migration data: the driver takes nothing and gives no reason");
    if (errno == EINTR) continue;
    if (errno != EAGAIN) return fail_errno("write migration data");
    if (Result<void> ready = wait_for(POLLOUT, deadline); !ready) return ready;
  }
  return {};
}

Result<PrecopyInfo> MigrationData::precopy_info() {
  vfio::FeaturePrecopyInfo info{.argsz = sizeof info};
  if (call(file_.get(), Call::GetPrecopyInfo, &info) != 0) return fail_errno("PRECOPY_INFO");
  return PrecopyInfo{.reinit = (info.flags & vfio::kPrecopyReinit) != 0,
                     .initial_bytes = info.initial_bytes,
                     .dirty_bytes = info.dirty_bytes};
}

}  // namespace gangway::kernel
