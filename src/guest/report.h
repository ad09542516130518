// What guests and migrations tell, as JSON and as metrics. The fields are described in docs/guest.md.
#pragma once

#include <string>

#include <gangway/error.h>

#include <nlohmann/json.hpp>

#include "guest/machine.h"
#include "migrate/destination.h"
#include "migrate/source.h"

namespace gangway::guest {

// {"event": "progress", ...}
[[nodiscard]] nlohmann::ordered_json to_json(const migrate::Progress& progress);
// {"event": "completed", ...}
[[nodiscard]] nlohmann::ordered_json to_json(const migrate::SourceReport& report);
// {"event": "failed", "error": errno's name, "message": sentence}
[[nodiscard]] nlohmann::ordered_json failure_to_json(const Error& error);
[[nodiscard]] nlohmann::ordered_json to_json(const migrate::DestinationReport& report);

// The counters and findings of a machine, into an object.
void add_machine(nlohmann::ordered_json& json, const GuestMachine& machine);
[[nodiscard]] std::string metrics_of(const Totals& totals);

}  // namespace gangway::guest
