// One socket of a connection: commands come and go in both directions at once.
//
// A thread that waits for a reply and finds nobody reading reads itself; what is not for it goes to whom it is for, and
// commands wait in a queue for the thread that handles them. So a device's DMA_READ is answered while the connection's
// own thread is inside a call of that device, and a message handled by whoever waited for it costs one receive and no
// change of threads. A thread that cannot send because the socket is full reads meanwhile, so that two peers which both
// have much to say do not wait for each other for ever.
//
// What breaks the connection breaks it for everybody: every wait ends with the first reason.
//
// Thread-safety: call from any thread; next() from one.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include <gangway/error.h>
#include <gangway/fd.h>

#include "base/spin_budget.h"
#include "vfio_user/buffer.h"
#include "vfio_user/message_reader.h"
#include "vfio_user/protocol.h"

namespace gangway::vfio_user {

// A command as it came.
struct Message {
  Header header;
  Buffer body;
  std::span<std::byte> placed;  // the rest of the body, where a Placer wanted it
  std::vector<Fd> fds;

  [[nodiscard]] vfio_user::Command command() const { return static_cast<vfio_user::Command>(header.command); }
  [[nodiscard]] bool wants_reply() const { return (header.flags & kNoReply) == 0; }
};

// Says where the last bytes of a command's body are received to, so that they need not be copied there.
class Placer {
 public:
  virtual ~Placer() = default;
  // Empty: all of it goes into the message. What comes may be incomplete, or not what it should be.
  virtual std::span<std::byte> place(const Header& header) = 0;
  // The next `size` bytes of that memory have come, a moment ago: whoever wants to look at them finds them in the
  // cache.
  virtual void arrived(std::size_t size) = 0;
};

// What is sent: pieces of a body in order, and descriptors that stay the sender's.
struct Outgoing {
  std::span<const std::span<const std::byte>> body;
  std::span<const int> fds;
};

class Channel;

// A command of ours that waits for its reply. Where the reply's body goes is said beforehand: into `head`, the rest
// into `data`; a longer one breaks the connection.
class Call {
 public:
  Call(Channel& channel, std::span<std::byte> head, std::span<std::byte> data = {})
      : channel_(channel), room_{head, data} {}
  ~Call();  // a reply that nobody waits for any more breaks the connection
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

 private:
  friend class Channel;
  Channel& channel_;
  const MessageReader::Body room_;
  std::uint16_t id_ = 0;
  Command command_{};
  std::chrono::steady_clock::time_point deadline_;
  bool in_flight_ = false;
  bool done_ = false;
  bool abandoned_ = false;  // nobody waits for its reply any more
  bool waiting_ = false;
  Header reply_;
  std::vector<Fd> fds_;
  std::condition_variable wake_;
};

class Channel {
 public:
  struct Options {
    std::chrono::microseconds spin{50};
    std::chrono::milliseconds timeout{5000};  // for a reply, and for a peer that does not read
    std::size_t max_command_body = kDefaultMaxDataXferSize + kMessageOverhead;
    bool commands = true;  // the peer may send some
    // Replies are mostly what is read here, so the socket itself is told how long one may take. A side that mostly
    // reads commands, which may take for ever, spares the kernel a timer for each.
    bool calls = true;
    // next() leaves reading to those who wait for replies until none was waited for this long. For the side that
    // mostly sends commands: its calls then read their replies themselves.
    std::chrono::microseconds quiet{0};
    bool limits = false;  // limit_calls() may be called
  };

  // What a command of ours was answered with.
  struct Reply {
    std::size_t size = 0;  // bytes of body
    std::vector<Fd> fds;
  };

  Channel(Fd socket, Options options);
  ~Channel();
  Channel(const Channel&) = delete;
  Channel& operator=(const Channel&) = delete;

  // The next command of the peer. Memory of `message` is reused. Fails once the connection is broken, with the reason.
  // The placer is asked only about the very next command.
  Result<void> next(Message& message, Placer* placer = nullptr);

  // Nothing is sent for a command that wants no reply (WIR-NOREPLY).
  Result<void> reply(const Message& command, Outgoing outgoing);
  Result<void> refuse(const Message& command, int error_number);

