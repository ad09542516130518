// A line to a connected stream socket or a terminal.
//
// A thread waits for the descriptor, but only after a read or a write fell short: so it sleeps while the port has no
// room, and a peer that sends faster than the guest reads is held back by its own socket.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <thread>

#include <gangway/error.h>
#include <gangway/fd.h>

#include "devices/serial/backend.h"

namespace gangway::serial {

class FdBackend : public Backend {
 public:
  // EINVAL for what is neither a stream socket nor a terminal. The descriptor is made non-blocking.
  static Result<std::unique_ptr<FdBackend>> create(Fd fd);
  ~FdBackend() override;

  // Once the peer is gone, what is written is dropped, as on a line that leads nowhere.
  std::size_t write(std::span<const std::byte> bytes) override;
  std::size_t read(std::span<std::byte> out) override;
  void connect(std::function<void()> ready) override;

 private:
  FdBackend(Fd fd, Fd wake) : fd_(std::move(fd)), wake_(std::move(wake)) {}
  void run(const std::function<void()>& ready);
  void wait_for(short event);

  const Fd fd_;
  const Fd wake_;  // eventfd: waited_ or ended_ changed
  std::mutex mutex_;
  short waited_ = 0;  // POLLIN, POLLOUT: what fell short
  bool ended_ = false;
  std::thread thread_;
};

}  // namespace gangway::serial
