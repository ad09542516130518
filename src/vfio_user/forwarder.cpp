#include "vfio_user/forwarder.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <span>

#include "base/log.h"
#include "vfio_user/negotiation.h"

namespace gangway::vfio_user {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kMainLanes = 2;
constexpr std::size_t kMostEnds = 2 * kMainLanes;  // with a twin
constexpr std::uint64_t kStop = kMostEnds;         // in place of an end's number
constexpr std::uint32_t kHangUp = EPOLLHUP | EPOLLERR;
// How long a peer may take for what was said by one that is gone.
constexpr std::chrono::seconds kLinger{5};
// While polling, the twin's lanes are looked at once in so many rounds.
constexpr int kTwinRounds = 8;

bool is_stream_socket(const Fd& fd) {
  int type = 0;
  socklen_t size = sizeof type;
  return ::getsockopt(fd.get(), SOL_SOCKET, SO_TYPE, &type, &size) == 0 && type == SOCK_STREAM;
}

// Which descriptor of a reply to VERSION is the twin socket.
std::optional<std::size_t> twin_in(const Header& header, std::span<const std::byte> body, const std::vector<Fd>& fds) {
  const bool version = header.command == static_cast<std::uint16_t>(Command::Version);
  const bool reply = (header.flags & kTypeMask) == kTypeReply && (header.flags & kError) == 0;
  if (!version || !reply || fds.empty() || body.size() < sizeof(Version)) return std::nullopt;
  const Result<Capabilities> said = parse_capabilities(body.subspan(sizeof(Version)));
  if (!said || !said->twin_socket || !said->twin_fd_index || *said->twin_fd_index >= fds.size()) return std::nullopt;
  if (!is_stream_socket(fds[*said->twin_fd_index])) return std::nullopt;
  return *said->twin_fd_index;
}

}  // namespace

Result<std::unique_ptr<Forwarder>> Forwarder::create(Fd client, Fd server, std::chrono::microseconds spin,
                                                     ForwardingObserver& observer) {
  Fd stop_event(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!stop_event) return fail_errno("make an eventfd");
  Fd events(::epoll_create1(EPOLL_CLOEXEC));
  epoll_event stop{.events = EPOLLIN, .data = {.u64 = kStop}};
  if (!events || ::epoll_ctl(events.get(), EPOLL_CTL_ADD, stop_event.get(), &stop) != 0) {
    return fail_errno("make an epoll");
  }
  return std::unique_ptr<Forwarder>(
      new Forwarder(std::move(client), std::move(server), std::move(stop_event), std::move(events), spin, observer));
}

Forwarder::Forwarder(Fd client, Fd server, Fd stop_event, Fd events, std::chrono::microseconds spin,
                     ForwardingObserver& observer)
    : client_(std::move(client)),
      server_(std::move(server)),
      stop_event_(std::move(stop_event)),
      events_(std::move(events)),
      observer_(observer),
      spin_(spin) {
  add_lanes(SocketRole::Main, client_.get(), server_.get());
}

void Forwarder::add_lanes(SocketRole socket, int client, int server) {
  DescriptorGate& gate = *this;
  lanes_.emplace_back(LaneId{Direction::ToServer, socket}, client, server, observer_, gate);
  lanes_.emplace_back(LaneId{Direction::ToClient, socket}, server, client, observer_, gate);
  for (const int end : {client, server}) ends_.push_back({.socket = end, .awaited = std::nullopt});
}

void Forwarder::pass(LaneId lane, const Header& header, std::span<const std::byte> body, std::vector<Fd>& fds) {
  if (lane.direction != Direction::ToClient || lanes_.size() > kMainLanes) return;
  const std::optional<std::size_t> twin = twin_in(header, body, fds);
  if (!twin) return;
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0) {
    log::warn("make a twin socket: {}; what goes there is passed unseen", strerrordesc_np(errno));
    return;
  }
  twins_.emplace_back(ends[0]);
  twins_.push_back(std::exchange(fds[*twin], Fd(ends[1])));
  add_lanes(SocketRole::Twin, twins_[0].get(), twins_[1].get());
}

void Forwarder::run() {
  while (!finished() && !stopping_.load(std::memory_order_relaxed)) {
    if (!spin()) sleep();
  }
}

void Forwarder::stop() {
  stopping_ = true;
  const std::uint64_t one = 1;
  (void)!::write(stop_event_.get(), &one, sizeof one);
}

