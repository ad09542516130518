// One HTTP request to a UNIX socket.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <string_view>

#include <gangway/error.h>

namespace gangway::guest {

struct HttpReply {
  int status = 0;
  std::string body;
};

// Sends a request and reads the whole reply. Parts of a reply that comes in chunks go to `on_part` as they come, and
// not into the body, when it is given. No time limit: the one who answers may have much to do. Errors: those of the
// socket; EBADMSG for what is no HTTP.
Result<HttpReply> http_call(const std::filesystem::path& socket, std::string_view method, std::string_view path,
                            std::string_view body = {}, const std::function<void(std::string_view)>& on_part = {});

}  // namespace gangway::guest
