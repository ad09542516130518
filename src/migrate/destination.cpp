#include "migrate/destination.h"

#include <utility>

#include <fmt/format.h>

#include "migrate/address.h"
#include "migrate/incoming.h"

namespace gangway::migrate {

Listener::Listener(Fd socket, SocketFile file, std::string address)
    : socket_(std::move(socket)), file_(std::move(file)), address_(std::move(address)) {}

Result<Listener> Listener::bind(std::string_view where) {
  auto address = Address::parse(where);
  if (!address) return std::unexpected(address.error());
  auto listening = listen_on(*address);
  if (!listening) return std::unexpected(listening.error());
  return Listener(std::move(listening->socket), std::move(listening->file), listening->address.text());
}

Result<DestinationReport> Listener::migrate_in(Machine& machine, const DestinationOptions& options) {
  auto report = Incoming(machine, socket_, options).run();
  if (!report) return fail_within(fmt::format("migrate in at {}", address_), report.error());
  return report;
}

}  // namespace gangway::migrate
