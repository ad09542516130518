// Stands between a client and a server and passes everything: both directions, both sockets, descriptors, ends.
//
// It changes nothing but one descriptor: that of the twin socket, in whose place the client gets one of this
// forwarder's, so that what goes there passes too. What either side negotiated is theirs.
//
// Thread-safety: run() from one thread, stop() from any.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include <gangway/error.h>
#include <gangway/fd.h>

#include "base/spin_budget.h"
#include "vfio_user/forwarding_lane.h"

namespace gangway::vfio_user {

class Forwarder final : private DescriptorGate {
 public:
  static Result<std::unique_ptr<Forwarder>> create(Fd client, Fd server, std::chrono::microseconds spin,
                                                   ForwardingObserver& observer);

  // Until both have ended, or stop().
  void run();
  void stop();

 private:
  // One end of a socket's two, of which lane `i` reads and lane `i ^ 1` writes.
  struct End {
    int socket;
    std::optional<std::uint32_t> awaited;  // as the kernel was told; nullopt: nothing, not even that it hangs up
  };

  Forwarder(Fd client, Fd server, Fd stop_event, Fd events, std::chrono::microseconds spin,
            ForwardingObserver& observer);

  void pass(LaneId lane, const Header& header, std::span<const std::byte> body, std::vector<Fd>& fds) override;
  void add_lanes(SocketRole socket, int client, int server);
  [[nodiscard]] bool finished() const;
  void pass_ends_on();
  [[nodiscard]] std::chrono::milliseconds patience() const;
  [[nodiscard]] bool spin();
  void sleep();
  [[nodiscard]] std::optional<std::uint32_t> to_await(std::size_t end) const;
  void tell_what_to_await();
  [[nodiscard]] bool step(std::size_t end, std::uint32_t events);

  const Fd client_;
  const Fd server_;
  const Fd stop_event_;
  const Fd events_;  // an epoll: what is awaited changes seldom, and sleeping costs half of what poll takes
  ForwardingObserver& observer_;
  std::vector<Fd> twins_;
  std::deque<ForwardingLane> lanes_;  // to the server and to the client, of each socket
  std::vector<End> ends_;             // of each lane the one it reads
  SpinBudget spin_;
  std::chrono::steady_clock::time_point idle_since_;
  std::optional<std::chrono::steady_clock::time_point> linger_until_;  // once an end is gone
  std::atomic<bool> stopping_ = false;
};

}  // namespace gangway::vfio_user
