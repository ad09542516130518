// Migration data read ahead of the caller: requests stay under way between its calls, so that the server makes the next
// piece ready, and the kernel carries it, while the caller does something with the last one.
#include <algorithm>
#include <cstring>

#include "base/log.h"
#include "vfio_user/client_data.h"

namespace gangway::vfio_user {
namespace {

// In messages no more replies than the socket holds are left unread when a call returns: a server that cannot send for
// long would take its client for dead, and the caller may take its time.
constexpr std::size_t kUnreadReplies = 128U << 10;

}  // namespace

Result<StreamRead> Client::read_ahead(std::span<std::byte> out) {
  if (out.empty()) return read_data(out);
  const std::scoped_lock lock(ahead_mutex_);
  if (!ahead_) {
    Result<DataPath> path = take_path();
    if (!path) return std::unexpected(path.error());
    ahead_ = std::make_unique<ReadAhead>(*std::move(path));
    if (ahead_->path.shared == nullptr) {
      ahead_->path.piece = std::min(ahead_->path.piece, kUnreadReplies);
      (void)ahead_->room.resize(ahead_->path.piece * ahead_->path.in_flight);
    }
    reads_ahead_ = true;
  }
  ahead_->paused = false;
  return take_ahead(out);
}

// What is there, then the rest without going further.
Result<StreamRead> Client::read_what_is_ahead(std::span<std::byte> out) {
  std::size_t have = 0;
  {
    const std::scoped_lock lock(ahead_mutex_);
    if (ahead_) {
      ahead_->paused = true;
      const Result<StreamRead> read = take_ahead(out);
      if (!read || read->size == out.size() || read->end != StreamEnd::More) return read;
      have = read->size;
    }
  }
  Result<StreamRead> rest = read_data(out.subspan(have));
  if (rest) rest->size += have;
  return rest;
}

// Fills `out`, unless an end or a failure comes first or nothing more is asked for.
Result<StreamRead> Client::take_ahead(std::span<std::byte> out) {
  ReadAhead& ahead = *ahead_;
  std::size_t have = 0;
  for (;;) {
    if (const Result<void> asked = ask_ahead(out.size(), out.size() - have); !asked) {
      forget_ahead();
      return std::unexpected(in_words("read migration data", asked.error()));
    }
    if (have == out.size()) return StreamRead{have, StreamEnd::More};
    if (ahead.pieces.empty()) break;
    ReadAhead::Piece& piece = ahead.pieces.front();
    if (!piece.came) {
      finish_piece(0);
      if (ahead.failure) break;
    }
    const std::size_t count = std::min(piece.size - piece.taken, out.size() - have);
    if (count != 0) std::memcpy(out.data() + have, piece.chunk.room.data() + piece.taken, count);
    piece.taken += count;
    have += count;
    if (piece.taken == piece.size) ahead.pieces.pop_front();
  }
  const std::optional<Error> failure = ahead.failure;
  const bool ended = ahead.ended;
  const std::optional<StreamEnd> told = ahead.told;
  forget_ahead();
  if (failure) return std::unexpected(in_words("read migration data", *failure));
  if (!ended) return StreamRead{have, StreamEnd::More};
  const Result<StreamEnd> end = told ? *told : which_end();
  if (!end) return std::unexpected(end.error());
  return StreamRead{have, *end};
}

// Asks for pieces of the `size` of a call, as many as may be under way while the call still takes `left` bytes.
Result<void> Client::ask_ahead(std::size_t size, std::size_t left) {
  ReadAhead& ahead = *ahead_;
  const DataPath& path = ahead.path;
  size = std::min(size, path.piece);
  while (!ahead.paused && !ahead.ended && ahead.pieces.size() < path.in_flight) {
    if (path.shared == nullptr && ahead.to_come + size > left + kUnreadReplies) return {};
    const std::size_t at = path.offset(ahead.number);
    ReadAhead::Piece& piece = path.shared == nullptr
                                  ? ahead.pieces.emplace_back(channel_, ahead.room.bytes().subspan(at, size))
                                  : ahead.pieces.emplace_back(channel_, path.slot(ahead.number, size), at);
    const std::array body{piece.chunk.request()};
    if (Result<void> sent = channel_.start(piece.chunk.call, piece.chunk.command, {body, {}}); !sent) return sent;
    ++ahead.number;
    ahead.to_come += size;
  }
  return {};
}

// Waits for a piece and says what it told. What comes behind a failure is none of the stream any more.
void Client::finish_piece(std::size_t index) {
  ReadAhead& ahead = *ahead_;
  ReadAhead::Piece& piece = ahead.pieces[index];
  ahead.to_come -= piece.chunk.room.size();
  piece.came = true;
  const Result<std::size_t> got = finish_read(piece.chunk);
  if (got) piece.size = *got;
  if (!got || *got < piece.chunk.room.size()) ahead.ended = true;
  if (server_.enomsg && got && *got == 0) ahead.told = StreamEnd::Final;
  if (got) return;
  if (got.error().code == ENOMSG) {
    ahead.told = StreamEnd::Temporary;
    return;
  }
  ahead.failure = got.error();
  for (std::size_t i = index + 1; i < ahead.pieces.size(); ++i) (void)finish_read(ahead.pieces[i].chunk);
  while (ahead.pieces.size() > index) ahead.pieces.pop_back();
}

// All that is under way has come.
void Client::finish_pieces() {
  for (std::size_t i = 0; i < ahead_->pieces.size(); ++i) {
    if (!ahead_->pieces[i].came) finish_piece(i);
  }
}

void Client::forget_ahead() {
  for (ReadAhead::Piece& piece : ahead_->pieces) {
    if (!piece.came) (void)channel_.finish(piece.chunk.call);
  }
  give_back(ahead_->path);
  ahead_.reset();
  reads_ahead_ = false;
}

Result<void> Client::before_state_change() {
  if (Result<void> settled = settle(); !settled) return settled;
  if (!reads_ahead_) return {};
  const std::scoped_lock lock(ahead_mutex_);
  if (ahead_) finish_pieces();
  return {};
}

// The session that the data belongs to may have ended, whether the change was made or failed half-way. If it goes on,
// an end that was met ahead was that of the state before.
void Client::after_state_change() {
  if (!reads_ahead_) return;
  const Result<DeviceState> now = state();
  const std::scoped_lock lock(ahead_mutex_);
  if (!ahead_) return;
  if (!now || !contract::in_saving_group(*now)) return forget_ahead();
  if (ahead_->failure) return;
  ahead_->ended = false;
  ahead_->told.reset();
}

// --- the shared memory, for longer than a call ---

Result<Client::DataPath> Client::take_path() {
  Result<DataPath> path = choose_path(kWorthSharing);
  if (!path || path->shared == nullptr) return path;
  shared_data_taken_ = true;
  path->lock.unlock();
  return path;
}

void Client::give_back(const DataPath& path) {
  if (path.shared == nullptr) return;
  const std::scoped_lock lock(data_mutex_);
  shared_data_taken_ = false;
}

}  // namespace gangway::vfio_user
