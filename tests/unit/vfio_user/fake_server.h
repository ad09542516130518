// The other end of a client: a server that answers as a test has it answer.
#pragma once

#include <chrono>
#include <memory>
#include <string_view>
#include <thread>
#include <utility>

#include "unit/vfio_user/raw_peer.h"
#include "vfio_user/client.h"

namespace gangway::test {

struct FakeServer {
  enum class Greeting { Version, None };
  // `serve` answers one connection, after VERSION unless it wants to do that itself.
  template <class Serve>
  explicit FakeServer(Serve serve, Greeting greeting = Greeting::Version) {
    start([serve, greeting](RawPeer& peer) mutable {
      if (greeting == Greeting::Version) peer.reply(*peer.hear(), bytes(vfio_user::Version{0, 1}));
      serve(peer);
    });
  }
  // After VERSION, to which it says `capabilities`, which is JSON.
  template <class Serve>
  FakeServer(std::string_view capabilities, Serve serve) {
    start([said = with(bytes(vfio_user::Version{0, 1}), text(capabilities)), serve](RawPeer& peer) mutable {
      peer.reply(*peer.hear(), said);
      serve(peer);
    });
  }
  ~FakeServer() { thread.join(); }
  Result<std::unique_ptr<vfio_user::Client>> open() {
    using namespace std::chrono_literals;
    return vfio_user::Client::create(std::move(client_end), "fake", {.open = {.timeout = 200ms, .spin = 0us}});
  }
  Fd client_end;
  std::thread thread;

 private:
  template <class Serve>
  void start(Serve serve) {
    auto [ours, theirs] = socket_pair();
    client_end = std::move(theirs);
    thread = std::thread([peer = RawPeer(std::move(ours)), serve]() mutable {
      serve(peer);
      (void)peer.closed();
    });
  }
};

}  // namespace gangway::test
