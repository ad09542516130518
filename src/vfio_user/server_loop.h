// The thread of a Server: accepts a client, serves it until it goes, makes the device free, accepts the next.
#pragma once

#include <sys/types.h>

#include <condition_variable>
#include <filesystem>
#include <mutex>
#include <optional>
#include <thread>

#include <gangway/server.h>

#include "vfio_user/connection.h"
#include "vfio_user/migration_watch.h"

namespace gangway {

class Server::Loop {
 public:
  // `path` is the socket file to remove in the end, empty if it is not ours.
  static Result<std::unique_ptr<Loop>> create(Fd socket, std::filesystem::path path, Endpoint& endpoint,
                                              ServerOptions options);
  ~Loop();

  Result<void> start();
  void stop();
  void wait();
  [[nodiscard]] Statistics statistics() const;

 private:
  struct File {  // what path_ named when we made it: another server may have replaced it since
    dev_t device;
    ino_t inode;
  };

  Loop() = default;
  void run();
  std::optional<Fd> accept_client();  // nullopt once stopped
  bool pause();                       // a short while; false once stopped
  void serve(Fd socket);
  void remove_socket_file();

  Fd socket_;
  bool listening_ = true;
  std::filesystem::path path_;
  std::optional<File> file_;
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
