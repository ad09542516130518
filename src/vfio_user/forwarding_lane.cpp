#include "vfio_user/forwarding_lane.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cstring>

#include <fmt/format.h>

#include "vfio_user/socket.h"

namespace gangway::vfio_user {

ForwardingLane::ForwardingLane(LaneId id, int from, int to, ForwardingObserver& observer, DescriptorGate& gate)
    : id_(id),
      from_(from),
      to_(to),
      observer_(observer),
      gate_(gate),
      buffer_(std::make_unique_for_overwrite<std::byte[]>(kBuffer)) {}

bool ForwardingLane::step() {
  if (finished_) return false;
  const bool came = wants_to_read() && read();
  const bool left = wants_to_write() && write();
  if (ended_ && pieces_.empty()) finish();
  return came || left || finished_;
}

bool ForwardingLane::read() {
  // What the sender wrote at once is read at once where it fits.
  if (kBuffer - end_ < kWhole && begin_ != 0) {
    std::memmove(buffer_.get(), buffer_.get() + begin_, end_ - begin_);
    passed_ += begin_;
    end_ -= begin_;
    sorted_ -= begin_;
    begin_ = 0;
  }
  std::array<iovec, 1> into{{{buffer_.get() + end_, kBuffer - end_}}};
  std::vector<Fd> fds;
  const Result<std::size_t> got = receive(from_, into, fds, Wait::No);
  if (!got && got.error().code == EAGAIN) return false;
  if (!got) {
    end_stream(got.error().code == ECONNRESET ? "the end" : got.error().message);
    return true;
  }
  end_ += *got;
  if (!fds.empty()) arrived_.push_back({.end = passed_ + end_, .fds = std::move(fds)});
  sort();
  // Of a message whose header is not whole: no more than any message may have.
  for (std::size_t kept = 0; Arrived & one : arrived_) {
    one.fds.resize(std::min(one.fds.size(), kMaxDescriptors - kept));
    kept += one.fds.size();
  }
  return true;
}

// Makes pieces of what was read.
void ForwardingLane::sort() {
  while (sorted_ < end_) {
    const std::size_t there = end_ - sorted_;
    const std::span<const std::byte> bytes(buffer_.get() + sorted_, there);
    if (raw_) {
      add_piece(there, claim(passed_ + end_));
    } else if (left_ != 0) {
      const std::size_t size = std::min<std::uint64_t>(left_, there);
      observer_.body(id_, bytes.first(size));
      left_ -= size;
      if (left_ == 0) observer_.ended(id_, true);
      add_piece(size, claim(passed_ + sorted_ + size));
    } else if (!sort_message(there)) {
      return;
    }
  }
}

// The beginning of a message; false when more of it must come first.
bool ForwardingLane::sort_message(std::size_t there) {
  Header header;
  if (there < sizeof header) return false;
  std::memcpy(&header, buffer_.get() + sorted_, sizeof header);
  if (header.size < sizeof header) {
    observer_.closed(id_, fmt::format("a message of {} bytes: what follows is passed unread", header.size));
    raw_ = true;
    return true;
  }
  // A reply that is short enough is passed whole; so would its header be, if its sender had written it by itself.
  const bool to_come_whole = id_.direction == Direction::ToClient && header.size <= kWhole;
  if (to_come_whole && there < header.size && !ended_) return false;
  const std::size_t size = std::min<std::size_t>(header.size, there);
  const std::span<const std::byte> body(buffer_.get() + sorted_ + sizeof header, size - sizeof header);
  std::vector<Fd> fds = claim(passed_ + sorted_ + size);
  observer_.began(id_, header, fds);
  observer_.body(id_, body);
  left_ = header.size - size;
  if (left_ == 0) observer_.ended(id_, true);
  gate_.pass(id_, header, body, fds);
  add_piece(size, std::move(fds));
  return true;
}

std::vector<Fd> ForwardingLane::claim(std::uint64_t before) {
  std::vector<Fd> fds;
  while (!arrived_.empty() && arrived_.front().end <= before) {
    std::ranges::move(arrived_.front().fds, std::back_inserter(fds));
    arrived_.pop_front();
  }
  return fds;
}

void ForwardingLane::add_piece(std::size_t size, std::vector<Fd> fds) {
  sorted_ += size;
  if (!pieces_.empty() && fds.empty()) {
    Piece& last = pieces_.back();
    if (!last.begun && last.fds.empty() && last.size + size <= kTogether) {
      last.size += size;
      return;
    }
  }
  // More than one message can carry: what the kernel would not have let through at once either.
  fds.resize(std::min(fds.size(), kMaxDescriptors));
  held_ += fds.size();
  pieces_.push_back({.size = size, .fds = std::move(fds)});
}

bool ForwardingLane::write() {
  bool moved = false;
  while (!pieces_.empty()) {
    Piece& piece = pieces_.front();
    std::vector<int> fds;
    for (const Fd& fd : piece.fds) fds.push_back(fd.get());
    std::array<iovec, 1> from{{{buffer_.get() + begin_, piece.size}}};
    const Result<std::size_t> sent = send(to_, from, fds);
    if (!sent && sent.error().code == EAGAIN) break;
    if (!sent) {
      give_up(sent.error().code == EPIPE || sent.error().code == ECONNRESET ? "the other end takes nothing more"
                                                                            : strerrordesc_np(sent.error().code));
      return true;
    }
    moved = true;
    piece.begun = true;
    held_ -= piece.fds.size();
    piece.fds.clear();
    begin_ += *sent;
    piece.size -= *sent;
    if (piece.size == 0) pieces_.pop_front();
  }
  if (begin_ == end_) {
    passed_ += begin_;
    begin_ = sorted_ = end_ = 0;
  }
  return moved;
}

void ForwardingLane::end_stream(const std::string& why) {
  pollfd state{.fd = from_, .events = 0, .revents = 0};
  ::poll(&state, 1, 0);
  hung_up_ = (state.revents & (POLLHUP | POLLERR)) != 0;
  ended_ = true;
  sort();
  if (sorted_ < end_) add_piece(end_ - sorted_, claim(passed_ + end_));  // part of a header
  if (left_ != 0) observer_.ended(id_, false);
  observer_.closed(id_, why);
}

void ForwardingLane::give_up(const std::string& why) {
  if (finished_) return;
  if (!ended_) {
    ended_ = true;
    if (left_ != 0) observer_.ended(id_, false);
    observer_.closed(id_, why);
  }
  pieces_.clear();
  arrived_.clear();
  held_ = 0;
  begin_ = sorted_ = end_;
  finish();
}

void ForwardingLane::finish() {
  finished_ = true;
  // Whoever still sends is told, as it would be by the receiver itself.
  ::shutdown(from_, SHUT_RD);
  ::shutdown(to_, SHUT_WR);
}

}  // namespace gangway::vfio_user
