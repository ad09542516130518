// UNIX stream sockets by path.
#pragma once

#include <filesystem>

#include <gangway/error.h>
#include <gangway/fd.h>

namespace gangway::guest {

// A socket file that nobody listens on any more is replaced; EADDRINUSE when somebody does.
Result<Fd> listen_unix(const std::filesystem::path& path);
Result<Fd> connect_unix(const std::filesystem::path& path);

}  // namespace gangway::guest
