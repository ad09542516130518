#include "guest/unix_socket.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>

#include <fmt/format.h>

namespace gangway::guest {
namespace {

Result<sockaddr_un> address_of(const std::filesystem::path& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string text = path.string();
  if (text.empty() || text.size() >= sizeof address.sun_path) {
    return fail(ENAMETOOLONG,
                fmt::format("'{}': a socket's path has 1 to {} bytes", text, sizeof address.sun_path - 1));
  }
  std::memcpy(address.sun_path, text.data(), text.size());
  return address;
}

Result<Fd> make_socket() {
  Fd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket) return fail_errno("create a socket");
  return socket;
}

}  // namespace

Result<Fd> connect_unix(const std::filesystem::path& path) {
  const auto address = address_of(path);
  if (!address) return std::unexpected(address.error());
  auto socket = make_socket();
  if (!socket) return socket;
  if (::connect(socket->get(), reinterpret_cast<const sockaddr*>(&*address), sizeof *address) != 0) {
    return fail_errno(fmt::format("connect to {}", path.string()));
  }
  return socket;
}

Result<Fd> listen_unix(const std::filesystem::path& path) {
  const auto address = address_of(path);
  if (!address) return std::unexpected(address.error());
  auto socket = make_socket();
  if (!socket) return socket;
  const auto* name = reinterpret_cast<const sockaddr*>(&*address);
  if (::bind(socket->get(), name, sizeof *address) != 0) {
    if (errno != EADDRINUSE) return fail_errno(fmt::format("bind {}", path.string()));
    if (const auto other = connect_unix(path); other || other.error().code != ECONNREFUSED) {
      return fail(EADDRINUSE, fmt::format("bind {}: something is there and in use", path.string()));
    }
    ::unlink(path.c_str());
    if (::bind(socket->get(), name, sizeof *address) != 0) return fail_errno(fmt::format("bind {}", path.string()));
  }
  if (::listen(socket->get(), 16) != 0) return fail_errno(fmt::format("listen on {}", path.string()));
  return socket;
}

}  // namespace gangway::guest
