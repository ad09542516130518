#include <sys/socket.h>

#include <array>

#include "vfio_user/handlers.h"

namespace gangway::vfio_user {
namespace {

std::unexpected<Error> end_with(Session& session, Error error) {
  session.end = error;
  return std::unexpected(std::move(error));
}

// Keeps our end of a new socket pair and sends the other with the answer.
Result<void> make_twin(Session& session, Answer& answer) {
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0) {
    return fail_errno("make a twin socket");
  }
  session.twin = Fd(ends[0]);
  answer.send_fd(Fd(ends[1]));
  return {};
}

}  // namespace

Result<void> handle_version(Session& session, const Request& request, Answer& answer) {
  const auto version = fixed_part<Version>(request);
  if (session.negotiated) return fail(EINVAL, "VERSION: already negotiated", "WIR-NEGOTIATE");
  if (version.major != kMajor) {
    return end_with(session, {EINVAL, fmt::format("VERSION: major {} is not served", version.major), "WIR-NEGOTIATE"});
  }
  Result<Capabilities> client = parse_capabilities(request.body.subspan(sizeof version));
  if (!client) return end_with(session, client.error());

  Negotiated negotiated{
      .minor = std::min(version.minor, kMinor), .client = *client, .server = common(session.offered, *client)};
  if (client->max_msg_fds == 0) negotiated.server.twin_socket = negotiated.server.shared_data = false;
  if (negotiated.server.twin_socket) {
    if (Result<void> made = make_twin(session, answer); !made) return end_with(session, made.error());
    negotiated.server.twin_fd_index = 0;
  }
  negotiated.padded_replies = session.quirks.libvfio_user_client && is_libvfio_user_client(*client);
  answer.put(Version{.major = kMajor, .minor = negotiated.minor});
  const std::string json = to_json(negotiated.server);
  std::ranges::copy(std::as_bytes(std::span(json)), answer.room(json.size()).begin());
  session.negotiated = negotiated;
  return {};
}

}  // namespace gangway::vfio_user
