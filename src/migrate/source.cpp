#include "migrate/source.h"

#include <fmt/format.h>

#include "migrate/address.h"
#include "migrate/outgoing.h"
#include "migrate/take_back.h"

namespace gangway::migrate {

Result<SourceReport> migrate_out(Machine& machine, std::string_view destination, const SourceOptions& options) {
  auto address = Address::parse(destination);
  if (!address) return std::unexpected(address.error());
  auto report = Outgoing(machine, options).run(*address);
  if (!report) return fail_within(fmt::format("migrate to {}", destination), report.error());
  return report;
}

Result<void> resume_here(Machine& machine) {
  auto back = take_back(machine.devices());
  auto resumed = machine.resume();
  if (back && !resumed) return fail_within("resume", resumed.error());
  return back;
}

}  // namespace gangway::migrate
