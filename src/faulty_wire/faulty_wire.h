// Serves an endpoint by a good server, with one thing done wrong to the messages between it and the socket.
//
// One client at a time, as a Server has it: each gets a server of its own, which is joined before the next one comes.
//
// Thread-safety: one thread.
#pragma once

#include <filesystem>
#include <memory>
#include <mutex>
#include <thread>

#include <gangway/endpoint.h>
#include <gangway/error.h>
#include <gangway/fd.h>
#include <gangway/server.h>

#include "base/unix_socket.h"
#include "devices/faulty/wire_fault.h"

namespace gangway::vfio_user {
class MessageRelay;
}

namespace gangway::faulty {

class FaultyWire {
 public:
  // Serves until it goes. Errors as Server::listen().
  static Result<std::unique_ptr<FaultyWire>> serve(const std::filesystem::path& socket, Endpoint& endpoint,
                                                   WireFault fault, const ServerOptions& options = {});
  ~FaultyWire();  // disconnects a client, removes the socket file
  FaultyWire(const FaultyWire&) = delete;
  FaultyWire& operator=(const FaultyWire&) = delete;

 private:
  FaultyWire(UnixListener listener, Endpoint& endpoint, WireFault fault, const ServerOptions& options)
      : listener_(std::move(listener)), endpoint_(endpoint), fault_(fault), options_(options) {}
  void run();
  Result<void> serve_client(Fd client);

  UnixListener listener_;
  Endpoint& endpoint_;
  const WireFault fault_;
  const ServerOptions options_;
  Fd stop_event_;
  std::mutex mutex_;
  bool stopping_ = false;
  vfio_user::MessageRelay* relay_ = nullptr;  // of the client that is there
  std::thread thread_;
};

}  // namespace gangway::faulty
