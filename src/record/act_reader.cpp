#include "record/act_reader.h"

#include <algorithm>
#include <utility>

namespace gangway::record {
namespace {

constexpr std::size_t kMostPending = 65'536;
constexpr std::size_t kMostNotes = 100;

// What a reply has in common with its request.
std::uint64_t key_of(const MessageRecord& message, MessageRecord::Direction asked) {
  return std::uint64_t{message.header.id} | std::uint64_t{message.header.command} << 16 |
         static_cast<std::uint64_t>(asked) << 32 | static_cast<std::uint64_t>(message.path) << 33;
}

bool is_reply(const MessageRecord& message) {
  return (message.header.flags & vfio_user::kTypeMask) == vfio_user::kTypeReply;
}

}  // namespace

Result<ActReader> ActReader::open(const std::filesystem::path& path) {
  Result<TraceReader> reader = TraceReader::open(path);
  if (!reader) return std::unexpected(reader.error());
  return ActReader(*std::move(reader));
}

// What does not decode ends this; it is told when reading comes to it.
void ActReader::learn() {
  learnt_ = true;
  if (reader_.meta().subject != Subject::Kernel) return;
  for (;;) {
    const Result<std::optional<Record>> record = reader_.next();
    if (!record || !*record) break;
    if (const auto* call = std::get_if<CallRecord>(&**record)) calls_.learn(*call);
  }
  reader_.rewind();
}

Result<std::optional<Act>> ActReader::next() {
  if (!learnt_) learn();
  for (;;) {
    if (!pending_.empty() && (pending_.front().done || ended_)) {
      Act act = std::move(pending_.front().act);
      pending_.pop_front();
      return act;
    }
    if (ended_) return std::nullopt;
    Result<std::optional<Record>> record = reader_.next();
    if (!record) return std::unexpected(record.error());
    if (*record) {
      take(**std::move(record));
    } else {
      ended_ = true;
    }
  }
}

Result<std::vector<Act>> ActReader::rest() {
  std::vector<Act> acts;
  for (;;) {
    Result<std::optional<Act>> act = next();
    if (!act) return std::unexpected(act.error());
    if (!*act) return acts;
    acts.push_back(**std::move(act));
  }
}

void ActReader::take(Record record) {
  if (auto* message = std::get_if<MessageRecord>(&record)) return take(std::move(*message));
  if (auto* connection = std::get_if<ConnectionRecord>(&record)) return take(std::move(*connection));
  if (auto* call = std::get_if<CallRecord>(&record)) return take(*call);
  if (auto* note = std::get_if<NoteRecord>(&record); note != nullptr && notes_.size() < kMostNotes) {
    notes_.push_back(std::move(note->text));
  }
}

void ActReader::take(MessageRecord message) {
  using Direction = MessageRecord::Direction;
  if (!is_reply(message)) {
    // A recording of requests that nobody answers is no reason to keep them all.
    if (pending_.size() > kMostPending) pending_.front().done = true;
    const bool wants_reply = (message.header.flags & vfio_user::kNoReply) == 0;
    Pending& pending = pending_.emplace_back();
    pending.act = {.doing = meaning_of(message, nullptr),
                   .by_device = message.direction == Direction::ToClient,
                   .time = message.time,
                   .connection = message.connection,
                   .wants_reply = wants_reply};
    pending.done = !wants_reply || message.cut;
    pending.key = key_of(message, message.direction);
    pending.request = std::move(message);
    return;
  }
  const Direction asked = message.direction == Direction::ToClient ? Direction::ToServer : Direction::ToClient;
  const auto found = std::ranges::find_if(pending_, [&](const Pending& one) {
    return !one.done && one.act.connection == message.connection && one.key == key_of(message, asked);
  });
  if (found == pending_.end()) {
    ++strays_;
    return;
  }
  found->act.doing = meaning_of(found->request, &message);
  found->act.took = message.time - found->act.time;
  found->act.answered = !message.cut;
  if ((message.header.flags & vfio_user::kError) != 0) {
    const std::uint32_t error = message.header.error;
    found->act.error = error > 0 && error < 4096 ? static_cast<int>(error) : EIO;
  }
  found->done = true;
  found->request = {};
}

void ActReader::take(ConnectionRecord connection) {
  using Event = ConnectionRecord::Event;
  const bool opened = connection.event == Event::Opened;
  const bool closed = connection.event == Event::Closed || connection.event == Event::Failed;
  if (closed) give_up(connection.connection);
  if (!opened && !closed) return;
  Pending& pending = pending_.emplace_back();
  pending.act.time = connection.time;
  pending.act.connection = connection.connection;
  pending.act.answered = true;
  if (opened) {
    pending.act.doing = Open{std::move(connection.text)};
  } else {
    pending.act.doing = Close{std::move(connection.text)};
  }
  pending.done = true;
}

void ActReader::take(const CallRecord& call) {
  std::optional<Act> act = calls_.act_of(call);
  if (act) pending_.push_back({.act = *std::move(act), .done = true});
}

void ActReader::give_up(std::uint32_t connection) {
  for (Pending& pending : pending_) pending.done |= pending.act.connection == connection;
}

}  // namespace gangway::record