  // A command of ours. `start` sends it, `finish` waits for its reply; several may be under way. An error reply is an
  // Error with the peer's errno; it leaves the connection whole. Every other error has broken it.
  Result<void> start(Call& call, Command command, Outgoing outgoing);
  Result<Reply> finish(Call& call);
  Result<Reply> call(Command command, Outgoing outgoing, std::span<std::byte> head, std::span<std::byte> data = {});

  // From now until unlimit_calls(), a call that the peer has not begun to answer when the grace is over fails with
  // ECANCELED, whether it was under way or is made meanwhile. The peer may still carry out what it was asked; its reply
  // is dropped when it comes. Only with Options::limits.
  void limit_calls(std::chrono::milliseconds grace);
  void unlimit_calls();

  // Ends the connection for everybody who waits; the first reason stays. The peer sees the end of the stream.
  void close(Error reason);
  [[nodiscard]] std::optional<Error> broken() const;

  // From now on a command of the peer breaks the connection.
  void refuse_commands() { commands_ = false; }

 private:
  using Clock = std::chrono::steady_clock;
  using Deadline = std::optional<Clock::time_point>;
  struct CommandCame {};
  struct NothingCame {};  // the time was up, or limit_calls() ended the wait: look again at what is left of it
  struct Abandoned {      // a call whose reply is still to come
    std::uint16_t id;
    Command command;
    std::size_t room;
  };
  using Event = std::variant<CommandCame, NothingCame, Call*>;
  enum class Arrival : bool { Nothing, Bytes };

  // For the thread that reads:
  Result<Event> read_message(Deadline deadline, Placer* placer = nullptr);
  Result<Arrival> wait_for_bytes(Deadline deadline);
  [[nodiscard]] bool wait_readable(Clock::time_point deadline) const;
  Result<void> place_body(Placer* placer);
  void tell_what_arrived(Placer& placer);
  Result<MessageReader::Body> room_for(const Header& header, Placer* placer);
  Result<MessageReader::Body> room_for_command(const Header& header, Placer* placer);
  Result<MessageReader::Body> room_for_reply(const Header& header);
  std::optional<MessageReader::Body> room_for_abandoned(const Header& header);
  Result<void> read_what_is_there();

  // With mutex_ held:
  [[nodiscard]] bool may_read_in_next();
  void deliver(Event event);
  void break_with(Error reason);
  void give_up_reading();
  [[nodiscard]] bool descriptors_may_come() const;
  [[nodiscard]] bool abandons(const Call& call) const;
  void abandon(Call& call);
  void enqueue();
  void forget(const Call& call);
  std::uint16_t new_id();

  Result<void> transmit(const Header& header, Outgoing outgoing);
  Result<std::size_t> send_some(std::span<iovec> from, std::span<const int> fds);
  Result<void> wait_for_room();

  const Fd socket_;
  const Options options_;
  const bool socket_times_out_;
  const Fd wake_;  // an eventfd that ends the wait of who reads; with Options::limits

  std::mutex send_mutex_;
  std::vector<iovec> send_vector_;
  SpinBudget room_spin_;  // for room in the socket

  mutable std::mutex mutex_;
  std::optional<Error> broken_;
  bool reading_ = false;                          // somebody reads; what follows until queue_ is theirs
  Descriptors descriptors_ = Descriptors::Taken;  // changed with mutex_ held
  MessageReader reader_;
  SpinBudget spin_;
  Message incoming_;
  std::size_t placed_left_ = 0;  // of incoming_.placed: what the placer was not yet told of
  Call* target_ = nullptr;       // whose reply is being read; changed with mutex_ held
  bool dropping_ = false;        // the reply being read is an abandoned call's
  Buffer dropped_;

  std::deque<Message> queue_;
  std::size_t queued_bytes_ = 0;
  std::size_t queued_fds_ = 0;
  std::atomic<bool> commands_;
  bool command_thread_waits_ = false;
  std::condition_variable command_came_;
  std::vector<Call*> calls_;
  std::condition_variable descriptors_taken_;
  Deadline limit_;  // of limit_calls()
  std::vector<Abandoned> abandoned_;
  std::uint16_t last_id_ = 0;
  std::uint64_t calls_started_ = 0;
  std::uint64_t calls_seen_ = 0;  // by next()
};

}  // namespace gangway::vfio_user
