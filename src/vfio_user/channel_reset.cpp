// Calls that are not waited for as long as others, because who answers them may itself wait for us.
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>

#include "vfio_user/channel.h"

namespace gangway::vfio_user {
namespace {

// What a peer may leave unanswered of them.
constexpr std::size_t kMaxAbandoned = 1024;

}  // namespace

void Channel::limit_calls(std::chrono::milliseconds grace) {
  const std::scoped_lock lock(mutex_);
  limit_ = Clock::now() + grace;
  for (Call* call : calls_) call->wake_.notify_one();
  const std::uint64_t one = 1;
  (void)!::write(wake_.get(), &one, sizeof one);
}

void Channel::unlimit_calls() {
  const std::scoped_lock lock(mutex_);
  limit_.reset();
  eventfd_t count = 0;  // for whom nobody woke; a later wait is not to end for it
  (void)::eventfd_read(wake_.get(), &count);
}

// A reply that has begun goes where its owner wanted it, so the owner waits for the rest of it.
bool Channel::abandons(const Call& call) const { return limit_ && target_ != &call && Clock::now() >= *limit_; }

void Channel::abandon(Call& call) {
  abandoned_.push_back({call.id_, call.command_, call.room_.size()});
  call.abandoned_ = call.done_ = true;
  forget(call);
  if (abandoned_.size() > kMaxAbandoned) {
    break_with(Error{EPROTO, "the peer answers none of the commands that were abandoned", {}});
  }
}

std::optional<MessageReader::Body> Channel::room_for_abandoned(const Header& header) {
  const std::size_t size = header.size - sizeof(Header);
  const auto found = std::ranges::find_if(abandoned_, [&](const Abandoned& call) {
    return call.id == header.id && static_cast<std::uint16_t>(call.command) == header.command && size <= call.room;
  });
  if (found == abandoned_.end()) return std::nullopt;
  abandoned_.erase(found);
  dropping_ = true;
  return MessageReader::Body{dropped_.resize(size), {}};
}

}  // namespace gangway::vfio_user
