// A guest's control socket: HTTP on a UNIX socket.
//
//   GET  /status     what the guest is and did
//   GET  /metrics    the same counters for Prometheus
//   GET  /migration  the events of the last migration, as JSON lines, so far
//   POST /migrate    {"to": "tcp:HOST:PORT", "max_downtime_ms": 300, "channels": 1}; answers with its events as they
//   come POST /cancel     gives the migration up POST /stop       ends the work, verifies, and answers with the final
//   status
#pragma once

#include <filesystem>
#include <memory>

#include <gangway/error.h>

#include "guest/guest.h"
#include "guest/http_server.h"

namespace gangway::guest {

// Answers until it is destroyed; the guest outlives it.
Result<std::unique_ptr<HttpServer>> serve_control(const std::filesystem::path& socket, Guest& guest);

}  // namespace gangway::guest
