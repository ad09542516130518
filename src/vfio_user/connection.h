// A client from its first byte to its last: reads commands, answers them, and carries the device's DMA messages.
//
// Thread-safety: run() from one thread, close() from any.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>

#include <gangway/endpoint.h>
#include <gangway/fd.h>
#include <gangway/server.h>

#include "vfio_user/channel.h"
#include "vfio_user/dma_channel.h"
#include "vfio_user/migration_watch.h"
#include "vfio_user/session.h"
#include "vfio_user/turns.h"

namespace gangway::vfio_user {

struct Counters {
  std::atomic<std::uint64_t> clients{0};
  std::atomic<std::uint64_t> messages{0};
  std::atomic<std::uint64_t> refused{0};
  std::atomic<std::uint64_t> closed{0};
};

class Connection : private Placer {
 public:
  // `name` of the device, for the log.
  Connection(Fd socket, std::string name, Endpoint& endpoint, const ServerOptions& options, Counters& counters,
             MigrationWatch& watch);
  // The endpoint must have been told that the client is gone, or be told by nobody: it may still use the messenger.
  ~Connection() override;
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  // Returns why the connection ended.
  Error run();
  // Whoever waits for the client, on either socket, is let go.
  void close(const Error& reason);

 private:
  std::span<std::byte> place(const Header& header) override { return landing_for(session_, header); }
  void arrived(std::size_t size) override { landed(session_, size); }
  void answer(Message& message);
  void begin();
  void say_what_is_lost(const Error& reason);

  const std::string name_;
  const ServerOptions options_;
  Counters& counters_;
  MigrationWatch& watch_;
  Session session_;
  Channel channel_;
  std::mutex twin_mutex_;  // close() may come while it is made
  std::optional<Channel> twin_;
  Turns turns_;
  bool in_turn_ = true;  // turns are kept: for a client that needs them, and until that is known
  std::optional<DmaChannel> dma_;
  Answer answer_;
};

}  // namespace gangway::vfio_user
