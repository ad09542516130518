#include "migrate/destination.h"

#include <unistd.h>

#include <utility>

#include <fmt/format.h>

#include "migrate/address.h"
#include "migrate/incoming.h"

namespace gangway::migrate {

Listener::Listener(Fd socket, std::string address, std::string socket_file)
    : socket_(std::move(socket)), address_(std::move(address)), socket_file_(std::move(socket_file)) {}

Listener::Listener(Listener&& other) noexcept
    : socket_(std::move(other.socket_)),
      address_(std::move(other.address_)),
      socket_file_(std::exchange(other.socket_file_, {})) {}

Listener& Listener::operator=(Listener&& other) noexcept {
  std::swap(socket_, other.socket_);
  std::swap(address_, other.address_);
  std::swap(socket_file_, other.socket_file_);
  return *this;
}

Listener::~Listener() {
  if (!socket_file_.empty()) (void)::unlink(socket_file_.c_str());
}

Result<Listener> Listener::bind(std::string_view where) {
  auto address = Address::parse(where);
  if (!address) return std::unexpected(address.error());
  auto listening = listen_on(*address);
  if (!listening) return std::unexpected(listening.error());
  const bool file = address->kind == Address::Kind::Unix;
  return Listener(std::move(listening->socket), listening->address.text(), file ? address->host : std::string());
}

Result<DestinationReport> Listener::migrate_in(Machine& machine, const DestinationOptions& options) {
  auto report = Incoming(machine, socket_, options).run();
  if (!report) return fail_within(fmt::format("migrate in at {}", address_), report.error());
  return report;
}

}  // namespace gangway::migrate
