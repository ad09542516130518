#include <gangway/server.h>

#include "base/unix_socket.h"
#include "vfio_user/server_loop.h"

namespace gangway {

Server::Server(std::unique_ptr<Loop> loop) : loop_(std::move(loop)) {}

Server::~Server() { stop(); }

Result<std::unique_ptr<Server>> Server::listen(const std::filesystem::path& socket, Endpoint& endpoint,
                                               ServerOptions options) {
  Result<UnixListener> listener = listen_unix(socket);
  if (!listener) return std::unexpected(listener.error());
  Result<std::unique_ptr<Loop>> loop =
      Loop::create(std::move(listener->socket), std::move(listener->file), endpoint, options);
  if (!loop) return std::unexpected(loop.error());
  return std::unique_ptr<Server>(new Server(*std::move(loop)));
}

Result<std::unique_ptr<Server>> Server::adopt(Fd socket, Endpoint& endpoint, ServerOptions options) {
  Result<std::unique_ptr<Loop>> loop = Loop::create(std::move(socket), {}, endpoint, options);
  if (!loop) return std::unexpected(loop.error());
  return std::unique_ptr<Server>(new Server(*std::move(loop)));
}

Result<void> Server::start() { return loop_->start(); }
void Server::stop() { loop_->stop(); }
void Server::wait() { loop_->wait(); }
Server::Statistics Server::statistics() const { return loop_->statistics(); }

}  // namespace gangway
