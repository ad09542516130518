#include "migrate/address.h"

#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <memory>

#include <fmt/format.h>

namespace gangway::migrate {
namespace {

using AddressList = std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)>;

Result<AddressList> resolve(const Address& address, int flags) {
  const addrinfo hints{.ai_flags = flags, .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
  addrinfo* found = nullptr;
  const int error =
      ::getaddrinfo(address.host.empty() ? nullptr : address.host.c_str(), address.port.c_str(), &hints, &found);
  if (error != 0) return fail(EHOSTUNREACH, fmt::format("{}: {}", address.text(), ::gai_strerror(error)));
  return AddressList(found, &::freeaddrinfo);
}

// The socket address is given as the kernel takes it.
struct Endpoint {
  const sockaddr* name;
  socklen_t size;
};

Endpoint endpoint_of(const sockaddr_un& name) { return {reinterpret_cast<const sockaddr*>(&name), sizeof name}; }

// Waits for `events` on the socket; ECANCELED when stopped, ETIMEDOUT after the limit.
Result<void> wait_for(int socket, short events, std::optional<std::chrono::milliseconds> limit,
                      const std::stop_token& stop) {
  auto event = StopEvent::create();
  if (!event) return std::unexpected(event.error());
  const std::stop_callback wake(stop, [&event] { event->signal(); });
  std::array<pollfd, 2> entries{{{.fd = socket, .events = events}, {.fd = event->fd(), .events = POLLIN}}};
  for (;;) {
    const int ready = ::poll(entries.data(), entries.size(), limit ? static_cast<int>(limit->count()) : -1);
    if (ready < 0 && errno == EINTR) continue;
    if (ready < 0) return fail_errno("poll");
    if (entries[1].revents != 0) return fail(ECANCELED, "cancelled");
    if (ready == 0) return fail(ETIMEDOUT, "no answer within the time limit");
    return {};
  }
}

Result<void> make_blocking(int socket, bool blocking) {
  const int flags = ::fcntl(socket, F_GETFL);
  if (flags < 0 || ::fcntl(socket, F_SETFL, blocking ? flags & ~O_NONBLOCK : flags | O_NONBLOCK) != 0) {
    return fail_errno("change a socket's mode");
  }
  return {};
}

Result<Fd> connect_one(int family, Endpoint to, std::chrono::milliseconds limit, const std::stop_token& stop) {
  Fd socket(::socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket) return fail_errno("create a socket");
  if (::connect(socket.get(), to.name, to.size) != 0) {
    if (errno != EINPROGRESS) return fail_errno("connect");
    if (auto waited = wait_for(socket.get(), POLLOUT, limit, stop); !waited) return std::unexpected(waited.error());
    int error = 0;
    socklen_t size = sizeof error;
    if (::getsockopt(socket.get(), SOL_SOCKET, SO_ERROR, &error, &size) != 0) return fail_errno("connect");
    if (error != 0) return fail_errno("connect", error);
  }
  if (auto changed = make_blocking(socket.get(), true); !changed) return std::unexpected(changed.error());
  return socket;
}

Result<Fd> listen_tcp(int family, Endpoint at) {
  Fd socket(::socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket) return fail_errno("create a socket");
  const int on = 1;
  (void)::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (::bind(socket.get(), at.name, at.size) != 0) return fail_errno("bind");
  if (::listen(socket.get(), 16) != 0) return fail_errno("listen");
  return socket;
}

Result<std::string> bound_port(int socket) {
  sockaddr_storage name{};
  socklen_t size = sizeof name;
  std::array<char, NI_MAXSERV> port{};
  if (::getsockname(socket, reinterpret_cast<sockaddr*>(&name), &size) != 0) return fail_errno("ask a socket's name");
  if (::getnameinfo(reinterpret_cast<const sockaddr*>(&name), size, nullptr, 0, port.data(), port.size(),
                    NI_NUMERICSERV) != 0) {
    return fail(EADDRNOTAVAIL, "a socket's name has no port");
  }
  return std::string(port.data());
}

}  // namespace

Result<Address> Address::parse(std::string_view text) {
  const auto refused = [&] {
    return fail(EINVAL, fmt::format("'{}' is no place to migrate to; give tcp:HOST:PORT or unix:PATH", text));
  };
  if (text.starts_with("unix:") && text.size() > 5) return Address{Kind::Unix, std::string(text.substr(5)), {}};
  if (!text.starts_with("tcp:")) return refused();
  std::string_view rest = text.substr(4);
  const std::size_t colon = rest.rfind(':');
  if (colon == std::string_view::npos || colon + 1 == rest.size()) return refused();
  std::string_view host = rest.substr(0, colon);
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  return Address{Kind::Tcp, std::string(host), std::string(rest.substr(colon + 1))};
}

std::string Address::text() const {
  if (kind == Kind::Unix) return "unix:" + host;
  const bool bracketed = host.find(':') != std::string::npos;
  return bracketed ? fmt::format("tcp:[{}]:{}", host, port) : fmt::format("tcp:{}:{}", host, port);
}

Result<StopEvent> StopEvent::create() {
  Fd event(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!event) return fail_errno("create an eventfd");
  return StopEvent(std::move(event));
}

void StopEvent::signal() {
  const std::uint64_t one = 1;
  // It fails only when the counter is full, and then it is readable already.
  [[maybe_unused]] const ssize_t written = ::write(event_.get(), &one, sizeof one);
}

Result<Fd> connect_to(const Address& address, std::chrono::milliseconds limit, const std::stop_token& stop) {
  const auto within = [&](Error error) { return fail_within(address.text(), std::move(error)); };
  if (address.kind == Address::Kind::Unix) {
    auto name = unix_address(address.host);
    if (!name) return std::unexpected(name.error());
    auto connected = connect_one(AF_UNIX, endpoint_of(*name), limit, stop);
    if (!connected) return within(connected.error());
    return connected;
  }
  auto names = resolve(address, 0);
  if (!names) return std::unexpected(names.error());
  Error last{.code = EHOSTUNREACH, .message = "no address"};
  for (const addrinfo* name = names->get(); name != nullptr; name = name->ai_next) {
    auto connected = connect_one(name->ai_family, {name->ai_addr, name->ai_addrlen}, limit, stop);
    if (connected) return connected;
    last = connected.error();
    if (last.code == ECANCELED) break;
  }
  return within(std::move(last));
}

Result<Listening> listen_on(const Address& address) {
  const auto within = [&](Error error) { return fail_within(address.text(), std::move(error)); };
  if (address.kind == Address::Kind::Unix) {
    auto listener = listen_unix(address.host);
    if (!listener) return std::unexpected(listener.error());
    if (auto changed = make_blocking(listener->socket.get(), false); !changed) return within(changed.error());
    return Listening{std::move(listener->socket), std::move(listener->file), address};
  }
  auto names = resolve(address, AI_PASSIVE);
  if (!names) return std::unexpected(names.error());
  Error last{.code = EADDRNOTAVAIL, .message = "no address"};
  for (const addrinfo* name = names->get(); name != nullptr; name = name->ai_next) {
    auto socket = listen_tcp(name->ai_family, {name->ai_addr, name->ai_addrlen});
    if (!socket) {
      last = socket.error();
      continue;
    }
    auto port = bound_port(socket->get());
    if (!port) return within(port.error());
    return Listening{std::move(*socket), {}, {Address::Kind::Tcp, address.host, *port}};
  }
  return within(std::move(last));
}

Result<Fd> accept_on(const Fd& listener, std::optional<std::chrono::milliseconds> limit, const std::stop_token& stop) {
  for (;;) {
    if (auto waited = wait_for(listener.get(), POLLIN, limit, stop); !waited) return std::unexpected(waited.error());
    Fd socket(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (socket) return socket;
    // A peer that is gone again is none; anything else is ours.
    if (errno != ECONNABORTED && errno != EAGAIN && errno != EINTR) return fail_errno("accept a connection");
  }
}

}  // namespace gangway::migrate