// Who is gone in both directions takes nothing either, and the other side is to feel it. What it had said the other may
// still take, for a while: who is stuck does not keep the next client waiting.
void Forwarder::pass_ends_on() {
  for (std::size_t i = 0; i < lanes_.size(); ++i) {
    ForwardingLane& lane = lanes_[i];
    ForwardingLane& other = lanes_[i ^ 1U];
    if (!lane.hung_up()) continue;
    if (!linger_until_) linger_until_ = Clock::now() + kLinger;
    if (!lane.finished() && Clock::now() >= *linger_until_) lane.give_up("the rest of what was said is not taken");
    if (lane.finished() && !other.finished()) other.give_up("the other end is gone");
  }
}

// How long to wait at most; negative for ever.
std::chrono::milliseconds Forwarder::patience() const {
  const bool lingers =
      std::ranges::any_of(lanes_, [](const ForwardingLane& lane) { return lane.hung_up() && !lane.finished(); });
  if (!lingers) return std::chrono::milliseconds(-1);
  return std::max(std::chrono::ceil<std::chrono::milliseconds>(*linger_until_ - Clock::now()),
                  std::chrono::milliseconds(0));
}

bool Forwarder::finished() const { return lanes_[0].finished() && lanes_[1].finished(); }

// True when something moved.
bool Forwarder::spin() {
  if (!spin_.enabled()) return false;
  idle_since_ = Clock::now();
  const Clock::time_point until = idle_since_ + spin_.now();
  for (int round = 1; spin_.now().count() != 0; ++round) {
    const std::size_t looked_at = round % kTwinRounds == 0 ? lanes_.size() : kMainLanes;
    bool moved = false;
    for (std::size_t i = 0; i < looked_at; ++i) moved |= lanes_[i].step();
    if (moved) {
      spin_.covered();
      pass_ends_on();
      return true;
    }
    if (Clock::now() >= until) return false;
  }
  return false;
}

// Until something can be moved, and moves it.
void Forwarder::sleep() {
  tell_what_to_await();
  std::array<epoll_event, kMostEnds + 1> came;
  const int count =
      ::epoll_wait(events_.get(), came.data(), static_cast<int>(came.size()), static_cast<int>(patience().count()));
  if (spin_.enabled()) spin_.slept(Clock::now() - idle_since_);
  bool moved = false;
  for (const epoll_event& event : std::span(came).first(static_cast<std::size_t>(std::max(count, 0)))) {
    if (event.data.u64 != kStop) moved |= step(event.data.u64, event.events);
  }
  if (moved) linger_until_.reset();  // what is taken slowly is still taken
  pass_ends_on();
}

std::optional<std::uint32_t> Forwarder::to_await(std::size_t end) const {
  const ForwardingLane& out_of = lanes_[end];
  const ForwardingLane& into = lanes_[end ^ 1U];
  const bool reads = !out_of.finished() && out_of.wants_to_read();
  const bool writes = !into.finished() && into.wants_to_write();
  if (!reads && !writes && (out_of.finished() || out_of.hung_up())) return std::nullopt;
  return (reads ? EPOLLIN : 0U) | (writes ? EPOLLOUT : 0U);
}

void Forwarder::tell_what_to_await() {
  for (std::size_t i = 0; i < ends_.size(); ++i) {
    End& end = ends_[i];
    const std::optional<std::uint32_t> wanted = to_await(i);
    if (wanted == end.awaited) continue;
    epoll_event event{.events = wanted.value_or(0), .data = {.u64 = i}};
    const int change = !wanted ? EPOLL_CTL_DEL : !end.awaited ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;
    if (::epoll_ctl(events_.get(), change, end.socket, &event) != 0) {
      log::error("await a peer: {}; its connection ends", strerrordesc_np(errno));
      for (ForwardingLane& lane : lanes_) lane.give_up("an end cannot be awaited");
      return;
    }
    end.awaited = wanted;
  }
}

// True when something moved.
bool Forwarder::step(std::size_t end, std::uint32_t events) {
  ForwardingLane& out_of = lanes_[end];
  ForwardingLane& into = lanes_[end ^ 1U];
  bool moved = false;
  if (!out_of.finished() && (events & (EPOLLIN | kHangUp)) != 0) {
    moved |= out_of.step();
    if ((events & kHangUp) != 0) out_of.note_hang_up();
  }
  if (!into.finished() && into.wants_to_write() && (events & (EPOLLOUT | kHangUp)) != 0) moved |= into.step();
  return moved;
}

}  // namespace gangway::vfio_user
