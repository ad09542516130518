// Answers HTTP on a UNIX socket: one request a connection, a thread each, a bounded number of them.
//
// Thread-safety: listen and the destructor from one thread; the handler is called from many.
#pragma once

#include <condition_variable>
#include <filesystem>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>

#include <gangway/error.h>
#include <gangway/fd.h>

#include "base/unix_socket.h"

namespace gangway::guest {

struct HttpRequest {
  std::string method;
  std::string path;
  std::string body;
};

struct HttpResponse {
  int status = 200;
  std::string content_type = "application/json";
  std::string body;
  // When set, the body is what it passes to `send`, piece by piece as it comes; false from `send`: the client is gone.
  using Send = std::function<bool(std::string_view)>;
  std::function<void(const Send&)> stream;
};

class HttpServer {
 public:
  using Handler = std::function<HttpResponse(const HttpRequest&)>;
  static constexpr std::size_t kMaxConnections = 32;

  // Errors as listen_unix().
  static Result<std::unique_ptr<HttpServer>> listen(const std::filesystem::path& socket, Handler handler);
  ~HttpServer();  // answers what was asked, and removes the socket file
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

 private:
  struct Connection {
    Fd socket;
    std::thread thread;
    bool done = false;
  };

  HttpServer(UnixListener listener, Handler handler);
  void accept_all();
  void serve(int socket);
  void answer(int socket, const HttpResponse& response);
  void join_finished();

  const UnixListener listener_;
  const Handler handler_;
  std::mutex mutex_;
  bool stopping_ = false;
  std::list<Connection> connections_;
  std::thread acceptor_;
};

}  // namespace gangway::guest
