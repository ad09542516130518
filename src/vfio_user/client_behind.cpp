// Migration data written behind: the answer to a write is awaited when as many as may be are under way, so that the
// server takes one piece in while the caller brings the next.
#include <algorithm>

#include "vfio_user/client_data.h"

namespace gangway::vfio_user {

Result<void> Client::write_behind(std::span<const std::byte> in) {
  const std::scoped_lock lock(behind_mutex_);
  if (!behind_) {
    Result<DataPath> path = take_path();
    if (!path) return std::unexpected(path.error());
    behind_ = std::make_unique<WriteBehind>(*std::move(path));
    writes_behind_ = true;
  }
  WriteBehind& behind = *behind_;
  while (!in.empty()) {
    if (behind.chunks.size() == behind.path.in_flight) {
      const Result<Channel::Reply> reply = channel_.finish(behind.chunks.front().call);
      behind.chunks.pop_front();
      if (!reply) {
        (void)finish_writing();
        return std::unexpected(in_words("write migration data", reply.error()));
      }
    }
    const std::span<const std::byte> piece = in.first(std::min(in.size(), behind.path.piece));
    in = in.subspan(piece.size());
    OutgoingChunk& chunk = behind.chunks.emplace_back(channel_);
    if (Result<void> sent = send_piece(behind.path, behind.number++, piece, chunk); !sent) {
      (void)finish_writing();
      return std::unexpected(in_words("write migration data", sent.error()));
    }
  }
  return {};
}

Result<void> Client::settle() {
  if (!writes_behind_) return {};
  const std::scoped_lock lock(behind_mutex_);
  if (!behind_) return {};
  return finish_writing();
}

// The first failure.
Result<void> Client::finish_writing() {
  Result<void> settled;
  for (OutgoingChunk& chunk : behind_->chunks) {
    const Result<Channel::Reply> reply = channel_.finish(chunk.call);
    if (!reply && settled) settled = std::unexpected(in_words("write migration data", reply.error()));
  }
  give_back(behind_->path);
  behind_.reset();
  writes_behind_ = false;
  return settled;
}

}  // namespace gangway::vfio_user
