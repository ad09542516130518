#include "faulty_wire/faulty_wire.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>

#include "base/log.h"
#include "faulty_wire/wire_editors.h"

namespace gangway::faulty {

Result<std::unique_ptr<FaultyWire>> FaultyWire::serve(const std::filesystem::path& socket, Endpoint& endpoint,
                                                      WireFault fault, const ServerOptions& options) {
  Result<UnixListener> listener = listen_unix(socket);
  if (!listener) return std::unexpected(listener.error());
  std::unique_ptr<FaultyWire> wire(new FaultyWire(*std::move(listener), endpoint, fault, options));
  wire->stop_event_ = Fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wire->stop_event_) return fail_errno("make an eventfd");
  wire->thread_ = std::thread([raw = wire.get()] { raw->run(); });
  return wire;
}

FaultyWire::~FaultyWire() {
  {
    const std::scoped_lock lock(mutex_);
    stopping_ = true;
    const std::uint64_t one = 1;
    (void)!::write(stop_event_.get(), &one, sizeof one);
    if (relay_ != nullptr) relay_->stop();
  }
  if (thread_.joinable()) thread_.join();
}

void FaultyWire::run() {
  for (;;) {
    std::array<pollfd, 2> events{{{listener_.socket.get(), POLLIN, 0}, {stop_event_.get(), POLLIN, 0}}};
    ::poll(events.data(), events.size(), -1);
    if (events[1].revents != 0) return;
    Fd client(::accept4(listener_.socket.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!client) continue;
    if (Result<void> served = serve_client(std::move(client)); !served) log::warn("{}", served.error().message);
  }
}

Result<void> FaultyWire::serve_client(Fd client) {
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0) return fail_errno("make a socket");
  const Fd ours(ends[0]);
  Result<std::unique_ptr<Server>> server = Server::adopt(Fd(ends[1]), endpoint_, options_);
  if (!server) return std::unexpected(server.error());
  if (Result<void> started = (*server)->start(); !started) return started;
  const std::unique_ptr<vfio_user::MessageEditor> editor = make_editor(fault_);
  vfio_user::MessageRelay relay(client.get(), ours.get(), *editor);
  {
    const std::scoped_lock lock(mutex_);
    if (stopping_) relay.stop();
    relay_ = &relay;
  }
  relay.run();
  (*server)->wait();
  const std::scoped_lock lock(mutex_);
  relay_ = nullptr;
  return {};
}

}  // namespace gangway::faulty
