#include "guest/control.h"

#include <fmt/format.h>

#include "base/json_text.h"

namespace gangway::guest {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

HttpResponse refuse(int status, std::string message) {
  return {.status = status, .body = json_text(ordered_json{{"error", std::move(message)}}) + "\n"};
}

HttpResponse answer(const Result<ordered_json>& result) {
  if (!result) return refuse(409, result.error().message);
  return {.body = json_text(*result) + "\n"};
}

bool send_lines(const HttpResponse::Send& send, const std::vector<std::string>& lines) {
  for (const std::string& line : lines) {
    if (!send(line + "\n")) return false;
  }
  return true;
}

Result<Guest::Migration> parse_migration(const std::string& body) {
  const json request = json::parse(body, nullptr, false);
  if (!request.is_object() || !request.contains("to") || !request["to"].is_string()) {
    return fail(EINVAL, R"(expected {"to": "tcp:HOST:PORT"})");
  }
  Guest::Migration migration{.to = request["to"].get<std::string>()};
  if (const auto downtime = request.find("max_downtime_ms"); downtime != request.end()) {
    if (!downtime->is_number_unsigned() || *downtime > 3'600'000U) {
      return fail(EINVAL, "max_downtime_ms: must be 0 to 3600000");
    }
    migration.max_downtime = std::chrono::milliseconds(downtime->get<unsigned>());
  }
  if (const auto channels = request.find("channels"); channels != request.end()) {
    if (!channels->is_number_unsigned() || *channels < 1U || *channels > migrate::kMaxChannels) {
      return fail(EINVAL, fmt::format("channels: must be 1 to {}", migrate::kMaxChannels));
    }
    migration.channels = channels->get<unsigned>();
  }
  return migration;
}

HttpResponse start_migration(Guest& guest, const std::string& body) {
  const auto request = parse_migration(body);
  if (!request) return refuse(400, request.error().message);
  if (auto begun = guest.migrate(*request); !begun) return refuse(409, begun.error().message);
  HttpResponse response{.content_type = "application/jsonl"};
  response.stream = [&guest](const HttpResponse::Send& send) {
    std::size_t seen = 0;
    while (true) {
      const auto events = guest.wait_events(seen);
      if (events.empty() || !send_lines(send, events)) return;
      seen += events.size();
    }
  };
  return response;
}

HttpResponse handle(Guest& guest, const HttpRequest& request) {
  const std::string call = request.method + " " + request.path;
  if (call == "GET /status") return answer(guest.status());
  if (call == "GET /metrics") return {.content_type = "text/plain; version=0.0.4", .body = guest.metrics()};
  if (call == "GET /migration") return {.content_type = "application/jsonl", .body = guest.events_so_far()};
  if (call == "POST /migrate") return start_migration(guest, request.body);
  if (call == "POST /resume") return answer(guest.resume());
  if (call == "POST /stop") return answer(guest.stop());
  if (call == "POST /cancel") {
    const auto cancelled = guest.cancel();
    return cancelled ? answer(ordered_json{{"cancelled", true}}) : refuse(409, cancelled.error().message);
  }
  return refuse(
      404,
      fmt::format("{}: there is GET /status, /metrics, /migration and POST /migrate, /cancel, /resume, /stop", call));
}

}  // namespace

Result<std::unique_ptr<HttpServer>> serve_control(const std::filesystem::path& socket, Guest& guest) {
  return HttpServer::listen(socket, [&guest](const HttpRequest& request) { return handle(guest, request); });
}

}  // namespace gangway::guest
