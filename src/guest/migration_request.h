// Asks a guest, through its control socket, to migrate, and follows it to the end.
#pragma once

#include <filesystem>
#include <functional>

#include <gangway/error.h>

#include <nlohmann/json.hpp>

namespace gangway::guest {

// `request` is the body of POST /migrate. Progress events go to `on_progress`; the event that ended the migration
// ("completed" or "failed") is returned. Errors: what keeps the request from being made or accepted; ECONNRESET when
// the guest vanished in the middle.
Result<nlohmann::ordered_json> request_migration(const std::filesystem::path& control,
                                                 const nlohmann::ordered_json& request,
                                                 const std::function<void(const nlohmann::ordered_json&)>& on_progress);

// GET /status, as an object.
Result<nlohmann::ordered_json> request_status(const std::filesystem::path& control);

// POST /stop: the final status.
Result<nlohmann::ordered_json> request_stop(const std::filesystem::path& control);

}  // namespace gangway::guest
