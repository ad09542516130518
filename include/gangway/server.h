// Serves an Endpoint on a UNIX socket, over vfio-user.
//
// One thread per server accepts a client, serves it until it goes, makes the device free again (WIR-GONE), and accepts
// the next. A further client meanwhile waits in the listen queue. Servers share nothing, so a stalled client stalls
// only its own device.
//
// Source: QEMU docs/interop/vfio-user.rst; clauses WIR-*.
// Thread-safety: start, stop and the destructor from one thread; stop may also come from a signal-driven thread.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>

#include <gangway/endpoint.h>
#include <gangway/error.h>
#include <gangway/fd.h>

namespace gangway {

// Habits of released clients that go against the specification. Each is served to those alone whose VERSION shows them,
// so that nobody else notices.
struct Quirks {
  // The sample client of libvfio-user: replies to MIG_DATA_READ as long as asked, the true length in their `size`; and
  // on a socket that carries both directions one message at a time.
  bool libvfio_user_client = false;
};

struct ServerOptions {
  // How long a connection polls its socket after a message before it sleeps. 0: sleep at once.
  std::chrono::microseconds spin{50};
  // How long the client may take to answer a DMA_READ or DMA_WRITE, and to take a reply off a full socket.
  std::chrono::milliseconds client_timeout{5000};
  // Largest count of one data transfer that is offered to the client. Bytes.
  std::uint32_t max_data_xfer_size = 1U << 20;
  Quirks quirks;
};

class Server {
 public:
  // Binds and listens. A socket file that nobody listens on any more is replaced; EADDRINUSE when somebody does.
  static Result<std::unique_ptr<Server>> listen(const std::filesystem::path& socket, Endpoint& endpoint,
                                                ServerOptions options = {});
  // On a listening, or (a single client) a connected socket.
  static Result<std::unique_ptr<Server>> adopt(Fd socket, Endpoint& endpoint, ServerOptions options = {});
  ~Server();  // stops, joins, removes the socket file it made
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  Result<void> start();
  void stop();  // disconnects a client, ends the thread
  void wait();  // until stopped, or (adopted connection) its client is gone

  struct Statistics {
    std::uint64_t clients = 0;   // connections negotiated
    std::uint64_t messages = 0;  // commands handled
    std::uint64_t refused = 0;   // answered with an error
    // Connections ended by us: for a malformed message, a client that did not answer or read in time, a file that it
    // shortened. Not those that the client ended, nor the one that stop() did.
    std::uint64_t closed = 0;
  };
  [[nodiscard]] Statistics statistics() const;

 private:
  class Loop;
  explicit Server(std::unique_ptr<Loop> loop);
  std::unique_ptr<Loop> loop_;
};

}  // namespace gangway
