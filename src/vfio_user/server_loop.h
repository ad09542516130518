// The thread of a Server: accepts a client, serves it until it goes, makes the device free, accepts the next.
#pragma once

#include <condition_variable>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include <gangway/server.h>

#include "base/unix_socket.h"
#include "vfio_user/connection.h"
#include "vfio_user/migration_watch.h"

namespace gangway {

class Server::Loop {
 public:
  // `file` is the socket's, none if it is not ours.
  static Result<std::unique_ptr<Loop>> create(Fd socket, SocketFile file, Endpoint& endpoint, ServerOptions options);
  ~Loop();

  Result<void> start();
  void stop();
  void wait();
  [[nodiscard]] Statistics statistics() const;

 private:
  Loop() = default;
  void run();
  std::optional<Fd> accept_client();  // nullopt once stopped
  bool pause();                       // a short while; false once stopped
  void serve(Fd socket);

  Fd socket_;
  bool listening_ = true;
  SocketFile file_;
  std::string name_;  // the file's path
  Endpoint* endpoint_ = nullptr;
  ServerOptions options_;
  Fd stop_event_;
  vfio_user::Counters counters_;
  vfio_user::MigrationWatch watch_;  // of the thread

  std::mutex mutex_;
  std::condition_variable ended_changed_;
  bool stopping_ = false;
  bool ended_ = true;
  vfio_user::Connection* connection_ = nullptr;
  std::thread thread_;
};

}  // namespace gangway
