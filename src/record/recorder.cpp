#include "record/recorder.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <array>
#include <ctime>

#include <fmt/chrono.h>
#include <fmt/format.h>

#include "base/log.h"

namespace gangway::record {
namespace {

using Event = ConnectionRecord::Event;

constexpr std::chrono::milliseconds kConnectTimeout{5000};

std::string who(const Fd& socket) {
  ucred peer{};
  socklen_t size = sizeof peer;
  if (::getsockopt(socket.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return "unknown";
  return fmt::format("process {} of user {}", peer.pid, peer.uid);
}

}  // namespace

Meta meta_now(Subject subject, std::string target, KeepPayload payload) {
  utsname machine{};
  ::uname(&machine);
  return {.subject = subject,
          .program = "gangway " GANGWAY_VERSION,
          .began = fmt::format("{:%FT%TZ}", fmt::gmtime(std::time(nullptr))),
          .target = std::move(target),
          .machine = fmt::format("{} {} {}", machine.sysname, machine.release, machine.machine),
          .command = {},
          .payload = payload == KeepPayload::Yes};
}

Result<std::unique_ptr<Recorder>> Recorder::create(const RecorderOptions& options) {
  Result<UnixListener> listener = listen_unix(options.listen);
  if (!listener) return std::unexpected(listener.error());
  ::fcntl(listener->socket.get(), F_SETFL, O_NONBLOCK);
  Fd stop_event(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!stop_event) return fail_errno("make an eventfd");
  Result<TraceWriter> writer =
      TraceWriter::create(options.out, meta_now(Subject::VfioUser, options.server.native(), options.payload));
  if (!writer) return std::unexpected(writer.error());
  return std::unique_ptr<Recorder>(
      new Recorder(options, *std::move(listener), std::move(stop_event), *std::move(writer)));
}

Recorder::Recorder(RecorderOptions options, UnixListener listener, Fd stop_event, TraceWriter writer)
    : options_(std::move(options)),
      listener_(std::move(listener)),
      stop_event_(std::move(stop_event)),
      writer_(std::move(writer)) {}

Result<void> Recorder::run() {
  while (std::optional<Fd> client = accept_client()) serve(*std::move(client));
  return writer_.close();
}

void Recorder::stop() {
  const std::scoped_lock lock(mutex_);
  stopping_ = true;
  const std::uint64_t one = 1;
  (void)!::write(stop_event_.get(), &one, sizeof one);
  if (forwarder_ != nullptr) forwarder_->stop();
}

std::optional<Fd> Recorder::accept_client() {
  for (;;) {
    std::array<pollfd, 2> events{{{listener_.socket.get(), POLLIN, 0}, {stop_event_.get(), POLLIN, 0}}};
    ::poll(events.data(), events.size(), -1);
    if (events[1].revents != 0) return std::nullopt;
    if (events[0].revents == 0) continue;
    Fd client(::accept4(listener_.socket.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (client) return client;
    if (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED) continue;
    log::warn("accept a client: {}; trying again", strerrordesc_np(errno));
    pollfd stopped{stop_event_.get(), POLLIN, 0};
    if (::poll(&stopped, 1, 100) != 0) return std::nullopt;
  }
}

void Recorder::serve(Fd client) {
  Scribe scribe(writer_, ++clients_, began_, options_.payload);
  scribe.note(Event::Opened, who(client));
  Result<Fd> server = connect_unix(options_.server, kConnectTimeout);
  auto forwarder = server ? vfio_user::Forwarder::create(std::move(client), *std::move(server), options_.spin, scribe)
                          : std::unexpected(server.error());
  if (!forwarder) {
    log::warn("client {}: {}", clients_, forwarder.error().message);
    scribe.note(Event::Failed, forwarder.error().message);
    return;
  }
  {
    const std::scoped_lock lock(mutex_);
    if (stopping_) return;
    forwarder_ = forwarder->get();
  }
  (*forwarder)->run();
  {
    const std::scoped_lock lock(mutex_);
    forwarder_ = nullptr;
    scribe.note(Event::Closed, stopping_ ? "the recorder stops" : "both have ended");
  }
  if (writer_.failure() && !std::exchange(told_of_failure_, true)) {
    log::error("{}; what is said passes on unrecorded", writer_.failure()->message);
  }
}

}  // namespace gangway::record
