#include "guest/migration_request.h"

#include <fmt/format.h>

#include "base/json_text.h"
#include "guest/http_client.h"

namespace gangway::guest {

using nlohmann::ordered_json;

namespace {

// Puts parts together to lines and each line to an object.
class Lines {
 public:
  explicit Lines(std::function<void(const ordered_json&)> on_object) : on_object_(std::move(on_object)) {}
  void add(std::string_view part) {
    rest_ += part;
    for (std::size_t end = 0; (end = rest_.find('\n')) != std::string::npos;) {
      const ordered_json object = ordered_json::parse(rest_.substr(0, end), nullptr, false);
      rest_.erase(0, end + 1);
      if (object.is_object()) on_object_(object);
    }
  }

 private:
  std::function<void(const ordered_json&)> on_object_;
  std::string rest_;
};

Result<ordered_json> object_of(const Result<HttpReply>& reply) {
  if (!reply) return std::unexpected(reply.error());
  ordered_json object = ordered_json::parse(reply->body, nullptr, false);
  if (!object.is_object()) return fail(EBADMSG, fmt::format("the guest answered {}: {}", reply->status, reply->body));
  if (reply->status != 200) {
    return fail(reply->status == 409 ? EBUSY : EINVAL, object.value("error", "the guest refused without a reason"));
  }
  return object;
}

}  // namespace

Result<ordered_json> request_migration(const std::filesystem::path& control, const ordered_json& request,
                                       const std::function<void(const ordered_json&)>& on_progress) {
  ordered_json last;
  Lines lines([&](const ordered_json& event) {
    if (event.value("event", "") == "progress") return on_progress(event);
    last = event;
  });
  bool begun = false;
  const auto reply = http_call(control, "POST", "/migrate", json_text(request), [&](std::string_view part) {
    begun = true;
    lines.add(part);
  });
  if (last.is_object()) return last;
  if (begun) return fail(ECONNRESET, "the guest vanished in the middle of the migration");
  const auto refused = object_of(reply);
  if (!refused) return std::unexpected(refused.error());
  return fail(EBADMSG, "the guest began no migration");
}

Result<ordered_json> request_status(const std::filesystem::path& control) {
  return object_of(http_call(control, "GET", "/status"));
}

Result<ordered_json> request_stop(const std::filesystem::path& control) {
  return object_of(http_call(control, "POST", "/stop"));
}

}  // namespace gangway::guest
